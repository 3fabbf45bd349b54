/**
 * Output of a character device on its way to the far end's descriptor, written from where the device has it. What a
 * present client does not take waits there (then the guest waits, too); with no client the last 1 MiB is kept for the
 * next.
 */
import type { CharacterDevice } from "../../bus/character.ts";
import type { Clock } from "../../bus/device.ts";
import type { EventRing } from "../../bus/event-ring.ts";
import { EventKind, LogLevel } from "../../bus/events.ts";
import { Epoll } from "../../ffi/epoll.ts";
import { writeSome } from "../../ffi/file.ts";
import { Errno, errnoName, SystemError } from "../../ffi/libc.ts";
import { pollEvents } from "../../ffi/poll.ts";
import { sendSome } from "../../ffi/unix-socket.ts";
import { Backlog } from "./backlog.ts";
import type { Waiter } from "./input.ts";
import type { FarEndSpec } from "./spec.ts";

const backlogBytes = 1024 * 1024;
/** A client that takes nothing for this long loses its attachment. */
const stalledNs = 5e9;
/** How soon to try a file again that has no room now. */
const retryMs = 100;
/** What a terminal, or a pipe (PIPE_BUF), that said it has room takes without making the writer wait. */
const [unblockedBytes, unblockedPipeBytes] = [256, 4096];
/** Most of a turn: a guest that never stops talking must not keep the worker from its other work. */
const turnBytes = 256 * 1024;
/** A piece of at most so many bytes is put by, and so many bytes of such pieces are written together. */
const [smallPiece, gatherBytes] = [256, 4096];
const turnPieces = 256;

export class OutputPump {
  readonly #backlog = new Backlog(backlogBytes);
  /** Where output goes now; -1 with nobody there. */
  #fd = -1;
  #watching = false;
  #stalledSince = 0;
  #broken = false;
  readonly #put: (address: number, length: number) => number;

  constructor(
    readonly spec: FarEndSpec,
    readonly device: CharacterDevice,
    readonly waiter: Waiter,
    readonly events: EventRing,
    readonly clock: Clock,
    /** The far end comes and goes. */
    readonly isClient: boolean,
    /** The client has gone, or (stalled) takes nothing. */
    readonly lost: (stalled: boolean) => void,
    /** There is room again. */
    readonly ready: () => void,
    /** The guest waits for each piece to be taken: small ones are taken at once, and written together. */
    readonly gathers = false,
  ) {
    this.#put = gathers ? this.#gather : this.#write;
  }

  get fd(): number {
    return this.#fd;
  }

  attach(fd: number): void {
    this.#fd = fd;
    this.#stalledSince = 0;
  }

  detach(): void {
    this.#unwatch();
    this.#fd = -1;
  }

  /** Output waits for someone who is there to take it. */
  get busy(): boolean {
    return this.#taken && (this.#backlog.length > 0 || this.device.output.look() > 0);
  }

  /** Somebody takes output. */
  get #taken(): boolean {
    return this.#fd >= 0 && !this.#broken;
  }

  /** Small pieces have been taken, and wait for more. */
  get gathered(): boolean {
    return this.gathers && this.#taken && this.#stalledSince === 0 && this.#backlog.length > 0;
  }

  /** Ms after which to call again; -1: when an event comes. */
  pump(): number {
    const done = this.#taken ? this.#drain() : this.#move(this.#keep);
    if (!done) return this.#waitForRoom();
    return this.device.output.sleep() ? -1 : 0;
  }

  /** Takes what the device has put out, without writing what is gathered. False when `pump` is to be called. */
  take(): boolean {
    if (!this.gathers || !this.#taken || this.#stalledSince !== 0) return false;
    return this.#move(this.#put) && this.device.output.sleep();
  }

  /** Takes what waits out of the device's memory, as far as the backlog has room. Whether some is left. */
  keep(): boolean {
    const { output } = this.device;
    const backlog = this.#backlog;
    const wanted = this.isClient || this.#taken;
    if (wanted) {
      let length = 0;
      while (backlog.length < backlogBytes && (length = output.look()) > 0) {
        const count = Math.min(length, backlogBytes - backlog.length);
        backlog.append(output.address, count);
        output.consume(count);
      }
    }
    this.device.transmitterReady();
    return wanted && output.look() > 0;
  }

  /** Nobody is there: the backlog gets it, or nobody where no client can ever come. */
  readonly #keep = (address: number, length: number): number => {
    if (this.isClient) this.#backlog.append(address, length);
    return length;
  };

  /** Writes backlog, then output. False when the other end takes no more now. */
  #drain(): boolean {
    const count = this.#writeBacklog();
    return count === 0 ? false : count < 0 || this.#move(this.#put);
  }

  /** As `#write`, of all of the backlog; 1 when there is nothing of it any more. */
  #writeBacklog(): number {
    while (this.#backlog.length > 0) {
      const count = this.#write(this.#backlog.address, this.#backlog.contiguous);
      if (count <= 0) return count;
      this.#backlog.drop(count);
    }
    return 1;
  }

  readonly #gather = (address: number, length: number): number => {
    const backlog = this.#backlog;
    if (length <= smallPiece && backlog.length + length <= gatherBytes) {
      backlog.append(address, length);
      return length;
    }
    const count = this.#writeBacklog();
    return count <= 0 ? count : this.#write(address, length);
  };

  /** Hands output to `take`, which says how much went (0: no more now, -1: that was all), until a turn is over. */
  #move(take: (address: number, length: number) => number): boolean {
    const { output } = this.device;
    let moved = 0;
    try {
      for (let pieces = 0; pieces < turnPieces && moved < turnBytes; pieces++) {
        const length = output.look();
        if (length === 0) return true;
        const count = take(output.address, length);
        if (count <= 0) return count < 0;
        output.consume(count);
        moved += count;
      }
      return true;
    } finally {
      // whenever bytes have gone: a device that found no room may have found so at any moment meanwhile
      if (moved > 0) this.device.transmitterReady();
    }
  }

  /** How many bytes went; 0 when it must wait; -1 when that end is gone. */
  readonly #write = (address: number, length: number): number => {
    const { outBlocks, outKind, mode } = this.spec;
    if (outBlocks && pollEvents(this.#fd, Epoll.out) === 0) return 0;
    const unblocked = outKind === "pipe" ? unblockedPipeBytes : unblockedBytes;
    const most = outBlocks ? Math.min(length, unblocked) : length;
    const write = mode === "socket" || outKind === "socket" ? sendSome : writeSome;
    let count: number;
    do count = write(this.#fd, address, most);
    while (count === -Errno.EINTR);
    if (count > 0) {
      this.#stalledSince = 0;
      return count;
    }
    if (count === -Errno.EAGAIN) return 0;
    if (this.isClient) {
      this.lost(false);
    } else {
      this.#broken = true;
      this.tellLost(`from here on: ${errnoName(-count)}`);
    }
    return -1;
  };

  tellLost(what: string): void {
    const text = `${this.spec.name}: output is lost ${what}`;
    this.events.emit(EventKind.outputLost, LogLevel.warn, 0, text);
  }

  /** A client is there and takes nothing: wait for it, but not for ever. */
  #waitForRoom(): number {
    const now = this.clock.monotonicNs();
    if (this.#stalledSince === 0) this.#stalledSince = now;
    if (!this.#watching && this.spec.mode !== "file") this.#watch();
    if (!this.isClient) return this.#watching ? -1 : retryMs;
    const left = this.#stalledSince + stalledNs - now;
    if (left > 0) return Math.ceil(left / 1e6);
    this.lost(true);
    return 0;
  }

  #watch(): void {
    try {
      this.waiter.watch(this.#fd, Epoll.out, this.#hasRoom);
      this.#watching = true;
    } catch (error) {
      // a regular file cannot be waited on; it is polled
      if (!(error instanceof SystemError)) throw error;
    }
  }

  readonly #hasRoom = () => {
    this.#unwatch();
    this.ready();
  };

  #unwatch(): void {
    if (this.#watching) this.waiter.unwatch(this.#fd);
    this.#watching = false;
  }
}
