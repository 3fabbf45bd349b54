/**
 * The far end of a character device, on an I/O worker: takes the guest's output from one ring to a terminal, file, pty
 * or socket, and brings input to the other. It never blocks the worker. Output is not lost: what a present client does
 * not take waits in the ring (then the guest's transmitter is busy); with no client the last 1 MiB is kept for the
 * next.
 */
import { ByteRing } from "../../bus/byte-ring.ts";
import type { Clock } from "../../bus/device.ts";
import type { EventRing } from "../../bus/event-ring.ts";
import { EventKind, LogLevel } from "../../bus/events.ts";
import { sharedAddress } from "../../ffi/block.ts";
import { systemClock } from "../../ffi/clock.ts";
import { Epoll, type EpollSet } from "../../ffi/epoll.ts";
import { close, duplicate, writeSome } from "../../ffi/file.ts";
import { Errno, errnoName, SystemError } from "../../ffi/libc.ts";
import { pollEvents } from "../../ffi/poll.ts";
import { acceptUnix, sendSome } from "../../ffi/unix-socket.ts";
import type { ConsoleSpec } from "../spec.ts";
import { Backlog } from "./backlog.ts";
import { InputPump } from "./input.ts";

const backlogBytes = 1024 * 1024;
/** A client that takes nothing for this long loses its attachment. */
const stalledNs = 5e9;
const pollDetachedMs = 100;
/** What a terminal or pipe that said it has room takes without making the writer wait. */
const unblockedBytes = 256;

/** The device's side, called under the device's lock. */
export interface ConsoleDevice {
  /** Bytes have come into the input ring. */
  inputArrived(): void;
  /** The output ring has room; often said when nobody waits for it. */
  transmitterReady(): void;
}

/** The tokens that a port puts into the worker's epoll set, from its base. */
export const PortToken = { output: 0, input: 1, listen: 2 } as const;

export class ConsolePort {
  readonly #output: ByteRing;
  readonly #outputAddress: number;
  readonly #backlog = new Backlog(backlogBytes);
  readonly #input: InputPump;
  /** The far end comes and goes. */
  readonly #isClient: boolean;
  /** Where output goes now; -1 with nobody there. */
  #out: number;
  /** A client's second descriptor, for input. */
  #in = -1;
  /** A pty's client took nothing and lost its attachment: it gets it back when it takes something, or has gone. */
  #unheard = false;
  /** The listening socket is not waited on: a connection could not be accepted. */
  #deaf = false;
  #watchingOut = false;
  #stalledSince = 0;
  #broken = false;

  constructor(
    readonly spec: ConsoleSpec,
    readonly device: ConsoleDevice,
    readonly epoll: EpollSet,
    readonly tokenBase: number,
    readonly events: EventRing,
    readonly clock: Clock = systemClock,
  ) {
    this.#output = new ByteRing(spec.output);
    this.#outputAddress = sharedAddress(spec.output) + ByteRing.dataOffset;
    const token = tokenBase + PortToken.input;
    const ring = new ByteRing(spec.input);
    const client = spec.mode === "socket" || spec.mode === "pty" ? spec.mode : undefined;
    this.#isClient = client !== undefined;
    this.#input = new InputPump(ring, epoll, token, spec.escapeKeys, client, () =>
      events.emit(EventKind.quit, 0, 0),
    );
    this.#out = spec.mode === "pty" ? -1 : spec.outFd;
    if (spec.inFd >= 0 && spec.mode !== "pty") this.#input.attach(spec.inFd);
    if (spec.listenFd >= 0) epoll.add(spec.listenFd, Epoll.in, tokenBase + PortToken.listen);
  }

  /** An event of one of this port's tokens. */
  handle(token: number): void {
    if (token === PortToken.listen) this.#accept();
    else if (token === PortToken.output) this.#unwatchOut();
  }

  /** Moves what can be moved both ways. The ms after which to call again; -1: when an event comes. */
  pump(): number {
    if (this.spec.mode === "pty") this.#lookForPtyClient();
    if (this.#deaf) this.#listen();
    const again = this.#pumpInput();
    const wait = this.#pumpOutput();
    if (wait < 0) return again;
    return again < 0 ? wait : Math.min(wait, again);
  }

  /** Whether output waits for someone who is there to take it. */
  get busy(): boolean {
    return this.#out >= 0 && !this.#broken && this.#output.length + this.#backlog.length > 0;
  }

  #pumpInput(): number {
    const again = this.#input.pump();
    if (this.#input.takeArrived()) this.device.inputArrived();
    if (this.#isClient && this.#out >= 0 && this.#input.hungUp) this.#detach();
    return again;
  }

  /**
   * Moves what was there when it began, and no more: a guest that never stops talking must not keep the worker from its
   * other work. The device is told of room whenever bytes have gone: a push may have failed at any moment meanwhile.
   */
  #pumpOutput(): number {
    const waiting = this.#output.length;
    const taken = this.#out < 0 || this.#broken ? this.#keep(waiting) : this.#drain(waiting);
    if (waiting > 0 && this.#output.ready) this.device.transmitterReady();
    if (!taken) return this.#waitForClient();
    if (!this.#output.sleep()) return 0;
    const looking = (this.spec.mode === "pty" && this.#out < 0) || this.#deaf;
    return looking ? pollDetachedMs : -1;
  }

  /** Nobody is there: the backlog gets it, or nobody where no client can ever come. */
  #keep(length: number): boolean {
    for (let left = length; left > 0; ) {
      const { readAt } = this.#output;
      const count = Math.min(left, this.#output.contiguous);
      if (this.#isClient) {
        this.#backlog.append(this.#output.bytes.subarray(readAt, readAt + count));
      }
      this.#output.consume(count);
      left -= count;
    }
    return true;
  }

  /** Writes backlog, then `length` bytes of the ring. False when the other end takes no more now. */
  #drain(length: number): boolean {
    while (this.#backlog.length > 0) {
      const count = this.#write(this.#backlog.address, this.#backlog.contiguous);
      if (count === 0) return false;
      if (count < 0) return true;
      this.#backlog.drop(count);
    }
    for (let left = length; left > 0; ) {
      const address = this.#outputAddress + this.#output.readAt;
      const count = this.#write(address, Math.min(left, this.#output.contiguous));
      if (count === 0) return false;
      if (count < 0) return true;
      this.#output.consume(count);
      left -= count;
    }
    return true;
  }

  /** How many bytes went; 0 when it must wait; -1 when that end is gone. */
  #write(address: number, length: number): number {
    if (length === 0) return 0;
    if (this.spec.outBlocks && pollEvents(this.#out, Epoll.out) === 0) return 0;
    const most = this.spec.outBlocks ? Math.min(length, unblockedBytes) : length;
    const write = this.spec.mode === "socket" ? sendSome : writeSome;
    const count = write(this.#out, address, most);
    if (count > 0) {
      this.#stalledSince = 0;
      return count;
    }
    if (count === -Errno.EAGAIN) return 0;
    if (count === -Errno.EINTR) return this.#write(address, length);
    this.#lostEnd(-count);
    return -1;
  }

  #lostEnd(error: number): void {
    if (this.#isClient) {
      this.#detach();
      return;
    }
    this.#broken = true;
    const text = `${this.spec.name}: output is lost from here on: ${errnoName(error)}`;
    this.events.emit(EventKind.outputLost, LogLevel.warn, 0, text);
  }

  /** A client is there and takes nothing: wait for it, but not for ever. */
  #waitForClient(): number {
    const now = this.clock.monotonicNs();
    if (this.#stalledSince === 0) this.#stalledSince = now;
    if (!this.#watchingOut && this.spec.mode !== "file") this.#watchOut();
    if (!this.#isClient) return this.#watchingOut ? -1 : pollDetachedMs;
    const left = this.#stalledSince + stalledNs - now;
    if (left > 0) return Math.ceil(left / 1e6);
    const text = `${this.spec.name}: the client took nothing for 5 s and was detached`;
    this.events.emit(EventKind.log, LogLevel.warn, 0, text);
    this.#detach();
    this.#unheard = this.spec.mode === "pty";
    return 0;
  }

  #watchOut(): void {
    try {
      this.epoll.add(this.#out, Epoll.out, this.tokenBase + PortToken.output);
      this.#watchingOut = true;
    } catch (error) {
      // a regular file cannot be waited on; it is polled
      if (!(error instanceof SystemError)) throw error;
    }
  }

  #unwatchOut(): void {
    if (this.#watchingOut) this.epoll.remove(this.#out);
    this.#watchingOut = false;
  }

  #accept(): void {
    const client = acceptUnix(this.spec.listenFd);
    this.epoll.remove(this.spec.listenFd); // one client at a time; the next waits in the backlog
    this.#deaf = client < 0; // no descriptor to be had, or the client has gone again: look later
    if (client >= 0) this.#attach(client);
  }

  #listen(): void {
    this.#deaf = false;
    this.epoll.add(this.spec.listenFd, Epoll.in, this.tokenBase + PortToken.listen);
  }

  /** Output and input are waited on apart, so each has a descriptor of its own. */
  #attach(fd: number): void {
    this.#out = fd;
    this.#stalledSince = 0;
    try {
      this.#in = duplicate(fd);
      this.#input.attach(this.#in);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      const text = `${this.spec.name}: a client was turned away: ${error.message}`;
      this.events.emit(EventKind.log, LogLevel.warn, 0, text);
      this.#detach();
    }
  }

  #detach(): void {
    const client = this.#out;
    if (client < 0) return;
    this.#unwatchOut();
    this.#input.detach();
    if (this.#in >= 0) close(this.#in);
    this.#in = -1;
    this.#out = -1;
    this.#stalledSince = 0;
    if (this.spec.mode === "socket") {
      close(client);
      this.#listen();
    }
  }

  /** A pty has no accept: its master hangs up while nobody has the other end open. */
  #lookForPtyClient(): void {
    if (this.#out >= 0) return;
    const events = pollEvents(this.spec.outFd, Epoll.out);
    const there = (events & Epoll.hangUp) === 0;
    if (!there || events & Epoll.out) this.#unheard = false;
    if (there && !this.#unheard) this.#attach(this.spec.outFd);
  }

  /** Lets go of a client; the listening socket and the terminal belong to the main thread. */
  close(): void {
    if (this.#isClient) this.#detach();
  }
}
