/**
 * The buffers of one descriptor chain, as a driver offered them: a readable part, then a writable part, each a run of
 * segments that are known to lie in RAM. A queue has one of these and fills it anew for each chain, so nothing is
 * allocated. The segments are at the same time an iovec table, for readv(2) and writev(2) as they are.
 */
import { Block } from "../../ffi/block.ts";
import { iovecBytes, iovecWords, putIovec } from "../../ffi/iovec.ts";
import { GuestFault } from "./guest-fault.ts";
import type { GuestWindows } from "./guest-windows.ts";

/** Most segments of a chain: what one readv(2) takes (UIO_MAXIOV in linux/uio.h). */
export const maxSegments = 1024;
/** Most bytes of a chain (virtio 1.2 section 2.7.5). */
const maxBytes = 2 ** 32;
/** Integers: segments of each part. They index, so they are no doubles. */
const [readableCount, writableCount] = [0, 1];
/** Doubles: bytes of each part, and where in its segment the byte lies that `segmentAt` looked for. */
const [readableBytes, writableBytes, found] = [0, 1, 2];
const highUnit = 0x1_0000_0000;
const mantissa = 2 ** 52;
const highMantissa = 0xfffff;

// linux/virtio_ring.h
export const VRING_DESC_F_NEXT = 1;
const VRING_DESC_F_WRITE = 2;
const VRING_DESC_F_INDIRECT = 4;
export const descBytes = 16;

/** The address in the descriptor at byte `at`. */
export function addressAt(table: DataView, at: number): number {
  return table.getUint32(at + 4, true) * highUnit + table.getUint32(at, true);
}

const outside = (address: number, length: number) =>
  new GuestFault(`a segment of ${length} bytes at 0x${address.toString(16)}: not RAM`);

export class Chain {
  readonly iovecs = new Block(maxSegments * iovecBytes);
  private readonly words = new Uint32Array(this.iovecs.buffer);
  private readonly ints = new Int32Array(this.iovecs.buffer);
  private readonly doubles = new Float64Array(this.iovecs.buffer);
  private readonly addresses = new Float64Array(maxSegments);
  private readonly counts = new Int32Array(2);
  private readonly sums = new Float64Array(3);

  constructor(readonly windows: GuestWindows) {}

  /** Segments that the device may only read; they come first. */
  get readable(): number {
    return this.counts[readableCount]!;
  }
  /** Segments that the device may write; the first is number `readable`. */
  get writable(): number {
    return this.counts[writableCount]!;
  }
  get readableBytes(): number {
    return this.sums[readableBytes]!;
  }
  get writableBytes(): number {
    return this.sums[writableBytes]!;
  }

  /** The guest-physical address of a segment, and its length. */
  addressOf(segment: number): number {
    return this.addresses[segment]!;
  }
  lengthOf(segment: number): number {
    return this.words[segment * iovecWords + 2]!;
  }

  /** Host address of the iovecs from `segment` on. */
  iovecAddress(segment: number): number {
    return this.iovecs.address + segment * iovecBytes;
  }

  clear(): void {
    const { counts, sums } = this;
    counts[readableCount] = 0;
    counts[writableCount] = 0;
    sums[readableBytes] = 0;
    sums[writableBytes] = 0;
  }

  /**
   * Appends the segments of a table of `count` descriptors at byte `base` of a window, from descriptor `first` on.
   * Where an indirect one lies, at which it stops, comes back; -1 at the end of the chain. Throws GuestFault when a
   * segment is not RAM, out of order, or too much, and when the chain does not end. Empty segments are dropped.
   */
  take(table: DataView, base: number, count: number, first: number): number {
    const { windows, addresses, ints, doubles, counts, sums } = this;
    let readable = counts[readableCount]!;
    let writable = counts[writableCount]!;
    let toRead = sums[readableBytes]!;
    let toWrite = sums[writableBytes]!;
    let index = first;
    // a driver's chains are short: the others of a large table would only take the worker's time
    const most = Math.min(count, maxSegments);
    for (let visited = 0; visited < most; visited++) {
      if (index >= count) throw new GuestFault(`descriptor ${index} of ${count}`);
      const at = (base + index * descBytes) | 0;
      const link = table.getUint32(at + 12, true);
      const indirect = (link & VRING_DESC_F_INDIRECT) !== 0;
      if (!indirect) {
        const writes = (link & VRING_DESC_F_WRITE) !== 0;
        if (!writes && writable > 0) throw new GuestFault("a readable segment after a writable");
        const length = table.getUint32(at + 8, true);
        if (length > 0) {
          const address = addressAt(table, at);
          const host = windows.hostAddress(address, length);
          if (host < 0) throw outside(address, length);
          const segment = (readable + writable) | 0;
          if (segment >= maxSegments) throw new GuestFault(`more than ${maxSegments} segments`);
          addresses[segment] = address;
          // a sum whose low 52 bits are the address: no arithmetic on its halves
          doubles[segment * 2] = host + mantissa;
          ints[segment * iovecWords + 1]! &= highMantissa;
          ints[segment * iovecWords + 2] = length;
          if (writes) {
            writable = (writable + 1) | 0;
            toWrite += length;
          } else {
            readable = (readable + 1) | 0;
            toRead += length;
          }
          if (toRead + toWrite > maxBytes) throw new GuestFault("a chain of more than 4 GiB");
        }
      }
      if (indirect || (link & VRING_DESC_F_NEXT) === 0) {
        counts[readableCount] = readable;
        counts[writableCount] = writable;
        sums[readableBytes] = toRead;
        sums[writableBytes] = toWrite;
        return indirect ? at : -1;
      }
      index = link >>> 16;
    }
    throw new GuestFault(`a chain of more than ${most} descriptors`);
  }

  /** Little-endian, at byte `offset` of the readable part, which must reach that far; segments split it anywhere. */
  readUint32(offset: number): number {
    const segment = this.segmentAt(0, offset);
    const address = this.addressOf(segment) + this.inside;
    if (this.inside + 4 <= this.lengthOf(segment)) return this.windows.getUint32(address);
    let value = 0;
    for (let i = 0; i < 4; i++)
      value += this.windows.getUint8(this.readableAt(offset + i)) << (8 * i);
    return value >>> 0;
  }

  /** The same for as many words as `into` has: one look-up, where they lie together. */
  readWords(offset: number, into: Uint32Array): void {
    const { windows } = this;
    const segment = this.segmentAt(0, offset);
    const bytes = into.length * 4;
    const together = this.inside + bytes <= this.lengthOf(segment);
    const window = together ? windows.windowOf(this.addressOf(segment) + this.inside, bytes) : -1;
    if (window < 0) {
      for (let i = 0; i < into.length; i++) into[i] = this.readUint32(offset + 4 * i);
      return;
    }
    const view = windows.view(window);
    const at = windows.offset;
    for (let i = 0; i < into.length; i++) into[i] = view.getUint32(at + 4 * i, true);
  }

  /** The guest address of byte `offset` of the readable part, which must have it. */
  readableAt(offset: number): number {
    return this.addressOf(this.segmentAt(0, offset)) + this.inside;
  }

  /** The guest address of byte `offset` of the writable part, which must have it. */
  writableAt(offset: number): number {
    return this.addressOf(this.segmentAt(this.readable, offset)) + this.inside;
  }

  /**
   * Lays iovecs over `length` bytes of the readable or writable part from byte `skip` on, into `target` from `word` on.
   * Their number comes back; -1 when there are more than `room`. The part must reach that far.
   */
  gather(
    fromWritable: boolean,
    skip: number,
    length: number,
    target: Uint32Array,
    word: number,
    room: number,
  ): number {
    if (length === 0) return 0;
    const { words } = this;
    let segment = this.segmentAt(fromWritable ? this.readable : 0, skip);
    let inside = this.inside;
    let left = length;
    for (let count = 0; count < room; segment++) {
      const at = segment * iovecWords;
      const to = word + count * iovecWords;
      const size = Math.min(left, words[at + 2]! - inside);
      if (inside === 0) {
        // whole, or cut at its end: no arithmetic on the address
        target[to] = words[at]!;
        target[to + 1] = words[at + 1]!;
        target[to + 2] = size;
        target[to + 3] = 0;
      } else {
        putIovec(target, to, words[at + 1]! * highUnit + words[at]! + inside, size);
      }
      count++;
      left -= size;
      inside = 0;
      if (left === 0) return count;
    }
    return -1;
  }

  /** Copies the iovecs of the writable part into `target` from `word` on. */
  copyWritable(target: Int32Array, word: number): void {
    const { ints } = this;
    const from = this.readable * iovecWords;
    const count = this.writable * iovecWords;
    for (let i = 0; i < count; i++) target[word + i] = ints[from + i]!;
  }

  /** Where in its segment the byte lies that `segmentAt` looked for. */
  private get inside(): number {
    return this.sums[found]!;
  }

  private segmentAt(first: number, offset: number): number {
    let segment = first;
    let left = offset;
    while (left >= this.lengthOf(segment)) left -= this.lengthOf(segment++);
    this.sums[found] = left;
    return segment;
  }
}
