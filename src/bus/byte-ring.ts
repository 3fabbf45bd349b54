/**
 * A ring of bytes in shared memory between one producer and one consumer at a time (several producers take the device's
 * lock). Positions run freely modulo 2^32; the size is a power of two, so position and index never disagree.
 */
import type { ByteSource } from "./rings.ts";

const headerBytes = 64;
const writtenIndex = 0;
const readIndex = 1;
const waitingIndex = 2;

export class ByteRing implements ByteSource {
  readonly size: number;
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  readonly #header: Int32Array<SharedArrayBuffer>;

  /**
   * Over a buffer of `ByteRing.bytesFor(size)`; `wake` is called when the consumer sleeps and a byte has come. A size
   * that is no power of two is a RangeError.
   */
  constructor(
    readonly buffer: SharedArrayBuffer,
    readonly wake: () => void = () => {},
  ) {
    this.size = buffer.byteLength - headerBytes;
    if (this.size <= 0 || (this.size & (this.size - 1)) !== 0) {
      throw new RangeError(`a ring of ${this.size} bytes: not a power of two`);
    }
    this.#header = new Int32Array(buffer, 0, headerBytes / 4);
    this.bytes = new Uint8Array(buffer, headerBytes);
  }

  static bytesFor(size: number): number {
    return headerBytes + size;
  }

  /** Where `bytes` begins in the buffer. */
  static get dataOffset(): number {
    return headerBytes;
  }

  /** How many bytes wait to be read. */
  get length(): number {
    return (Atomics.load(this.#header, writtenIndex) - Atomics.load(this.#header, readIndex)) >>> 0;
  }

  get ready(): boolean {
    return this.length < this.size;
  }

  /** Appends a byte; false when the ring is full. */
  push(byte: number): boolean {
    const written = Atomics.load(this.#header, writtenIndex);
    if ((written - Atomics.load(this.#header, readIndex)) >>> 0 >= this.size) return false;
    this.bytes[(written & (this.size - 1)) >>> 0] = byte;
    Atomics.store(this.#header, writtenIndex, (written + 1) | 0);
    if (Atomics.load(this.#header, waitingIndex) === 1) this.#wakeUp();
    return true;
  }

  /** Takes the next byte; -1 when the ring is empty. */
  pop(): number {
    const read = Atomics.load(this.#header, readIndex);
    if (Atomics.load(this.#header, writtenIndex) === read) return -1;
    const byte = this.bytes[(read & (this.size - 1)) >>> 0]!;
    Atomics.store(this.#header, readIndex, (read + 1) | 0);
    return byte;
  }

  /** Index in `bytes` of the next byte to read, and how many lie there in one piece. */
  get readAt(): number {
    return (Atomics.load(this.#header, readIndex) & (this.size - 1)) >>> 0;
  }

  get contiguous(): number {
    return Math.min(this.length, this.size - this.readAt);
  }

  /** The consumer is done with `count` bytes. */
  consume(count: number): void {
    Atomics.add(this.#header, readIndex, count);
  }

  /**
   * A copy of the last `count` bytes that were written, taken or not; at most half the ring, so that a writer does
   * not come over them meanwhile. Where less was ever written there are zeroes in front.
   */
  recent(count: number): Uint8Array {
    const written = Atomics.load(this.#header, writtenIndex);
    const length = Math.min(count, this.size / 2);
    return Uint8Array.from(
      { length },
      (_, i) => this.bytes[(written - length + i) & (this.size - 1)]!,
    );
  }

  /**
   * What was written since a position (0 is the beginning), taken or not, the position to go on from, and how many
   * bytes others have come over meanwhile. For somebody who only looks.
   */
  since(position: number): { bytes: Uint8Array; position: number; lost: number } {
    const written = Atomics.load(this.#header, writtenIndex);
    const behind = (written - position) >>> 0;
    const count = Math.min(behind, this.size);
    const start = ((written - count) & (this.size - 1)) >>> 0;
    const bytes = new Uint8Array(count);
    const first = Math.min(count, this.size - start);
    bytes.set(this.bytes.subarray(start, start + first));
    bytes.set(this.bytes.subarray(0, count - first), first);
    // the writer went on while this was copied, and may have come over the oldest bytes
    const after = (Atomics.load(this.#header, writtenIndex) - written) >>> 0;
    const gone = Math.min(count, Math.max(0, after + count - this.size));
    return { bytes: bytes.subarray(gone), position: written, lost: behind - count + gone };
  }

  /** Index in `bytes` of the next byte to write, and how much room lies there in one piece: for the producer. */
  get writeAt(): number {
    return (Atomics.load(this.#header, writtenIndex) & (this.size - 1)) >>> 0;
  }

  get room(): number {
    return Math.min(this.size - this.length, this.size - this.writeAt);
  }

  /** The producer has put `count` bytes there. */
  produce(count: number): void {
    Atomics.add(this.#header, writtenIndex, count);
    if (Atomics.load(this.#header, waitingIndex) === 1) this.#wakeUp();
  }

  /** The consumer goes to sleep: false when a byte came in the meantime, and it must look again. */
  sleep(): boolean {
    Atomics.store(this.#header, waitingIndex, 1);
    if (this.length === 0) return true;
    Atomics.store(this.#header, waitingIndex, 0);
    return false;
  }

  #wakeUp(): void {
    if (Atomics.exchange(this.#header, waitingIndex, 0) === 1) this.wake();
  }
}
