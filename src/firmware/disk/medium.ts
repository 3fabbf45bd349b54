/** What a file system or a partition table lies on: bytes that can be read, and an end. Nothing here ever writes. */

/** The disk does not hold what it should, or holds what chv does not read: a line for the user. */
export class DiskError extends Error {
  override readonly name = "DiskError";
}

export interface Medium {
  /** In bytes. */
  readonly size: number;
  /**
   * `length` bytes from `offset` on, all of them, in memory of the caller's own. Throws DiskError beyond the end, and
   * where the disk cannot be read.
   */
  read(offset: number, length: number): Uint8Array;
}

/** What follows of a part that is longer than the whole. */
export const isCutShort = "is the image cut short?";

/** The same, as far as `most` bytes are read of it in all: a disk can have chv read the same for ever. */
export function metered(whole: Medium, most: number): Medium {
  let left = most;
  return {
    size: whole.size,
    read(offset, length) {
      checkRange(whole.size, offset, length);
      left -= length;
      if (left < 0) throw new DiskError(`more than ${most} bytes are to be read of the disk`);
      return whole.read(offset, length);
    },
  };
}

/** A part of a medium as one of its own. One that ends outside the whole is an error when it is read. */
export function part(whole: Medium, start: number, size: number): Medium {
  return {
    size,
    read(offset, length) {
      if (start + size > whole.size) {
        throw new DiskError(`ends behind the end of the disk; ${isCutShort}`);
      }
      checkRange(size, offset, length);
      return whole.read(start + offset, length);
    },
  };
}

/** Numbers of a disk are hostile: every reader checks them here. */
export function checkRange(size: number, offset: number, length: number): void {
  if (offset >= 0 && length >= 0 && offset + length <= size) return;
  throw new DiskError(`bytes ${offset} to ${offset + length} of a medium of ${size}`);
}

/** A DataView over bytes as they lie. */
export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
