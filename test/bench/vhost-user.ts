/** What the benches of backends behind vhost-user sockets have in common: processes, their load, and samples. */
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { buildHostProgram } from "../guests/build.ts";

/** One run of a load generator, as it says. */
export interface Load {
  readonly requests: number;
  readonly seconds: number;
  /** CPU seconds of the backend's process. */
  readonly cpu: number;
  readonly rssBefore: number;
  readonly rssAfter: number;
}

/** The backend on one processor and its load on the other: a scheduler's moves are not what is measured. */
export const pinned = (cpu: 0 | 1): string[] =>
  availableParallelism() > 1 ? ["taskset", "-c", `${cpu}`] : [];

export const loadProgram = (name: string) =>
  buildHostProgram(
    name,
    ...[`${name}.c`, "front-end.c", "front-end.h"].map((file) => `test/bench/${file}`),
  );

export class Scratch implements Disposable {
  /** On a disk: O_DIRECT means nothing on tmpfs. */
  readonly folder = mkdtempSync(join(tmpdir(), "chv-bench-"));

  path(name: string): string {
    return join(this.folder, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A backend's process. */
export class Backend implements AsyncDisposable {
  readonly #process: Bun.Subprocess;

  constructor(
    readonly command: readonly string[],
    readonly socket: string,
  ) {
    rmSync(socket, { force: true });
    this.#process = Bun.spawn([...pinned(0), ...command], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  }

  /** Runs a load on it; the generator waits for the socket. */
  async load(program: string, words: string): Promise<Load> {
    const command = [...pinned(1), program, `socket=${this.socket}`, `pid=${this.#process.pid}`];
    const load = Bun.spawn([...command, ...words.split(" ")], {
      stdout: "pipe",
      stderr: "inherit",
    });
    const text = await new Response(load.stdout).text();
    if ((await load.exited) !== 0)
      throw new Error(`${program} ${words} failed on ${this.command.join(" ")}`);
    return JSON.parse(text) as Load;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGTERM");
    await this.#process.exited;
  }
}
