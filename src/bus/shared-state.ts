/**
 * The registers of a whole machine, in one SharedArrayBuffer. Every thread lays the same structs over it in the same
 * order, so the same call in each gives a view of the same bytes. A fresh buffer is all zeroes.
 */
import type { Fields, Struct, StructType } from "../ffi/struct.ts";
import { Lock } from "./lock.ts";

const cacheLine = 64;

export class SharedState {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array<SharedArrayBuffer>;
  #end = 0;

  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
  }

  /** The next struct. */
  struct<F extends Fields>(type: StructType<F>): Struct<F> {
    return new type(this.buffer, this.#take(type.size));
  }

  /** The next lock, in a cache line of its own. */
  lock(): Lock {
    return new Lock(this.#words, this.#take(cacheLine, cacheLine) / 4);
  }

  /** The next `count` 32-bit words, for Atomics. */
  words(count: number): Int32Array<SharedArrayBuffer> {
    return new Int32Array(this.buffer, this.#take(count * 4), count);
  }

  /** The next `count` doubles, for what one thread counts and others look at. */
  doubles(count: number): Float64Array<SharedArrayBuffer> {
    return new Float64Array(this.buffer, this.#take(count * 8), count);
  }

  #take(size: number, align = 8): number {
    const at = Math.ceil(this.#end / align) * align;
    this.#end = at + size;
    if (this.#end > this.buffer.byteLength) {
      throw new RangeError(`the machine's state needs more than ${this.buffer.byteLength} bytes`);
    }
    return at;
  }
}
