/**
 * A ring on files in memory: requests are done in any order and at any time, as a seed has it, and what is done is
 * recorded. From the record an image can be made as it may be after a crash.
 */
import { closeSync, openSync, readFileSync } from "node:fs";
import { openQcow2 } from "../../../src/devices/images/qcow2/open.ts";
import { windowOn } from "../../../src/ffi/block.ts";
import type { FileCalls } from "../../../src/ffi/file-vector.ts";
import type { RequestRing } from "../../../src/ffi/io-uring.ts";
import { copyFrom, copyTo } from "../../../src/ffi/memory.ts";
import { Rig, type RigOptions } from "./qcow2-rig.ts";

/** Numbers from 0 to below `n`, the same for the same seed (a multiplicative congruential generator). */
export function randomOf(seed: number): (n: number) => number {
  let state = (seed % 2147483646) + 1;
  return (n) => {
    state = (state * 48271) % 2147483647;
    return state % n;
  };
}

const EINVAL = 22; // errno.h

interface Piece {
  readonly address: number;
  readonly length: number;
}

interface Request {
  readonly kind: "read" | "write" | "sync" | "punch";
  readonly fd: number;
  readonly offset: number;
  readonly length: number;
  readonly pieces: readonly Piece[];
  readonly token: number;
  /** When it was handed over, on the record's clock, and when it may end. */
  readonly at: number;
  readonly due: number;
  readonly durable: boolean;
}

/** What happened to the image, in the order in which it was done. */
export interface Done {
  readonly kind: "write" | "punch" | "sync";
  readonly offset: number;
  /** Zeroes, for a punched hole. */
  readonly data: Uint8Array;
  /** When it was handed over, and when it was told to have ended. */
  readonly begun: number;
  readonly ended: number;
  readonly durable: boolean;
}

export class MemoryFile {
  bytes: Uint8Array;
  length: number;
  constructor(content: Uint8Array) {
    this.bytes = new Uint8Array(content); // a Buffer would share its memory with its slices
    this.length = content.length;
  }
  get content(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }
  write(offset: number, data: Uint8Array): void {
    const end = offset + data.length;
    if (end > this.bytes.length) {
      const larger = new Uint8Array(Math.max(end, 2 * this.bytes.length));
      larger.set(this.content);
      this.bytes = larger;
    }
    this.bytes.set(data, offset);
    this.length = Math.max(this.length, end);
  }
}

export interface MemoryOptions {
  /** Requests are done at once, in order. */
  readonly calm?: boolean;
  /** Results that some requests get instead: minus an errno, or fewer bytes. */
  readonly fail?: (kind: Request["kind"], offset: number, length: number) => number | undefined;
  /** Memory of transfers must be aligned to this, as with O_DIRECT. */
  readonly alignment?: number;
  /** Requests that do not end as long as this says so. */
  readonly hold?: (kind: Request["kind"], offset: number, length: number) => boolean;
}

export class MemoryRing implements RequestRing {
  readonly fd = -1;
  token = 0;
  result = 0;
  /** Ticks with each request that is handed over, and with each that ends. */
  clock = 0;
  readonly record: Done[] = [];
  #queued: Request[] = [];
  #pending: Request[] = [];

  /** The image is the file of `imageFd`; writes to another are an error of the test. */
  constructor(
    readonly files: ReadonlyMap<number, MemoryFile>,
    readonly imageFd: number,
    readonly random: (n: number) => number,
    readonly options: MemoryOptions = {},
  ) {}

  get image(): MemoryFile {
    return this.files.get(this.imageFd)!;
  }

  read(fd: number, address: number, length: number, offset: number, token: number): void {
    this.#queue("read", fd, [{ address, length }], offset, token);
  }
  write(
    ...[fd, address, length, offset, flags, token]: [number, number, number, number, number, number]
  ): void {
    this.#queue("write", fd, [{ address, length }], offset, token, flags !== 0);
  }
  readv(fd: number, iovecs: number, count: number, offset: number, token: number): void {
    this.#queue("read", fd, piecesOf(iovecs, count), offset, token);
  }
  writev(
    ...[fd, iovecs, count, offset, flags, token]: [number, number, number, number, number, number]
  ): void {
    this.#queue("write", fd, piecesOf(iovecs, count), offset, token, flags !== 0);
  }
  dataSync(fd: number, token: number): void {
    this.#queue("sync", fd, [], 0, token);
  }
  allocate(fd: number, mode: number, offset: number, length: number, token: number): void {
    if (mode !== 3) throw new Error(`fallocate mode ${mode}`);
    const request = {
      kind: "punch",
      fd,
      offset,
      length,
      pieces: [],
      token,
      durable: false,
    } as const;
    const at = ++this.clock;
    this.#queued.push({ ...request, at, due: at });
  }
  submit(): void {
    this.#pending.push(...this.#queued.splice(0));
  }
  next(): boolean {
    const pending = this.#pending;
    if (pending.length === 0) return false;
    const { calm = false, hold } = this.options;
    const held = ({ kind, offset, length }: Request) => hold?.(kind, offset, length) === true;
    const index = calm ? pending.findIndex((one) => !held(one)) : this.random(pending.length);
    if (index < 0 || held(pending[index]!)) return false;
    if (!calm && (this.random(4) === 0 || pending[index]!.due > this.clock)) {
      this.clock++;
      return false;
    }
    const [request] = pending.splice(index, 1);
    this.token = request!.token;
    this.result = this.#perform(request!);
    return true;
  }
  close(): void {}

  /** A call that is made at once. */
  call(kind: Request["kind"], fd: number, pieces: readonly Piece[], offset: number): number {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const at = ++this.clock;
    return this.#perform({
      kind,
      fd,
      pieces,
      offset,
      length,
      token: 0,
      durable: false,
      at,
      due: at,
    });
  }

  #queue(
    kind: Request["kind"],
    fd: number,
    pieces: Request["pieces"],
    offset: number,
    token: number,
    durable = false,
  ): void {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const at = ++this.clock;
    // now and then one takes long
    const due = this.random(8) === 0 ? at + this.random(100) : at;
    this.#queued.push({ kind, fd, pieces, offset, length, token, durable, at, due });
  }

  #perform(request: Request): number {
    const { kind, fd, offset, durable } = request;
    const file = this.files.get(fd);
    if (!file) throw new Error(`test: file ${fd}`);
    const { alignment = 1 } = this.options;
    const off = ({ address, length }: Piece) => address % alignment > 0 || length % alignment > 0;
    if (request.pieces.some(off)) return -EINVAL;
    const failure = this.options.fail?.(kind, offset, request.length);
    if (failure !== undefined && failure <= 0) return failure;
    const length = Math.min(request.length, failure ?? request.length);
    if (kind === "read") return readInto(file, request, length);
    if (fd !== this.imageFd) throw new Error(`test: ${kind} of file ${fd}`);
    if (offset < 0 || length < 0) throw new Error(`test: ${kind} at ${offset}`);
    const data = kind === "write" ? gathered(request, length) : new Uint8Array(length);
    if (kind === "write") file.write(offset, data);
    if (kind === "punch") file.bytes.fill(0, offset, Math.min(offset + length, file.length));
    const times = { begun: request.at, ended: ++this.clock };
    this.record.push({ kind, offset, data, durable, ...times });
    return kind === "write" ? length : 0;
  }
}

function piecesOf(iovecs: number, count: number): Request["pieces"] {
  const view = new DataView(windowOn(iovecs, count * 16));
  return Array.from({ length: count }, (_, i) => ({
    address: Number(view.getBigUint64(i * 16, true)),
    length: Number(view.getBigUint64(i * 16 + 8, true)),
  }));
}

function readInto(file: MemoryFile, { offset, pieces }: Request, most: number): number {
  let done = 0;
  for (const { address, length } of pieces) {
    const from = offset + done;
    const count = Math.min(length, most - done, Math.max(file.length - from, 0));
    copyTo(address, file.bytes.subarray(from, from + count));
    done += count;
    if (count < length) break;
  }
  return done;
}

function gathered({ pieces, length }: Request, most: number): Uint8Array {
  const data = new Uint8Array(length);
  let done = 0;
  for (const piece of pieces) {
    data.set(copyFrom(piece.address, piece.length), done);
    done += piece.length;
  }
  return data.subarray(0, most);
}

/** Whether a sector that was not durable is there after a crash: its number within a write, and the write's. */
export type Survives = (sector: number, index: number) => boolean;

/** A write that an fdatasync, which was asked for when it had ended, has made durable; by `cut` entries of the record. */
function isDurable(record: readonly Done[], cut: number): (done: Done) => boolean {
  const synced = record.slice(0, cut).filter(({ kind }) => kind === "sync");
  const last = synced.reduce((latest, { begun }) => Math.max(latest, begun), -1);
  return ({ durable, ended }) => durable || ended < last;
}

/** The writes, by number, that are not durable after `cut` entries of the record. */
export function openWrites(record: readonly Done[], cut: number): number[] {
  const safe = isDurable(record, cut);
  const all = [...record.slice(0, cut).entries()];
  return all.filter(([, done]) => done.kind !== "sync" && !safe(done)).map(([index]) => index);
}

/**
 * The image as a crash may leave it: after `cut` entries of the record, when of those that no fdatasync has made
 * durable only some are there, each sector for itself.
 */
export function afterCrash(
  start: Uint8Array,
  record: readonly Done[],
  cut: number,
  survives: Survives,
): Uint8Array {
  const file = new MemoryFile(start);
  const safe = isDurable(record, cut);
  for (const [index, done] of record.slice(0, cut).entries()) {
    const { kind, offset, data } = done;
    if (kind === "sync") continue;
    const whole = safe(done);
    for (let at = 0; at < data.length; at += 512) {
      if (!whole && !survives(at / 512, index)) continue;
      const part = data.subarray(at, at + 512);
      if (kind === "write") file.write(offset + at, part);
      else file.bytes.fill(0, offset + at, Math.min(offset + at + part.length, file.length));
    }
  }
  return file.content.slice();
}

/** Calls that are made at once, and recorded with what the ring does. */
function callsOf(ring: MemoryRing): FileCalls {
  const at = (kind: Request["kind"], fd: number, iovecs: number, count: number, offset: number) => {
    const pieces = piecesOf(iovecs, count);
    return ring.call(kind, fd, pieces, offset);
  };
  return {
    readVector: (fd, iovecs, count, offset) => at("read", fd, iovecs, count, offset),
    writeVector: (fd, iovecs, count, offset) => at("write", fd, iovecs, count, offset),
    dataSync: (fd) => ring.call("sync", fd, [], 0),
    allocateRange: () => -EINVAL,
  };
}

export interface MemoryRigOptions extends RigOptions {
  readonly memory?: MemoryOptions;
  /** The image is on a block device of so many bytes. */
  readonly limit?: number;
}

/** An image on a ring in memory: its files are read, and never written. */
export function memoryRig(
  path: string,
  random: (n: number) => number,
  options: MemoryRigOptions = {},
): { rig: Rig; ring: MemoryRing } {
  const { readonly = false, backing = true, punch = true, direct = false, limit } = options;
  const fds: number[] = [];
  const fd = openSync(path, "r");
  fds.push(fd);
  const own = (other: number) => void fds.push(other);
  try {
    let spec = openQcow2(fd, path, { readonly, direct, backing, punch, own });
    if (limit !== undefined) spec = { ...spec, write: { ...spec.write!, limit } };
    const files = new Map(
      spec.layers.map((layer) => [
        layer.fd,
        new MemoryFile(readFileSync(`/proc/self/fd/${layer.fd}`)),
      ]),
    );
    const ring = new MemoryRing(files, fd, random, options.memory);
    return { rig: new Rig(path, { ...options, spec, ring, calls: callsOf(ring) }), ring };
  } finally {
    for (const one of fds) closeSync(one);
  }
}

/** An image in memory whose requests are done in order; `options` can be changed while it runs. */
export function calmRig(path: string, memory: MemoryOptions = {}, more: MemoryRigOptions = {}) {
  const options: { -readonly [K in keyof MemoryOptions]: MemoryOptions[K] } = {
    ...memory,
    calm: true,
  };
  return { ...memoryRig(path, randomOf(1), { ...more, memory: options }), options };
}
