/** One of the two descriptors that commands put out on: how many bytes each has put out tells whose they are. */
import type { Readable } from "node:stream";
import type { Sink } from "./run-options.ts";

export class Output {
  /** Bytes since the start. */
  received = 0;
  #sink: Sink = () => {};
  /** The sink is at work. */
  #busy: Promise<unknown> = Promise.resolve();
  #error: unknown;
  readonly #waiters = new Set<() => void>();

  constructor(readonly stream: Readable) {
    stream.on("data", (bytes: Uint8Array) => this.#take(bytes));
    stream.on("error", () => {});
  }

  /** Who gets what comes from now on; what it returns is waited for before more is read. */
  handTo(sink: Sink): void {
    this.#error = undefined;
    this.#sink = sink;
  }

  /** Nobody gets it: it was of a command that nobody waits for. */
  drop(): void {
    this.handTo(() => {});
  }

  #take(bytes: Uint8Array): void {
    this.received += bytes.length;
    try {
      const done = this.#sink(bytes);
      if (done instanceof Promise) this.#wait(done);
    } catch (error) {
      this.#fail(error);
    }
    for (const waiter of [...this.#waiters]) waiter();
  }

  #wait(done: Promise<unknown>): void {
    this.stream.pause();
    this.#busy = done
      .catch((error: unknown) => this.#fail(error))
      .then(() => void this.stream.resume());
  }

  /** The rest is read all the same: it stands before the next command's. */
  #fail(error: unknown): void {
    this.drop();
    this.#error = error;
  }

  /** Resolves when `isEnough` says so, asked after each piece, and the sink has done its work; throws what it threw. */
  async until(isEnough: () => boolean): Promise<void> {
    while (!isEnough()) {
      await new Promise<void>((resolve) => {
        const waiter = () => {
          this.#waiters.delete(waiter);
          resolve();
        };
        this.#waiters.add(waiter);
      });
    }
    await this.#busy;
    if (this.#error !== undefined) throw this.#error;
  }
}
