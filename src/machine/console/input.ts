/** Input from a terminal, pipe or client to a character device, and the escape key of a person's terminal. */
import type { InputSink } from "../../bus/character.ts";
import { Epoll } from "../../ffi/epoll.ts";
import { bytesToRead, readSome } from "../../ffi/file.ts";
import { Errno, SystemError } from "../../ffi/libc.ts";
import { pollEvents } from "../../ffi/poll.ts";
import { Keys } from "./keys.ts";

/** The descriptors that a worker waits on. */
export interface Waiter {
  watch(fd: number, events: number, ready: (events: number) => void): void;
  unwatch(fd: number): void;
}

/** Most reads at a time: other devices wait meanwhile. */
const readsPerTurn = 16;
/** How soon to look again when the guest has not taken what it was given, and does not say when it does. */
const retryMs = 10;

export class InputPump {
  /** A person's keys on their way; undefined where there is no escape key. */
  readonly #keys: Keys | undefined;
  #fd = -1;
  #ended = false;
  #arrived = false;
  /** Regular files and /dev/null cannot be waited on: they are always ready. */
  #alwaysReady = false;
  /** The events that are waited for; -1 when the descriptor is not watched. 0 still tells of a hang-up. */
  #watched = -1;

  /** `ready` is called when `pump` has something to do. */
  constructor(
    readonly sink: InputSink,
    readonly waiter: Waiter,
    readonly ready: () => void,
    escapeKeys: boolean,
    readonly client: "socket" | "pty" | undefined,
    quit: () => void,
  ) {
    this.#keys = escapeKeys ? new Keys(quit) : undefined;
  }

  attach(fd: number): void {
    this.#fd = fd;
    this.#ended = false;
    this.#alwaysReady = false;
    this.#watch(Epoll.in);
  }

  detach(): void {
    this.#unwatch();
    this.#fd = -1;
  }

  /**
   * The other end has closed for good. A socket's client that only stopped sending still takes output; a pty's input
   * ends when its client goes, and another may have come since.
   */
  get hungUp(): boolean {
    if (!this.#ended) return false;
    return this.client === "pty" || (pollEvents(this.#fd, 0) & Epoll.hangUp) !== 0;
  }

  /** Nothing more can come. */
  get ended(): boolean {
    return this.#ended;
  }

  /** True once after bytes have come. */
  takeArrived(): boolean {
    const arrived = this.#arrived;
    this.#arrived = false;
    return arrived;
  }

  /** Reads what is there and what the device has room for. Ms after which to call again; -1: when an event comes. */
  pump(): number {
    if (this.#fd < 0) return -1;
    if (this.#keys) return this.#pumpKeys(this.#keys);
    for (let reads = 0; reads < readsPerTurn; reads++) {
      if (this.#ended) return -1;
      const room = this.sink.look();
      if (room === 0) return this.#waitForRoom();
      this.#watch(Epoll.in);
      const count = this.#read(this.sink.address, room);
      if (count === 0) return -1;
      this.sink.produced(count);
      this.#arrived = true;
    }
    return this.#alwaysReady ? 0 : -1;
  }

  /** A terminal is read whether the guest takes its keys or not, so that the escape key always works. */
  #pumpKeys(keys: Keys): number {
    if (!this.#ended) {
      this.#watch(Epoll.in);
      if (keys.deliver(this.sink)) this.#arrived = true;
      const count = this.#read(keys.chunk.address, keys.mostToRead);
      keys.take(count);
    }
    if (keys.deliver(this.sink)) this.#arrived = true;
    if (!keys.waiting || this.sink.sleep()) return -1;
    return this.sink.look() > 0 ? 0 : retryMs;
  }

  /** How many bytes came; 0 when there are none now, or no more at all. */
  #read(address: number, length: number): number {
    if (!this.#alwaysReady && pollEvents(this.#fd, Epoll.in) === 0) return 0;
    const count = readSome(this.#fd, address, length);
    if (count > 0) return count;
    if (count !== -Errno.EAGAIN && count !== -Errno.EINTR) this.#end();
    return 0;
  }

  /** Meanwhile a client is watched for its hang-up; one that leaves input behind is there until that is taken. */
  #waitForRoom(): number {
    const wait = this.sink.sleep() ? -1 : this.sink.look() > 0 ? 0 : retryMs;
    if (this.#watched === 0 && (pollEvents(this.#fd, 0) & Epoll.hangUp) !== 0) {
      if (bytesToRead(this.#fd) === 0) this.#end();
      else this.#unwatch();
    } else if (this.client && this.#watched === Epoll.in) {
      this.#watch(0);
    } else if (!this.client) {
      this.#unwatch();
    }
    return wait;
  }

  /** No more input. A client is still watched for its hang-up, which epoll always tells. */
  #end(): void {
    this.#ended = true;
    if (this.client && this.#watched >= 0 && !this.hungUp) this.#watch(0);
    else this.#unwatch();
  }

  #watch(events: number): void {
    if (this.#watched === events || this.#alwaysReady) return;
    this.#unwatch();
    try {
      this.waiter.watch(this.#fd, events, this.ready);
      this.#watched = events;
    } catch (error) {
      if (!(error instanceof SystemError && error.code === "EPERM")) throw error;
      this.#alwaysReady = true;
    }
  }

  #unwatch(): void {
    if (this.#watched >= 0) this.waiter.unwatch(this.#fd);
    this.#watched = -1;
  }
}
