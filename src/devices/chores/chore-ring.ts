/**
 * The ring between a device and the thread that does its chores: fixed records in shared memory, served in order.
 * Positions run freely modulo 2^32. The thread sleeps on a futex, the device on an eventfd.
 */
import { drainEventfd, signalEventfd } from "../../ffi/eventfd.ts";
import type { ChoreSpec, Chores } from "./chores.ts";

export const ChoreKind = { sync: 0, allocate: 1, deflate: 2, zstd: 3, zero: 4 } as const;

/** Chores in hand at the same time; a power of two. */
export const choreCapacity = 64;
const headerBytes = 64;
const recordDoubles = 8;
/** Words of the header; `bell` changes with whatever the thread should look at, `told` is 1 after a signal. */
const [posted, done, taken, started, bell, told] = [0, 1, 2, 3, 4, 5];
/** Doubles of a record. Host addresses and offsets are below 2^53. */
const [tagAt, kindAt, errorAt, argumentsAt] = [0, 1, 2, 3];

export const choreRingBytes = headerBytes + choreCapacity * recordDoubles * 8;

const wordsOf = (buffer: SharedArrayBuffer) => new Int32Array(buffer, 0, headerBytes / 4);
const recordsOf = (buffer: SharedArrayBuffer) => new Float64Array(buffer, headerBytes);
const recordAt = (position: number) => (position & (choreCapacity - 1)) * recordDoubles;

/** Has the thread look: there is a chore, or it has been asked something by other ways. */
export function ringBell(buffer: SharedArrayBuffer): void {
  const words = wordsOf(buffer);
  Atomics.add(words, bell, 1);
  Atomics.notify(words, bell);
}

/** The device's end. */
export class ChoreClient implements Chores {
  readonly fd: number;
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly records: Float64Array<SharedArrayBuffer>;

  /** `start` is called with the first chore: the thread is to be started. */
  constructor(
    { buffer, fd }: ChoreSpec,
    readonly start: () => void,
  ) {
    this.fd = fd;
    this.words = wordsOf(buffer);
    this.records = recordsOf(buffer);
  }

  decompress(
    tag: number,
    kind: "deflate" | "zstd",
    source: number,
    sourceLength: number,
    target: number,
    targetLength: number,
  ): boolean {
    return this.post(tag, ChoreKind[kind], source, sourceLength, target, targetLength);
  }

  sync(tag: number, fd: number): boolean {
    return this.post(tag, ChoreKind.sync, fd, 0, 0, 0);
  }

  allocate(tag: number, fd: number, mode: number, offset: number, length: number): boolean {
    return this.post(tag, ChoreKind.allocate, fd, mode, offset, length);
  }

  zero(tag: number, fd: number, offset: number, length: number): boolean {
    return this.post(tag, ChoreKind.zero, fd, offset, length, 0);
  }

  turn(report: (tag: number, error: number) => void): void {
    const { words, records } = this;
    // the descriptor first: what ends after this is signalled anew
    if (Atomics.load(words, told) === 1) {
      Atomics.store(words, told, 0);
      drainEventfd(this.fd);
    }
    const end = Atomics.load(words, done);
    let position = Atomics.load(words, taken);
    while (position !== end) {
      const at = recordAt(position);
      const tag = records[at + tagAt]!;
      const error = records[at + errorAt]!;
      position = (position + 1) | 0;
      Atomics.store(words, taken, position); // before the report, which may post the next
      report(tag, error);
    }
  }

  private post(tag: number, kind: number, a: number, b: number, c: number, d: number): boolean {
    const { words, records } = this;
    const position = Atomics.load(words, posted);
    if (((position - Atomics.load(words, taken)) | 0) >= choreCapacity) return false;
    const at = recordAt(position);
    records[at + tagAt] = tag;
    records[at + kindAt] = kind;
    records[at + argumentsAt] = a;
    records[at + argumentsAt + 1] = b;
    records[at + argumentsAt + 2] = c;
    records[at + argumentsAt + 3] = d;
    Atomics.store(words, posted, (position + 1) | 0);
    Atomics.add(words, bell, 1);
    Atomics.notify(words, bell);
    if (Atomics.exchange(words, started, 1) === 0) this.start();
    return true;
  }
}

/** The thread's end. */
export class ChoreQueue {
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly records: Float64Array<SharedArrayBuffer>;
  private readonly fd: number;

  constructor({ buffer, fd }: ChoreSpec) {
    this.fd = fd;
    this.words = wordsOf(buffer);
    this.records = recordsOf(buffer);
  }

  /** The bell as it is now: read before looking at anything, for `sleep`. */
  get bell(): number {
    return Atomics.load(this.words, bell);
  }

  /** Sleeps until the bell has rung since it read `heard`. */
  sleep(heard: number): void {
    Atomics.wait(this.words, bell, heard);
  }

  /** There is a chore: the next one's kind and arguments can be read. */
  get waiting(): boolean {
    return Atomics.load(this.words, done) !== Atomics.load(this.words, posted);
  }

  get kind(): number {
    return this.records[this.at + kindAt]!;
  }
  argument(index: number): number {
    return this.records[this.at + argumentsAt + index]!;
  }

  /** The chore has ended: 0, or an errno. */
  finish(error: number): void {
    const { words, records } = this;
    records[this.at + errorAt] = error;
    Atomics.add(words, done, 1);
    // in this order: a device that finds `told` set can drain the signal
    signalEventfd(this.fd);
    Atomics.store(words, told, 1);
  }

  private get at(): number {
    return recordAt(Atomics.load(this.words, done));
  }
}
