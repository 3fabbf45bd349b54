/**
 * The requests that a disk image has in hand, by slot: which bytes of the image, and which pieces of host memory. All
 * of it is laid out once, so that a request allocates nothing.
 */
import { Block } from "../../ffi/block.ts";
import { iovecBytes, iovecWords, putIovec } from "../../ffi/iovec.ts";

const highUnit = 0x1_0000_0000;

export class Transfers {
  /** Byte offset in the image, and how many bytes are still to be done. */
  readonly offsets: Float64Array;
  readonly left: Float64Array;
  /** The slots' iovecs: `segments` of them for each. */
  readonly words: Uint32Array;
  /** The first iovec of each slot that is not done, and how many follow from there. */
  private readonly firsts: Uint32Array;
  private readonly counts: Uint32Array;
  private readonly table: Block;

  constructor(
    readonly slots: number,
    readonly segments: number,
  ) {
    this.offsets = new Float64Array(slots);
    this.left = new Float64Array(slots);
    this.firsts = new Uint32Array(slots);
    this.counts = new Uint32Array(slots);
    this.table = new Block(slots * segments * iovecBytes);
    this.words = new Uint32Array(this.table.buffer);
  }

  /** Where in `words` the iovecs of a slot begin. */
  wordOf(slot: number): number {
    return slot * this.segments * iovecWords;
  }

  /** Says what a slot is about; `count` iovecs have been written from `wordOf(slot)` on. */
  set(slot: number, offset: number, length: number, count: number): void {
    this.offsets[slot] = offset;
    this.left[slot] = length;
    this.firsts[slot] = 0;
    this.counts[slot] = count;
  }

  /** How many iovecs are left to do, and the host address of the first. */
  count(slot: number): number {
    return this.counts[slot]!;
  }
  iovecs(slot: number): number {
    return this.table.address + (slot * this.segments + this.firsts[slot]!) * iovecBytes;
  }

  /** Host address and length of a piece of memory left to do; piece 0 is the next. */
  baseOf(slot: number, piece: number): number {
    const at = this.wordAt(slot, piece);
    return this.words[at + 1]! * highUnit + this.words[at]!;
  }
  lengthOf(slot: number, piece: number): number {
    return this.words[this.wordAt(slot, piece) + 2]!;
  }

  /** `bytes` more are done, at most what is left. */
  advance(slot: number, bytes: number): void {
    this.offsets[slot]! += bytes;
    this.left[slot]! -= bytes;
    let rest = bytes;
    while (this.counts[slot]! > 0 && rest >= this.lengthOf(slot, 0)) {
      rest -= this.lengthOf(slot, 0);
      this.firsts[slot]!++;
      this.counts[slot]!--;
    }
    if (rest === 0) return;
    const length = this.lengthOf(slot, 0) - rest;
    putIovec(this.words, this.wordAt(slot, 0), this.baseOf(slot, 0) + rest, length);
  }

  /** The memory of a slot is one buffer, over and over, for as much of what is left as there are iovecs. */
  repeat(slot: number, base: number, length: number): void {
    const word = this.wordOf(slot);
    let rest = this.left[slot]!;
    let count = 0;
    while (rest > 0 && count < this.segments) {
      const piece = Math.min(rest, length);
      putIovec(this.words, word + count * iovecWords, base, piece);
      rest -= piece;
      count++;
    }
    this.firsts[slot] = 0;
    this.counts[slot] = count;
  }

  private wordAt(slot: number, piece: number): number {
    return this.wordOf(slot) + (this.firsts[slot]! + piece) * iovecWords;
  }
}
