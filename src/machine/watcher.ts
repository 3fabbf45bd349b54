/** Descriptors that an I/O worker waits on, each with what to do when it is ready. */
import type { EpollSet } from "../ffi/epoll.ts";

export class Watcher {
  readonly #ready = new Map<number, (events: number) => void>();
  readonly #tokens = new Map<number, number>();
  #next: number;

  /** Tokens of the set from `firstToken` on are the watcher's. */
  constructor(
    readonly epoll: EpollSet,
    readonly firstToken: number,
  ) {
    this.#next = firstToken;
  }

  watch(fd: number, events: number, ready: (events: number) => void): void {
    const token = this.#next++;
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

  /** An event of the set. One for a descriptor that is no longer watched goes nowhere. */
  handle(token: number, events: number): void {
    this.#ready.get(token)?.(events);
  }
}
