/**
 * The one allocator for memory that the kernel is given an address of. A block is a view over an explicit ArrayBuffer
 * (whose storage never moves, unlike that of a small typed array), alive as long as the block is referenced.
 */
import { type Pointer, ptr, toArrayBuffer } from "bun:ffi";
import type { Fields, Struct, StructType } from "./struct.ts";

/** Zeroed memory with a host address that stays. */
export class Block {
  readonly buffer: ArrayBuffer;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly address: number;
  constructor(size: number) {
    this.buffer = new ArrayBuffer(size);
    this.view = new DataView(this.buffer);
    this.bytes = new Uint8Array(this.buffer);
    this.address = ptr(this.bytes);
  }
}

/** A struct in a block of its own, with room for `extra` bytes behind it (a flexible array member). */
export interface StructBlock<F extends Fields> extends Block {
  readonly fields: Struct<F>;
}

export function allocate<F extends Fields>(type: StructType<F>, extra = 0): StructBlock<F> {
  const block = new Block(type.size + extra);
  return Object.assign(block, { fields: new type(block.view) });
}

/** The host address of a SharedArrayBuffer, which never moves. */
export function sharedAddress(buffer: SharedArrayBuffer): number {
  return ptr(new Uint8Array(buffer));
}

/** A window on memory that someone else mapped: no copy. It must not outlive the mapping. */
export function windowOn(address: number, length: number): ArrayBuffer {
  return toArrayBuffer(address as Pointer, 0, length);
}
