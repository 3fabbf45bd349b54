/** Input from a terminal, pipe or client to a character device's ring, and the escape key of a person's terminal. */
import type { ByteRing } from "../../bus/byte-ring.ts";
import { Block } from "../../ffi/block.ts";
import { Epoll, type EpollSet } from "../../ffi/epoll.ts";
import { readSome } from "../../ffi/file.ts";
import { Errno, SystemError } from "../../ffi/libc.ts";
import { pollEvents } from "../../ffi/poll.ts";

const chunkBytes = 4096;
/** How soon to look again when the guest has not taken what it was given. */
const retryMs = 10;
/** The escape key is Ctrl-A; then x quits, and Ctrl-A sends one. */
const escapeKey = 0x01;
const quitKey = 0x78;

export class InputPump {
  readonly #chunk = new Block(chunkBytes);
  #fd = -1;
  #ended = false;
  #arrived = false;
  #escaped = false;
  /** Regular files and /dev/null cannot be waited on: they are always ready. */
  #alwaysReady = false;
  #watching = false;

  constructor(
    readonly ring: ByteRing,
    readonly epoll: EpollSet,
    readonly token: number,
    readonly escapeKeys: boolean,
    readonly client: "socket" | "pty" | undefined,
    readonly quit: () => void,
  ) {}

  attach(fd: number): void {
    this.#fd = fd;
    this.#ended = false;
    this.#alwaysReady = false;
    this.#watch();
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

  /** True once after bytes have come. */
  takeArrived(): boolean {
    const arrived = this.#arrived;
    this.#arrived = false;
    return arrived;
  }

  /**
   * Reads what is there and what the ring has room for; of a person's keys, what a full ring has no room for is lost,
   * so that the escape key always works. Ms after which to call again; -1: when an event comes.
   */
  pump(): number {
    if (this.#fd < 0 || this.#ended) return -1;
    const free = this.ring.size - this.ring.length;
    const room = this.escapeKeys ? free >> 1 : free; // a key may come to two bytes
    if (room === 0 && !this.escapeKeys) {
      this.#unwatch();
      return retryMs;
    }
    this.#watch();
    if (!this.#alwaysReady && pollEvents(this.#fd, Epoll.in) === 0) return -1;
    const count = readSome(
      this.#fd,
      this.#chunk.address,
      room === 0 ? 1 : Math.min(chunkBytes, room),
    );
    if (count > 0) this.#take(count);
    else if (count !== -Errno.EAGAIN && count !== -Errno.EINTR) this.#end();
    return count > 0 && this.#alwaysReady ? 0 : -1;
  }

  /** No more input. A client is still watched for its hang-up, which epoll always tells. */
  #end(): void {
    this.#ended = true;
    if (this.client && this.#watching && !this.hungUp) this.epoll.modify(this.#fd, 0, this.token);
    else this.#unwatch();
  }

  #take(count: number): void {
    for (let i = 0; i < count; i++) this.#key(this.#chunk.bytes[i]!);
    this.#arrived = true;
  }

  #key(byte: number): void {
    if (!this.escapeKeys) {
      this.ring.push(byte);
    } else if (this.#escaped) {
      this.#escaped = false;
      if (byte === quitKey) {
        this.quit();
        return;
      }
      if (byte !== escapeKey) this.ring.push(escapeKey);
      this.ring.push(byte);
    } else if (byte === escapeKey) {
      this.#escaped = true;
    } else {
      this.ring.push(byte);
    }
  }

  #watch(): void {
    if (this.#watching || this.#alwaysReady) return;
    try {
      this.epoll.add(this.#fd, Epoll.in, this.token);
      this.#watching = true;
    } catch (error) {
      if (!(error instanceof SystemError && error.code === "EPERM")) throw error;
      this.#alwaysReady = true;
    }
  }

  #unwatch(): void {
    if (this.#watching) this.epoll.remove(this.#fd);
    this.#watching = false;
  }
}
