/** The last bytes of a console that nobody took yet, oldest first; when it is full the oldest go. */
import { Block } from "../../ffi/block.ts";
import { copyBetween } from "../../ffi/memory.ts";

export class Backlog {
  /** Made when it is first needed: most consoles always have somebody there. */
  #block: Block | undefined;
  #start = 0;
  #length = 0;

  constructor(readonly size: number) {}

  get length(): number {
    return this.#length;
  }

  /** Takes `length` bytes at a host address. */
  append(address: number, length: number): void {
    this.#block ??= new Block(this.size);
    const count = Math.min(length, this.size);
    const from = address + length - count;
    this.drop(Math.max(0, this.#length + count - this.size));
    const at = (this.#start + this.#length) % this.size;
    const first = Math.min(count, this.size - at);
    copyBetween(this.#block.address + at, from, first);
    copyBetween(this.#block.address, from + first, count - first);
    this.#length += count;
  }

  /** Host address of the oldest byte, and how many lie there in one piece. */
  get address(): number {
    return (this.#block?.address ?? 0) + this.#start;
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
