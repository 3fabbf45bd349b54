/** Descriptors that an I/O worker waits on, each with what to do when it is ready. */
import type { EpollSet } from "../ffi/epoll.ts";

const lastToken = 2 ** 32 - 1;

export class Watcher {
  readonly #ready = new Map<number, (events: number) => void>();
  readonly #tokens = new Map<number, number>();
  #next: number;

  /** Tokens of the set from `firstToken` on are the watcher's; the first that it takes is `next`. */
  constructor(
    readonly epoll: EpollSet,
    readonly firstToken: number,
    next = firstToken,
  ) {
    this.#next = next;
  }

  watch(fd: number, events: number, ready: (events: number) => void): void {
    const token = this.#freeToken();
    this.epoll.add(fd, events, token);
    this.#ready.set(token, ready);
    this.#tokens.set(fd, token);
  }

  unwatch(fd: number): void {
    const token = this.#tokens.get(fd);
    if (token === undefined) return;
    this.epoll.remove(fd);
    this.#tokens.delete(fd);
    this.#ready.delete(token);
  }

  /** Not that of a moment ago: its event may be on the way. They have 32 bits, and come round again. */
  #freeToken(): number {
    for (;;) {
      const token = this.#next;
      this.#next = token === lastToken ? this.firstToken : token + 1;
      if (!this.#ready.has(token)) return token;
    }
  }

  /** An event of the set. One for a descriptor that is no longer watched goes nowhere. */
  handle(token: number, events: number): void {
    this.#ready.get(token)?.(events);
  }
}
