/**
 * How the main thread and a machine's worker threads speak: for each thread a request word, which the main thread
 * writes before it wakes the thread, and a state word, which the thread writes when it has done as asked.
 */

/** What a thread is asked to do. */
export const Ask = { park: 0, run: 1, leave: 2 } as const;

/** What a thread says it does. `gone` and `failed` are said outside KVM_RUN and epoll_wait, holding nothing. */
export const ThreadState = { starting: 0, parked: 1, running: 2, gone: 3, failed: 4 } as const;

const wordsPerThread = 16; // a cache line each
const [askIndex, stateIndex, tidIndex] = [0, 1, 2];

export class ThreadControl {
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer, thread: number) {
    const bytes = wordsPerThread * 4;
    this.#words = new Int32Array(buffer, thread * bytes, wordsPerThread);
  }

  static bytesFor(threads: number): number {
    return threads * wordsPerThread * 4;
  }

  get asked(): number {
    return Atomics.load(this.#words, askIndex);
  }

  ask(what: number): void {
    Atomics.store(this.#words, askIndex, what);
  }

  /** The thread stops of its own accord, unless it has been asked something in the meantime. */
  askSelfToPark(): void {
    Atomics.compareExchange(this.#words, askIndex, Ask.run, Ask.park);
  }

  get state(): number {
    return Atomics.load(this.#words, stateIndex);
  }

  say(state: number): void {
    Atomics.store(this.#words, stateIndex, state);
    Atomics.notify(this.#words, stateIndex);
  }

  /** The kernel's id of the thread; 0 until it has said it. */
  get threadId(): number {
    return Atomics.load(this.#words, tidIndex);
  }
  set threadId(id: number) {
    Atomics.store(this.#words, tidIndex, id);
  }

  /** Resolves to the state when it is one of `states` (or `failed`); undefined after `timeoutMs`. */
  async reaches(states: readonly number[], timeoutMs: number): Promise<number | undefined> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const state = this.state;
      if (states.includes(state) || state === ThreadState.failed) return state;
      const left = deadline - Date.now();
      if (left <= 0) return undefined;
      await Atomics.waitAsync(this.#words, stateIndex, state, left).value;
    }
  }
}
