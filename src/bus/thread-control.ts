/**
 * How the main thread and a machine's worker threads speak: for each thread a request word, which the main thread
 * writes before it wakes the thread, and a state word, which the thread writes when it has done as asked. Requests are
 * numbered, and a state bears the number of the request that it answers: "parked" said before the thread was let run
 * is no answer to being asked to park again.
 */

/** What a thread is asked to do; to load is the first vCPU's alone, which parks when it has. */
export const Ask = { park: 0, run: 1, leave: 2, load: 3 } as const;

/** What a thread says it does. `gone` and `failed` are said outside KVM_RUN and epoll_wait, holding nothing. */
export const ThreadState = { starting: 0, parked: 1, running: 2, gone: 3, failed: 4 } as const;

const wordsPerThread = 16; // a cache line each
const [askIndex, stateIndex, tidIndex] = [0, 1, 2];
/** Both words: the value in the low bits, the request's number above them. */
const valueBits = 3;
const valueMask = (1 << valueBits) - 1;

export class ThreadControl {
  readonly #words: Int32Array<SharedArrayBuffer>;
  /** The number of the request that the thread has last read. */
  #heard = 0;

  constructor(buffer: SharedArrayBuffer, thread: number) {
    const bytes = wordsPerThread * 4;
    this.#words = new Int32Array(buffer, thread * bytes, wordsPerThread);
  }

  static bytesFor(threads: number): number {
    return threads * wordsPerThread * 4;
  }

  /** For the thread itself: what it is asked. What it says from now on answers this request. */
  get asked(): number {
    const word = Atomics.load(this.#words, askIndex);
    this.#heard = word >>> valueBits;
    return word & valueMask;
  }

  ask(what: number): void {
    const number = (Atomics.load(this.#words, askIndex) >>> valueBits) + 1;
    Atomics.store(this.#words, askIndex, (number << valueBits) | what);
  }

  /** The thread is done with what it was asked and stops, unless it has been asked something in the meantime. */
  askSelfToPark(done: number = Ask.run): void {
    const word = this.#heard << valueBits;
    Atomics.compareExchange(this.#words, askIndex, word | done, word | Ask.park);
  }

  get state(): number {
    return Atomics.load(this.#words, stateIndex) & valueMask;
  }

  /** Waits on the calling thread, which is not main, until the thread has said something. */
  awaitStart(): void {
    for (;;) {
      const word = Atomics.load(this.#words, stateIndex);
      if ((word & valueMask) !== ThreadState.starting) return;
      Atomics.wait(this.#words, stateIndex, word);
    }
  }

  /** Last words take the thread's id back: the kernel may give it to a thread that no kick is meant for. */
  say(state: number): void {
    if (state === ThreadState.gone || state === ThreadState.failed) this.threadId = 0;
    Atomics.store(this.#words, stateIndex, (this.#heard << valueBits) | state);
    Atomics.notify(this.#words, stateIndex);
  }

  /** The kernel's id of the thread; 0 until it has said it. */
  get threadId(): number {
    return Atomics.load(this.#words, tidIndex);
  }
  set threadId(id: number) {
    Atomics.store(this.#words, tidIndex, id);
  }

  /**
   * Resolves to the state when it is one of `states` and answers the last request, or `failed`; undefined after
   * `timeoutMs`.
   */
  async reaches(states: readonly number[], timeoutMs: number): Promise<number | undefined> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const word = Atomics.load(this.#words, stateIndex);
      const state = word & valueMask;
      const answers = word >>> valueBits === Atomics.load(this.#words, askIndex) >>> valueBits;
      if ((answers && states.includes(state)) || state === ThreadState.failed) return state;
      const left = deadline - performance.now();
      if (left <= 0) return undefined;
      await Atomics.waitAsync(this.#words, stateIndex, word, left).value;
    }
  }
}
