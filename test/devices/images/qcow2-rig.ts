/** A qcow2 image of a test, driven slot by slot, by io_uring, by calls, or on a ring of the test's. */
import { closeSync, openSync } from "node:fs";
import { Qcow2Image } from "../../../src/devices/images/qcow2/image.ts";
import { extraRequests } from "../../../src/devices/images/qcow2/lists.ts";
import { openQcow2 } from "../../../src/devices/images/qcow2/open.ts";
import type { PartsOptions } from "../../../src/devices/images/qcow2/parts.ts";
import type { Qcow2Spec } from "../../../src/devices/images/qcow2/spec.ts";
import { Transfers } from "../../../src/devices/images/transfers.ts";
import { Block } from "../../../src/ffi/block.ts";
import { IoUring, type RequestRing } from "../../../src/ffi/io-uring.ts";
import { SystemError } from "../../../src/ffi/libc.ts";
import { waitReadable } from "../../../src/ffi/poll.ts";
import { FakeChores } from "../chores/fake.ts";

export interface RigOptions extends PartsOptions {
  readonly ring?: RequestRing | "io_uring" | "calls";
  readonly readonly?: boolean;
  readonly backing?: boolean;
  readonly direct?: boolean;
  readonly punch?: boolean;
  readonly slots?: number;
  /** Bytes of memory for each slot. */
  readonly room?: number;
  readonly spec?: Qcow2Spec;
  readonly chores?: FakeChores;
}

const O_DIRECT = 0o40000;
const pageBytes = 4096;
/** A fuse, for a host that is busy. */
const waitMs = 120_000;

/** Unpacks as it is asked to. */
class PromptChores extends FakeChores {
  override decompress(...chore: Parameters<FakeChores["decompress"]>): boolean {
    const posted = super.decompress(...chore);
    this.serve();
    return posted;
  }
}

export class Rig {
  readonly image: Qcow2Image;
  readonly transfers: Transfers;
  readonly spec: Qcow2Spec;
  readonly chores: FakeChores;
  readonly warnings: string[] = [];
  /** Errors of slots that have ended, by slot. */
  readonly ended = new Map<number, number>();
  readonly fds: number[] = [];
  readonly slots: number;
  readonly room: number;
  readonly #memory: Block;
  readonly #base: number;

  constructor(path: string, options: RigOptions = {}) {
    const { ring = "calls", readonly = false, backing = true, direct = false } = options;
    this.slots = options.slots ?? 4;
    this.room = options.room ?? 2 ** 20;
    this.#memory = new Block(this.slots * this.room + pageBytes);
    this.#base = Math.ceil(this.#memory.address / pageBytes) * pageBytes - this.#memory.address;
    this.transfers = new Transfers(this.slots, 16);
    this.spec = options.spec ?? this.#open(path, readonly, backing, direct, options.punch ?? true);
    const client = {
      ended: (slot: number, error: number) => void this.ended.set(slot, error),
      warn: (text: string) => void this.warnings.push(text),
    };
    this.chores = options.chores ?? new PromptChores();
    this.image = new Qcow2Image(
      this.spec,
      this.transfers,
      client,
      this.#ring(ring),
      this.chores,
      options,
    );
  }

  /** Memory of a slot. */
  memory(slot: number, length = this.room): Uint8Array {
    const from = this.#base + slot * this.room;
    return this.#memory.bytes.subarray(from, from + length);
  }

  /** Lays a slot's memory out for a transfer, cut into pieces of the given lengths. */
  lay(slot: number, offset: number, length: number, cuts: readonly number[] = []): void {
    const view = new DataView(this.transfers.words.buffer);
    let at = 0;
    let count = 0;
    const place = (size: number) => {
      const word = (slot * 16 + count++) * 16;
      const address = this.#memory.address + this.#base + slot * this.room + at;
      view.setBigUint64(word, BigInt(address), true);
      view.setBigUint64(word + 8, BigInt(size), true);
      at += size;
    };
    for (const size of cuts) if (at + size < length) place(size);
    place(length - at);
    this.transfers.set(slot, offset, length, count);
  }

  startRead(slot: number, offset: number, length: number, cuts: readonly number[] = []): void {
    this.memory(slot, length).fill(0xee);
    this.lay(slot, offset, length, cuts);
    this.image.read(slot);
  }
  startWrite(
    slot: number,
    offset: number,
    data: Uint8Array,
    durable = false,
    cuts: readonly number[] = [],
  ): void {
    this.memory(slot).set(data);
    this.lay(slot, offset, data.length, cuts);
    this.image.write(slot, durable);
  }
  startZero(slot: number, offset: number, length: number, unmap: boolean, durable = false): void {
    this.transfers.set(slot, offset, length, 0);
    this.image.writeZeroes(slot, unmap, durable);
  }
  startDiscard(slot: number, offset: number, length: number): void {
    this.transfers.set(slot, offset, length, 0);
    this.image.discard(slot);
  }
  startFlush(slot: number): void {
    this.transfers.set(slot, 0, 0, 0);
    this.image.flush(slot);
  }

  /** Turns until a slot has ended: its error. */
  wait(slot: number): number {
    const deadline = Date.now() + waitMs;
    for (;;) {
      this.image.turn();
      const error = this.ended.get(slot);
      if (error !== undefined) {
        this.ended.delete(slot);
        return error;
      }
      if (Date.now() > deadline) throw new Error(`test: slot ${slot} does not end`);
      if (this.image.fd >= 0) waitReadable(this.image.fd, 10);
    }
  }

  read(offset: number, length: number, cuts: readonly number[] = []): Uint8Array {
    this.startRead(0, offset, length, cuts);
    const error = this.wait(0);
    if (error !== 0) throw new Error(`read at ${offset}: errno ${error}`);
    return this.memory(0, length).slice();
  }
  write(offset: number, data: Uint8Array, durable = false, cuts: readonly number[] = []): number {
    this.startWrite(0, offset, data, durable, cuts);
    return this.wait(0);
  }
  zero(offset: number, length: number, unmap = false, durable = false): number {
    this.startZero(0, offset, length, unmap, durable);
    return this.wait(0);
  }
  discard(offset: number, length: number): number {
    this.startDiscard(0, offset, length);
    return this.wait(0);
  }
  flush(): number {
    this.startFlush(0);
    return this.wait(0);
  }

  /** Everything on the disk. */
  content(): Uint8Array {
    const bytes = new Uint8Array(this.spec.layers[0]!.bytes);
    for (let at = 0; at < bytes.length; at += this.room) {
      bytes.set(this.read(at, Math.min(this.room, bytes.length - at)), at);
    }
    return bytes;
  }

  close(): void {
    this.image.close();
    this.chores.close();
    for (const fd of this.fds) closeSync(fd);
  }
  [Symbol.dispose](): void {
    this.close();
  }

  #open(path: string, readonly: boolean, backing: boolean, direct: boolean, punch: boolean) {
    const fd = openSync(path, (readonly ? 0 : 2) | (direct ? O_DIRECT : 0));
    this.fds.push(fd);
    const own = (other: number) => void this.fds.push(other);
    try {
      return openQcow2(fd, path, { readonly, direct, backing, punch, own });
    } catch (error) {
      for (const other of this.fds) closeSync(other);
      throw error;
    }
  }

  #ring(ring: RequestRing | "io_uring" | "calls"): RequestRing | undefined {
    if (ring === "calls") return undefined;
    if (ring !== "io_uring") return ring;
    const opened = IoUring.open(this.slots + extraRequests);
    if (opened instanceof SystemError) throw opened;
    return opened;
  }
}
