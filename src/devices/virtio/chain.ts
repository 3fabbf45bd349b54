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
const [readableCount, writableCount, readableBytes, writableBytes, found] = [0, 1, 2, 3, 4];
const highUnit = 0x1_0000_0000;

export class Chain {
  readonly iovecs = new Block(maxSegments * iovecBytes);
  private readonly words = new Uint32Array(this.iovecs.buffer);
  private readonly addresses = new Float64Array(maxSegments);
  private readonly sums = new Float64Array(5);

  constructor(readonly windows: GuestWindows) {}

  /** Segments that the device may only read; they come first. */
  get readable(): number {
    return this.sums[readableCount]!;
  }
  /** Segments that the device may write; the first is number `readable`. */
  get writable(): number {
    return this.sums[writableCount]!;
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
    this.sums.fill(0);
  }

  /** Appends a segment. Throws GuestFault when it is not RAM, out of order, or too much. Empty segments are dropped. */
  add(address: number, length: number, writable: boolean): void {
    if (!writable && this.writable > 0) throw new GuestFault("a readable segment after a writable");
    if (length === 0) return;
    const segment = this.readable + this.writable;
    if (segment === maxSegments) throw new GuestFault(`more than ${maxSegments} segments`);
    if (this.readableBytes + this.writableBytes + length > maxBytes) {
      throw new GuestFault("a chain of more than 4 GiB");
    }
    const hostAddress = this.windows.hostAddress(address, length);
    if (hostAddress < 0) {
      throw new GuestFault(`a segment of ${length} bytes at 0x${address.toString(16)}: not RAM`);
    }
    this.addresses[segment] = address;
    putIovec(this.words, segment * iovecWords, hostAddress, length);
    this.sums[writable ? writableCount : readableCount]!++;
    this.sums[writable ? writableBytes : readableBytes]! += length;
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
    let segment = this.segmentAt(fromWritable ? this.readable : 0, skip);
    let inside = this.inside;
    let left = length;
    for (let count = 0; count < room; segment++) {
      const at = segment * iovecWords;
      const size = Math.min(left, this.words[at + 2]! - inside);
      const base = this.words[at + 1]! * highUnit + this.words[at]! + inside;
      putIovec(target, word + count * iovecWords, base, size);
      count++;
      left -= size;
      inside = 0;
      if (left === 0) return count;
    }
    return -1;
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
