/** A child process whose output a test follows while it runs. */
import { readdirSync, readFileSync } from "node:fs";

/**
 * The names of a process's threads. The runtime's own come and go, also while they are counted, and some have the name
 * of the thread that started them.
 */
export function threadNames(pid: number): string[] {
  const folder = `/proc/${pid}/task`;
  return readdirSync(folder).flatMap((thread) => {
    try {
      return [readFileSync(`${folder}/${thread}/comm`, "utf8").trim()];
    } catch {
      return []; // it has ended
    }
  });
}

/** Those of them that match, each once, in order. */
export function namesOf(pid: number, pattern: RegExp): string[] {
  return [...new Set(threadNames(pid))].filter((name) => pattern.test(name)).toSorted();
}

/** How a guest's run ended. `stdout` is what the guest said on its console. */
export interface Ended {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class Follower {
  #stdout = "";
  #stderr = "";
  #ended = false;
  #waiters: (() => void)[] = [];
  readonly #child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  readonly #done: Promise<Ended>;

  /** Kills the process after `timeoutMs`; its exit code is 137 then. */
  constructor(
    readonly command: readonly string[],
    timeoutMs: number,
    environment: Record<string, string> = {},
  ) {
    this.#child = Bun.spawn([...command], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      env: { ...process.env, ...environment },
    });
    const killer = setTimeout(() => this.#child.kill("SIGKILL"), timeoutMs);
    this.#done = Promise.all([
      this.#follow(this.#child.stdout, (text) => {
        this.#stdout += text;
      }),
      this.#follow(this.#child.stderr, (text) => {
        this.#stderr += text;
      }),
      this.#child.exited,
    ]).then(([, , exitCode]) => {
      clearTimeout(killer);
      this.#ended = true;
      this.#wake();
      return { exitCode, stdout: this.#stdout, stderr: this.#stderr };
    });
  }

  get pid(): number {
    return this.#child.pid;
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Sends bytes to the process's standard input; the guest's serial input. */
  async input(text: string): Promise<void> {
    this.#child.stdin.write(text);
    await this.#child.stdin.flush();
  }

  async endInput(): Promise<void> {
    await this.#child.stdin.end();
  }

  /**
   * Resolves when standard output contains `text`; throws, with all that was said, when the process
   * ends before.
   */
  async until(text: string): Promise<void> {
    while (!this.#stdout.includes(text)) {
      if (this.#ended) {
        throw new Error(`Ended before it said "${text}":\n${this.#stdout}\n${this.#stderr}`);
      }
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  kill(signal: NodeJS.Signals = "SIGKILL"): void {
    this.#child.kill(signal);
  }

  async ended(): Promise<Ended> {
    return this.#done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#ended) this.kill();
    await this.#done;
  }

  async #follow(stream: ReadableStream<Uint8Array>, take: (text: string) => void): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      take(decoder.decode(chunk, { stream: true }));
      this.#wake();
    }
  }

  #wake(): void {
    for (const waiter of this.#waiters.splice(0)) waiter();
  }
}
