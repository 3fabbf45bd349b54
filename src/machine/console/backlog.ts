/** The last bytes of a console that nobody took yet, oldest first; when it is full the oldest go. */
import { Block } from "../../ffi/block.ts";

export class Backlog {
  readonly #block: Block;
  #start = 0;
  #length = 0;

  constructor(readonly size: number) {
    this.#block = new Block(size);
  }

  get length(): number {
    return this.#length;
  }

  append(data: Uint8Array): void {
    const kept = data.length > this.size ? data.subarray(data.length - this.size) : data;
    const overflow = Math.max(0, this.#length + kept.length - this.size);
    this.drop(overflow);
    const at = (this.#start + this.#length) % this.size;
    const first = Math.min(kept.length, this.size - at);
    this.#block.bytes.set(kept.subarray(0, first), at);
    this.#block.bytes.set(kept.subarray(first), 0);
    this.#length += kept.length;
  }

  /** Host address of the oldest byte, and how many lie there in one piece. */
  get address(): number {
    return this.#block.address + this.#start;
  }
  get contiguous(): number {
    return Math.min(this.#length, this.size - this.#start);
  }

  /** The oldest `count` bytes are done with. */
  drop(count: number): void {
    this.#start = (this.#start + count) % this.size;
    this.#length -= count;
  }
}
