/**
 * A mutex in shared memory, for state that several threads serve: one 32-bit word, three values. An uncontended
 * acquire and release are one atomic operation each.
 */
const free = 0;
const held = 1;
const contended = 2;
const spins = 100;
/** A holder keeps a lock for microseconds; one that keeps it this long is dead. */
const deadHolderMs = 10_000;

export class Lock {
  constructor(
    readonly words: Int32Array<SharedArrayBuffer>,
    readonly index: number,
  ) {}

  acquire(): void {
    if (Atomics.compareExchange(this.words, this.index, free, held) !== free) this.#wait();
  }

  release(): void {
    if (Atomics.exchange(this.words, this.index, free) === contended) {
      Atomics.notify(this.words, this.index, 1);
    }
  }

  #wait(): void {
    for (let i = 0; i < spins; i++) {
      if (Atomics.compareExchange(this.words, this.index, free, held) === free) return;
    }
    while (Atomics.exchange(this.words, this.index, contended) !== free) {
      if (Atomics.wait(this.words, this.index, contended, deadHolderMs) === "timed-out") {
        throw new Error(`a device lock has been held for ${deadHolderMs} ms: its thread is gone`);
      }
    }
  }
}

/** For state that a single thread owns, and for unit tests. */
export const noLock = { acquire(): void {}, release(): void {} };
