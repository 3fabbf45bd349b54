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

/** `name` is that of its C file; `more` are further files. */
export const loadProgram = (name: string, more: readonly string[] = []) =>
  buildHostProgram(
    name,
    ...[`${name}.c`, "front-end.c", "front-end.h", ...more].map((file) => `test/bench/${file}`),
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

/** A backend's process, whose first thread is pinned, and with it the rest. */
export class Backend implements AsyncDisposable {
  readonly #process: Bun.Subprocess;

  /** `under` are the words of a command that runs it and its load. */
  constructor(
    readonly command: readonly string[],
    readonly socket: string,
    readonly under: readonly string[] = [],
  ) {
    rmSync(socket, { force: true });
    // it ends with the bench, however that ends
    const mortal = ["setpriv", "--pdeathsig", "KILL"];
    this.#process = Bun.spawn([...under, ...mortal, ...pinned(0), ...command], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  }

  /** Runs a load on it; the generator waits for the socket. */
  async load(program: string, words: string): Promise<Load> {
    const where = [`socket=${this.socket}`, `pid=${this.#process.pid}`];
    return runLoad([...this.under, ...pinned(1), program, ...where, ...words.split(" ")]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGTERM");
    await this.#process.exited;
  }
}

export async function runLoad(command: readonly string[]): Promise<Load> {
  const load = Bun.spawn([...command], { stdout: "pipe", stderr: "inherit" });
  const text = await new Response(load.stdout).text();
  if ((await load.exited) !== 0) throw new Error(`failed: ${command.join(" ")}`);
  return JSON.parse(text) as Load;
}
