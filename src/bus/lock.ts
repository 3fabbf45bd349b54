/**
 * A mutex in shared memory, for state that several threads serve: one 32-bit word, three values. An uncontended
 * acquire and release are one atomic operation each.
 */
const free = 0;
const held = 1;
const contended = 2;
const spins = 100;
/**
 * A holder keeps a lock for microseconds; one that keeps it this long is dead. The time is waited in rounds: a process
 * that was stopped for longer, holder and all, finds only one of them used up when it goes on.
 */
const deadHolderMs = 10_000;
const rounds = 10;

export class Lock {
  constructor(
    readonly words: Int32Array<SharedArrayBuffer>,
    readonly index: number,
    readonly patienceMs = deadHolderMs,
  ) {}

  acquire(): void {
    if (Atomics.compareExchange(this.words, this.index, free, held) !== free) this.#wait();
  }

  release(): void {
    if (Atomics.exchange(this.words, this.index, free) === contended) {
      Atomics.notify(this.words, this.index, 1);
    }
  }

  /** Throws when the lock does not come free; the lock then stays as it is. */
  #wait(): void {
    for (let i = 0; i < spins; i++) {
      if (Atomics.compareExchange(this.words, this.index, free, held) === free) return;
    }
    let timeouts = 0;
    while (Atomics.exchange(this.words, this.index, contended) !== free) {
      const round = this.patienceMs / rounds;
      if (Atomics.wait(this.words, this.index, contended, round) !== "timed-out") timeouts = 0;
      else if (++timeouts === rounds) {
        throw new Error(
          `a device lock has been held for ${this.patienceMs} ms: its thread is gone`,
        );
      }
    }
  }
}

/** For state that a single thread owns, and for unit tests. */
export const noLock = { acquire(): void {}, release(): void {} };

/** Runs a device's function under its lock. */
export function locked(lock: Lock, run: () => void): void {
  lock.acquire();
  try {
    run();
  } finally {
    lock.release();
  }
}
