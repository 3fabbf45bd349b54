/**
 * A front end of a test, written from the vhost-user specification alone: it shares no numbers and no layouts with the
 * code under test. It talks to a server in the same thread, which works whenever the front end waits.
 */
import { closeSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DeviceModel, VhostUserDevice } from "../../../src/devices/vhost-user/device.ts";
import { VhostUserServer } from "../../../src/devices/vhost-user/server.ts";
import type { Backend, BackendHost } from "../../../src/devices/virtio/backend.ts";
import { Block, windowOn } from "../../../src/ffi/block.ts";
import { EpollSet } from "../../../src/ffi/epoll.ts";
import { truncate } from "../../../src/ffi/file.ts";
import { MapFlag, memfd, mmap, munmap, Prot } from "../../../src/ffi/memory.ts";
import { receiveMessage, sendMessage } from "../../../src/ffi/messages.ts";
import { acceptUnix, connectUnix, listenUnix } from "../../../src/ffi/unix-socket.ts";
import { Watcher } from "../../../src/machine/watcher.ts";

/** A fuse, for a host that is busy. */
const waitMs = 120_000;
const headerBytes = 12;
const [VERSION, REPLY, NEED_REPLY] = [1, 4, 8];
const EAGAIN = 11;

/** Message numbers (vhost-user, "Front-end message types"). */
export const Message = {
  ...{ GET_FEATURES: 1, SET_FEATURES: 2, SET_OWNER: 3, RESET_OWNER: 4, SET_MEM_TABLE: 5 },
  ...{ SET_VRING_NUM: 8, SET_VRING_ADDR: 9, SET_VRING_BASE: 10, GET_VRING_BASE: 11 },
  ...{ SET_VRING_KICK: 12, SET_VRING_CALL: 13, SET_VRING_ERR: 14 },
  ...{ GET_PROTOCOL_FEATURES: 15, SET_PROTOCOL_FEATURES: 16, GET_QUEUE_NUM: 17 },
  ...{ SET_VRING_ENABLE: 18, SET_BACKEND_REQ_FD: 21, GET_CONFIG: 24, SET_CONFIG: 25 },
  ...{ GET_INFLIGHT_FD: 31, SET_INFLIGHT_FD: 32, RESET_DEVICE: 34 },
  ...{ GET_MAX_MEM_SLOTS: 36, ADD_MEM_REG: 37, REM_MEM_REG: 38 },
} as const;

export const F_PROTOCOL_FEATURES = 1n << 30n;
/** VHOST_USER_PROTOCOL_F_ MQ, REPLY_ACK, BACKEND_REQ, CONFIG, INFLIGHT_SHMFD, RESET_DEVICE, CONFIGURE_MEM_SLOTS. */
export const allProtocol = [0, 3, 5, 9, 12, 13, 15].reduce(
  (sum, bit) => sum + (1n << BigInt(bit)),
  0n,
);

export interface Reply {
  readonly request: number;
  readonly flags: number;
  readonly payload: DataView;
  readonly fds: readonly number[];
}

export interface Sending {
  readonly fds?: readonly number[];
  readonly needReply?: boolean;
  readonly flags?: number;
  /** What the header says of the payload's size, if that is not its size. */
  readonly size?: number;
}

/** A server for one device, and what becomes of it. */
export class Rig {
  readonly folder = mkdtempSync(join(tmpdir(), "chv-vhost-user-"));
  readonly path = join(this.folder, "socket");
  readonly warnings: string[] = [];
  readonly device: VhostUserDevice;
  readonly config: Uint8Array;
  readonly #epoll = new EpollSet();
  readonly #watcher = new Watcher(this.#epoll, 0);
  readonly #listenFd: number;
  readonly #server: VhostUserServer;
  readonly #open: (() => void)[] = [];

  constructor(model: DeviceModel, create: (host: BackendHost, config: Uint8Array) => Backend) {
    this.#listenFd = listenUnix(this.path, 8);
    this.config = new Uint8Array(new SharedArrayBuffer(model.config.length));
    const home = {
      watch: (fd: number, events: number, ready: (events: number) => void) =>
        this.#watcher.watch(fd, events, ready),
      unwatch: (fd: number) => this.#watcher.unwatch(fd),
      chores: () => {
        throw new Error("test: no chores");
      },
      warn: (text: string) => void this.warnings.push(text),
    };
    const parts = { config: this.config, create: (host: BackendHost) => create(host, this.config) };
    this.device = new VhostUserDevice(model, parts, home);
    this.#server = new VhostUserServer(this.#listenFd, this.device);
  }

  connect(): FrontEnd {
    const front = new FrontEnd(this, connectUnix(this.path));
    this.#open.push(() => front.close());
    return front;
  }

  /** Two ends of one connection: ours, and a descriptor to give away. */
  pair(): { ours: FrontEnd; theirs: number } {
    const path = join(this.folder, "pair");
    const listenFd = listenUnix(path, 1);
    const ours = new FrontEnd(this, connectUnix(path));
    const theirs = acceptUnix(listenFd);
    closeSync(listenFd);
    rmSync(path);
    return { ours, theirs };
  }

  /** Lets the server do what is to be done now. */
  turn(timeoutMs = 0): void {
    const count = this.#epoll.wait(timeoutMs);
    for (let i = 0; i < count; i++) {
      this.#watcher.handle(this.#epoll.tokenAt(i), this.#epoll.eventsAt(i));
    }
  }

  /** Lets it work until something is so. */
  until<T>(found: () => T | undefined): T {
    for (const deadline = Date.now() + waitMs; ; this.turn(1)) {
      const value = found();
      if (value !== undefined) return value;
      if (Date.now() > deadline) throw new Error("test: it does not happen");
    }
  }

  [Symbol.dispose](): void {
    for (const close of this.#open) close();
    let closed = false;
    this.#server.close(() => {
      closed = true;
    });
    this.until(() => (closed ? true : undefined));
    this.#epoll.close();
    closeSync(this.#listenFd);
    rmSync(this.folder, { recursive: true });
  }
}

export class FrontEnd {
  readonly #buffer = new Block(4096);
  #closed = false;

  constructor(
    readonly rig: Rig,
    readonly fd: number,
  ) {}

  /** Sends bytes as they are. */
  sendRaw(bytes: Uint8Array, fds: readonly number[] = []): number {
    this.#buffer.bytes.set(bytes);
    return sendMessage(this.fd, this.#buffer.address, bytes.length, fds);
  }

  send(request: number, payload: Uint8Array = new Uint8Array(), sending: Sending = {}): void {
    const { fds, needReply = false, size = payload.length } = sending;
    const { flags = VERSION | (needReply ? NEED_REPLY : 0) } = sending;
    const bytes = new Uint8Array(headerBytes + payload.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, request, true);
    view.setUint32(4, flags, true);
    view.setUint32(8, size, true);
    bytes.set(payload, headerBytes);
    this.sendRaw(bytes, fds);
  }

  /** The next message of the server; "gone" when it has closed the connection. */
  receive(): Reply | "gone" {
    const fds: number[] = [];
    const header = this.#read(headerBytes, fds);
    if (header === "gone") return "gone";
    const size = header.getUint32(8, true);
    const payload = size === 0 ? new DataView(new ArrayBuffer(0)) : this.#read(size, fds);
    if (payload === "gone") return "gone";
    return { request: header.getUint32(0, true), flags: header.getUint32(4, true), payload, fds };
  }

  /** A request and its reply. */
  ask(request: number, payload?: Uint8Array, sending?: Sending): Reply {
    this.send(request, payload, sending);
    const reply = this.receive();
    if (reply === "gone") throw new Error(`test: gone after ${request}: ${this.rig.warnings}`);
    if (reply.request !== request || reply.flags !== (VERSION | REPLY)) {
      throw new Error(`test: reply ${reply.request}/${reply.flags} to ${request}`);
    }
    return reply;
  }

  askNumber(request: number): bigint {
    return this.ask(request).payload.getBigUint64(0, true);
  }

  /** A message that is acknowledged (REPLY_ACK): the number that comes back, 0 for success. */
  tell(request: number, payload?: Uint8Array, fds: readonly number[] = []): number {
    return Number(
      this.ask(request, payload, { fds, needReply: true }).payload.getBigUint64(0, true),
    );
  }

  /** Whether the server ends the connection over this. */
  endsAfter(request: number, payload?: Uint8Array, sending?: Sending): boolean {
    this.send(request, payload, sending);
    return this.receive() === "gone";
  }

  /** Features, protocol features and owner, as a front end begins. */
  begin(features: bigint, protocol = allProtocol): this {
    this.send(Message.SET_FEATURES, number(features | F_PROTOCOL_FEATURES));
    this.send(Message.SET_PROTOCOL_FEATURES, number(protocol));
    this.send(Message.SET_OWNER);
    return this;
  }

  close(): void {
    if (!this.#closed) closeSync(this.fd);
    this.#closed = true;
  }

  #read(length: number, fds: number[]): DataView | "gone" {
    let filled = 0;
    return this.rig.until(() => {
      const at = this.#buffer.address + filled;
      const count = receiveMessage(this.fd, at, length - filled, fds);
      if (count === -EAGAIN) return undefined;
      if (count <= 0) return "gone";
      filled += count;
      if (filled < length) return undefined;
      return new DataView(this.#buffer.bytes.slice(0, length).buffer);
    });
  }
}

/** Payloads. */
export const number = (value: bigint | number): Uint8Array => {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(value), true);
  return new Uint8Array(view.buffer);
};
export const state = (index: number, value: number): Uint8Array =>
  new Uint8Array(Uint32Array.of(index, value).buffer);
export const numbers = (...values: readonly (bigint | number)[]): Uint8Array =>
  new Uint8Array(BigUint64Array.from(values, BigInt).buffer);

/** Shared memory of a test: a memfd, mapped here. Guest and user addresses begin where the test says. */
export class SharedRam {
  readonly fd = memfd("test-ram", false);
  readonly #address: number;
  readonly #window: ArrayBuffer;

  constructor(
    readonly size: number,
    readonly guest: number,
    readonly user: number,
  ) {
    truncate(this.fd, size);
    this.#address = mmap(0, size, Prot.read | Prot.write, MapFlag.shared, this.fd);
    this.#window = windowOn(this.#address, size);
  }

  /** Guest-physical. */
  view(address: number, length: number): DataView {
    return new DataView(this.#window, address - this.guest, length);
  }
  bytes(address: number, length: number): Uint8Array {
    return new Uint8Array(this.#window, address - this.guest, length);
  }

  /** The row of the memory table. */
  get row(): readonly number[] {
    return [this.guest, this.size, this.user, 0];
  }

  userAddress(guest: number): number {
    return guest - this.guest + this.user;
  }

  [Symbol.dispose](): void {
    munmap(this.#address, this.size);
    closeSync(this.fd);
  }
}

/** The payload of SET_MEM_TABLE. */
export function table(...rows: readonly (readonly (number | bigint)[])[]): Uint8Array {
  return numbers(rows.length, ...rows.flat());
}
