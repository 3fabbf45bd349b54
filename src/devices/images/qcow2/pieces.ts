/** Copies between a buffer of the host's and the pieces of memory that a slot of `Transfers` has left. */
import { copyBetween, zeroAt } from "../../../ffi/memory.ts";
import type { Transfers } from "../transfers.ts";

/** Copies `length` bytes at a host address into the slot's next pieces. */
export function scatter(transfers: Transfers, slot: number, from: number, length: number): void {
  for (let piece = 0, done = 0; done < length; piece++) {
    const size = Math.min(transfers.lengthOf(slot, piece), length - done);
    copyBetween(transfers.baseOf(slot, piece), from + done, size);
    done += size;
  }
}

/** Copies the slot's next `length` bytes to a host address. */
export function gather(transfers: Transfers, slot: number, to: number, length: number): void {
  for (let piece = 0, done = 0; done < length; piece++) {
    const size = Math.min(transfers.lengthOf(slot, piece), length - done);
    copyBetween(to + done, transfers.baseOf(slot, piece), size);
    done += size;
  }
}

/** Zeroes the slot's next `length` bytes. */
export function clear(transfers: Transfers, slot: number, length: number): void {
  for (let piece = 0, done = 0; done < length; piece++) {
    const size = Math.min(transfers.lengthOf(slot, piece), length - done);
    zeroAt(transfers.baseOf(slot, piece), size);
    done += size;
  }
}

/** Bytes of the slot's pieces, up to `most`. */
export function bytesLaid(transfers: Transfers, slot: number, most: number): number {
  let bytes = 0;
  for (let piece = 0; piece < transfers.count(slot) && bytes < most; piece++) {
    bytes += transfers.lengthOf(slot, piece);
  }
  return Math.min(bytes, most);
}
