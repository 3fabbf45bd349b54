/**
 * A host for images that does as it is told: file calls that fail, stop short or insist on alignment, and otherwise go to
 * the file; and a ring that makes the same calls when it is asked to submit.
 */

import { writeSync } from "node:fs";
import type { Chores } from "../../../src/devices/chores/chores.ts";
import { Block, windowOn } from "../../../src/ffi/block.ts";
import { type FileCalls, fileCalls } from "../../../src/ffi/file-vector.ts";
import type { RequestRing } from "../../../src/ffi/io-uring.ts";

/** What was called, with its offset, length and flags or mode. */
export interface Call {
  readonly name: "read" | "write" | "sync" | "allocate" | "zero";
  readonly offset: number;
  readonly length: number;
  readonly flags: number;
}

export class ScriptedHost implements FileCalls {
  readonly calls: Call[] = [];
  /** Results that come before anything is done: a number fails or lies, undefined lets the call through. */
  readonly script: (number | undefined)[] = [];
  /** Most bytes that a transfer moves. */
  limit = Number.POSITIVE_INFINITY;
  /** Memory of transfers must be aligned to this, as with O_DIRECT. */
  alignment = 1;

  readVector = (fd: number, iovecs: number, count: number, offset: number): number =>
    this.#move("read", iovecs, count, offset, 0, (table, pieces) =>
      fileCalls.readVector(fd, table.address, pieces, offset),
    );

  writeVector = (fd: number, iovecs: number, count: number, offset: number, flags: number) =>
    this.#move("write", iovecs, count, offset, flags, (table, pieces) =>
      fileCalls.writeVector(fd, table.address, pieces, offset, flags),
    );

  dataSync = (fd: number): number => {
    this.calls.push({ name: "sync", offset: 0, length: 0, flags: 0 });
    return this.script.shift() ?? fileCalls.dataSync(fd);
  };

  allocateRange = (fd: number, mode: number, offset: number, length: number): number => {
    this.calls.push({ name: "allocate", offset, length, flags: mode });
    return this.script.shift() ?? fileCalls.allocateRange(fd, mode, offset, length);
  };

  zero = (fd: number, offset: number, length: number): number => {
    this.calls.push({ name: "zero", offset, length, flags: 0 });
    const zeroes = new Uint8Array(length);
    return this.script.shift() ?? (writeSync(fd, zeroes, 0, length, offset) === length ? 0 : -1);
  };

  #move(
    name: "read" | "write",
    iovecs: number,
    count: number,
    offset: number,
    flags: number,
    run: (table: Block, pieces: number) => number,
  ): number {
    const source = new DataView(windowOn(iovecs, count * 16));
    const table = new Block(count * 16);
    let [length, moved, pieces] = [0, 0, 0];
    let aligned = true;
    for (let i = 0; i < count; i++) {
      const base = source.getBigUint64(i * 16, true);
      const size = Number(source.getBigUint64(i * 16 + 8, true));
      const part = Math.min(size, this.limit - moved);
      aligned &&= Number(base) % this.alignment === 0 && size % this.alignment === 0;
      length += size;
      if (part === 0) continue;
      table.view.setBigUint64(pieces * 16, base, true);
      table.view.setBigUint64(pieces * 16 + 8, BigInt(part), true);
      moved += part;
      pieces++;
    }
    this.calls.push({ name, offset, length, flags });
    const told = this.script.shift();
    if (told !== undefined) return told;
    return aligned ? run(table, pieces) : -22;
  }
}

/** A ring on the same calls. Completions come in the reverse order. */
export class ScriptedRing implements RequestRing {
  readonly fd = 0;
  token = 0;
  result = 0;
  readonly #queued: { token: number; run: () => number }[] = [];
  readonly #ended: { token: number; result: number }[] = [];

  constructor(readonly host: ScriptedHost) {}

  read(fd: number, address: number, length: number, offset: number, token: number): void {
    const table = one(address, length);
    this.#push(token, () => this.host.readVector(fd, table.address, 1, offset));
  }
  write(
    ...[fd, address, length, offset, flags, token]: [number, number, number, number, number, number]
  ): void {
    const table = one(address, length);
    this.#push(token, () => this.host.writeVector(fd, table.address, 1, offset, flags));
  }
  readv(fd: number, iovecs: number, count: number, offset: number, token: number): void {
    this.#push(token, () => this.host.readVector(fd, iovecs, count, offset));
  }
  writev(
    ...[fd, iovecs, count, offset, flags, token]: [number, number, number, number, number, number]
  ): void {
    this.#push(token, () => this.host.writeVector(fd, iovecs, count, offset, flags));
  }
  dataSync(fd: number, token: number): void {
    this.#push(token, () => this.host.dataSync(fd));
  }
  allocate(fd: number, mode: number, offset: number, length: number, token: number): void {
    this.#push(token, () => this.host.allocateRange(fd, mode, offset, length));
  }
  submit(): void {
    for (const { token, run } of this.#queued.splice(0)) this.#ended.push({ token, result: run() });
  }
  next(): boolean {
    const ended = this.#ended.pop();
    if (ended) Object.assign(this, ended);
    return ended !== undefined;
  }
  close(): void {}

  #push(token: number, run: () => number): void {
    this.#queued.push({ token, run });
  }
}

function one(address: number, length: number): Block {
  const table = new Block(16);
  table.view.setBigUint64(0, BigInt(address), true);
  table.view.setBigUint64(8, BigInt(length), true);
  return table;
}

/** Chores that are done by the host as they are posted, at most `room` in hand, and reported by `turn`. */
export class ScriptedChores implements Chores {
  readonly fd = -1;
  readonly #ended: { tag: number; error: number }[] = [];
  constructor(
    readonly host: ScriptedHost,
    readonly room = 1,
  ) {}

  get pending(): boolean {
    return this.#ended.length > 0;
  }

  sync(tag: number, fd: number): boolean {
    return this.#post(tag, () => this.host.dataSync(fd));
  }
  allocate(tag: number, fd: number, mode: number, offset: number, length: number): boolean {
    return this.#post(tag, () => this.host.allocateRange(fd, mode, offset, length));
  }
  zero(tag: number, fd: number, offset: number, length: number): boolean {
    return this.#post(tag, () => this.host.zero(fd, offset, length));
  }
  decompress(): boolean {
    throw new Error("test: nothing to unpack");
  }
  turn(report: (tag: number, error: number) => void): void {
    for (const { tag, error } of this.#ended.splice(0)) report(tag, error);
  }

  #post(tag: number, run: () => number): boolean {
    if (this.#ended.length >= this.room) return false;
    this.#ended.push({ tag, error: Math.max(0, -run()) });
    return true;
  }
}
