/** A console port with its rings and device in the test's hand, and clients as raw descriptors at its far end. */
import { ByteRing } from "../../../src/bus/byte-ring.ts";
import { EventRing, type MachineEvent } from "../../../src/bus/event-ring.ts";
import { Block } from "../../../src/ffi/block.ts";
import { EpollSet } from "../../../src/ffi/epoll.ts";
import { close, Open, open, readSome, writeAll } from "../../../src/ffi/file.ts";
import { check, libc } from "../../../src/ffi/libc.ts";
import { socketLibc } from "../../../src/ffi/libc-late.ts";
import { ConsolePort } from "../../../src/machine/console/port.ts";
import { RingInput, RingOutput } from "../../../src/machine/console/rings.ts";
import type { FarEndSpec } from "../../../src/machine/console/spec.ts";
import { Watcher } from "../../../src/machine/watcher.ts";

const ringBytes = 4096;

/** A clock that the test moves. */
export class TestClock {
  ns = 1e12;
  monotonicNs(): number {
    return this.ns;
  }
  wallMs(): number {
    return 0;
  }
  pass(seconds: number): void {
    this.ns += seconds * 1e9;
  }
}

export class Console {
  readonly output: ByteRing;
  readonly input: ByteRing;
  readonly clock = new TestClock();
  readonly port: ConsolePort;
  readonly epoll = new EpollSet();
  readonly #watcher = new Watcher(this.epoll, 0);
  readonly #events = new EventRing(new SharedArrayBuffer(EventRing.byteLength), 0);
  /** How often the device was told. */
  arrivals = 0;
  ready = 0;
  /** Every event so far. */
  readonly events: MachineEvent[] = [];
  /** Calls of `pump` so far. */
  pumps = 0;

  constructor(spec: Partial<FarEndSpec>, { outputBytes = 65536, onReady = () => {} } = {}) {
    const output = new SharedArrayBuffer(ByteRing.bytesFor(outputBytes));
    const input = new SharedArrayBuffer(ByteRing.bytesFor(ringBytes));
    const none = { outFd: -1, inFd: -1, listenFd: -1, escapeKeys: false, outBlocks: false };
    const whole = { name: "serial", mode: "null", ...none, ...spec } as const;
    this.output = new ByteRing(output);
    this.input = new ByteRing(input);
    const device = {
      output: new RingOutput(output),
      input: new RingInput(input),
      inputArrived: () => this.arrivals++,
      transmitterReady: () => {
        this.ready++;
        onReady();
      },
    };
    this.port = new ConsolePort(whole, device, this.#watcher, this.#events, this.clock);
  }

  /** What the guest says; it waits for room as the guest would. */
  say(text: string | Uint8Array): void {
    const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
    for (const byte of bytes) while (!this.output.push(byte)) this.turn();
  }

  /** One round of the I/O worker, without sleeping; what `pump` answered comes back. */
  turn(): number {
    const wait = this.port.pump();
    this.pumps++;
    const count = this.epoll.wait(0);
    for (let i = 0; i < count; i++) {
      this.#watcher.handle(this.epoll.tokenAt(i), this.epoll.eventsAt(i));
    }
    for (let event = this.#events.take(); event; event = this.#events.take()) {
      this.events.push(event);
    }
    return wait;
  }

  /** Rounds until nothing moves any more. */
  settle(): number {
    let wait = 0;
    for (let i = 0; i < 6; i++) wait = this.turn();
    return wait;
  }

  /** What the guest has been typed so far. */
  typed(): string {
    let text = "";
    for (let byte = this.input.pop(); byte >= 0; byte = this.input.pop()) {
      text += String.fromCharCode(byte);
    }
    return text;
  }

  /** The same, once there is so much of it: what is typed at a terminal arrives when the kernel gets to it. */
  typedAtLast(length: number): string {
    let text = "";
    for (const fuse = Date.now() + 60_000; text.length < length && Date.now() < fuse; ) {
      this.turn();
      text += this.typed();
    }
    return text;
  }

  close(): void {
    this.port.close();
    this.epoll.close();
  }
}

const chunk = new Block(1 << 16);

/** What can be read at once, at most `most` bytes; "end" where the other side has closed. */
export function take(fd: number, most = Number.POSITIVE_INFINITY): Uint8Array | "end" {
  const parts: Uint8Array[] = [];
  let total = 0;
  while (total < most) {
    const count = readSome(fd, chunk.address, Math.min(chunk.bytes.length, most - total));
    if (count === 0 && parts.length === 0) return "end";
    if (count <= 0) break;
    parts.push(chunk.bytes.slice(0, count));
    total += count;
  }
  return Buffer.concat(parts);
}

export function text(fd: number): string {
  const taken = take(fd);
  return taken === "end" ? taken : new TextDecoder().decode(taken);
}

/** A client of a unix socket: a non-blocking descriptor. */
export function connect(path: string): number {
  const address = new Block(110);
  address.view.setUint16(0, 1, true);
  address.bytes.set(new TextEncoder().encode(path), 2);
  const fd = check(socketLibc().socket(1, 1 | Open.nonBlock | Open.cloexec, 0), "socket");
  check(socketLibc().connect(fd, address.address as never, 110), "connect");
  return fd;
}

/** A system call of two arguments. */
function call(number: number, a: number, b: number): void {
  const words = [number, a, b, 0, 0, 0, 0];
  const syscall = libc.syscall as (...words: number[]) => number | bigint;
  check(Number(syscall(...words)), `system call ${number}`);
}

const shutdownWrite = 1;
/** shutdown(2) for writing: system call 48 of x86-64. */
export const stopSending = (fd: number): void => {
  call(48, fd, shutdownWrite);
};

export const send = (fd: number, words: string): boolean =>
  writeAll(fd, new TextEncoder().encode(words));

/** A pipe, both ends non-blocking: system call 293 of x86-64. */
export function pipe(): { read: number; write: number } {
  const ends = new Block(8);
  call(293, ends.address, Open.nonBlock | Open.cloexec);
  return { read: ends.view.getInt32(0, true), write: ends.view.getInt32(4, true) };
}

export const openPath = (path: string, flags: number): number =>
  open(path, flags | Open.nonBlock | Open.noControllingTerminal);

export { close };
