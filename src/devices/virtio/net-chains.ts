/**
 * The chains that a receive queue has taken ahead, in their order: their buffers as one table of iovecs, with the
 * overflow area behind them, and what is needed to give them back.
 */
import { Block } from "../../ffi/block.ts";
import { iovecBytes, iovecWords, putIovec } from "../../ffi/iovec.ts";
import { peek, peeked, scatter } from "../../ffi/own-memory.ts";
import { maxSegments } from "./chain.ts";
import { GuestFault } from "./guest-fault.ts";
import { headerBytes, macBytes, VirtioNetHdr } from "./net-config.ts";
import type { Virtqueue } from "./queue.ts";

/** Ethernet's header with a VLAN tag. */
export const frameHeader = 18;
export const overflowBytes = headerBytes + frameHeader + 2 ** 16;
const { num_buffers: countAt } = VirtioNetHdr.offsets;
/** Iovecs of chains in hand: a read has the overflow's besides. */
const segmentsMax = maxSegments - 1;
const highUnit = 0x1_0000_0000;
/** The first chain's place, and how many there are; the first and the end of their iovecs. */
const [first, number, start, end] = [0, 1, 2, 3];

/** What a queue reads with; one at a time may use it. */
export class ReceiveMemory {
  /** Twice what a read takes: chains move to the front once in so many frames. */
  readonly iovecs = new Block(2 * maxSegments * iovecBytes);
  readonly words = new Int32Array(this.iovecs.buffer);
  readonly overflow = new Block(overflowBytes);
  /** For a chain of one segment: its iovec, and the overflow's. */
  readonly pairs = new Block(2 * iovecBytes);
  readonly pair = new Int32Array(this.pairs.buffer);
  readonly mac = new DataView(new ArrayBuffer(macBytes));

  constructor() {
    const words = new Uint32Array(this.pairs.buffer);
    putIovec(words, iovecWords, this.overflow.address, overflowBytes);
  }
}

export class ReceiveChains {
  private readonly state = new Uint32Array(4);
  /** Bytes that the chains in hand have room for. */
  private readonly sum = new Float64Array(1);
  /**
   * By place: a chain's head, its bytes, its iovecs; where it begins in guest memory, if its first segment holds the
   * MAC.
   */
  private readonly heads: Uint16Array;
  private readonly rooms: Float64Array;
  private readonly segments: Uint16Array;
  private readonly begins: Float64Array;
  /** Otherwise the guest addresses of the two bytes of `num_buffers`. */
  private readonly counts: Float64Array;
  /** Where the header's `flags` are. */
  private readonly flags: Float64Array;

  constructor(
    readonly queue: Virtqueue,
    readonly memory: ReceiveMemory,
    /** The driver takes what a tap says of checksums. */
    readonly checksums: boolean,
  ) {
    const { size } = queue;
    this.heads = new Uint16Array(size);
    this.rooms = new Float64Array(size);
    this.segments = new Uint16Array(size);
    this.begins = new Float64Array(size);
    this.counts = new Float64Array(2 * size);
    this.flags = new Float64Array(size);
  }

  get count(): number {
    return this.state[number]!;
  }
  get bytes(): number {
    return this.sum[0]!;
  }
  /** Host address of their iovecs and the overflow's, and how many those are. */
  get iovecAddress(): number {
    return this.memory.iovecs.address + this.state[start]! * iovecBytes;
  }
  get iovecCount(): number {
    return this.segmentCount + 1;
  }

  /** The chain that the queue gave last is in hand. Throws GuestFault. */
  hold(head: number): void {
    const { state, queue, memory } = this;
    const { chain } = queue;
    if (state[end]! >= segmentsMax) this.compact();
    chain.copyWritable(memory.words, state[end]! * iovecWords);
    state[end]! += chain.writable;
    this.push(head, chain.writableBytes, chain.writable);
    this.endTable();
  }

  /** So is that chain, and its first `length` bytes are filled from a host address. Throws GuestFault. */
  fill(head: number, from: number, length: number): void {
    const { memory, queue } = this;
    this.push(head, length, 0);
    const words = new Uint32Array(memory.iovecs.buffer);
    const count = queue.chain.gather(true, 0, length, words, 0, maxSegments);
    scatter(from, length, memory.iovecs.address, count);
  }

  /** Takes chains until there is room for `enough` bytes, `most` at most. Throws GuestFault. */
  take(enough: number, most: number): void {
    const { state, queue } = this;
    while (this.sum[0]! < enough && state[number]! < most) {
      const head = queue.next();
      if (head < 0) return;
      if (state[number] !== 0 && this.segmentCount + queue.chain.writable > segmentsMax) {
        queue.putBack(1);
        return;
      }
      this.hold(head);
    }
  }

  private get segmentCount(): number {
    return this.state[end]! - this.state[start]!;
  }

  private push(head: number, room: number, taken: number): void {
    const { state, queue } = this;
    const { chain } = queue;
    if (taken > segmentsMax)
      throw new GuestFault(`a receive buffer of over ${segmentsMax} segments`);
    if (chain.writableBytes < headerBytes) {
      throw new GuestFault(`a receive buffer of ${chain.writableBytes} bytes`);
    }
    const place = (state[first]! + state[number]!) & (queue.size - 1);
    this.heads[place] = head;
    this.rooms[place] = room;
    this.segments[place] = taken;
    this.flags[place] = chain.addressOf(chain.readable); // the first byte
    if (chain.lengthOf(chain.readable) >= headerBytes + macBytes) {
      this.begins[place] = chain.addressOf(chain.readable);
    } else {
      this.begins[place] = -1;
      this.counts[2 * place] = chain.writableAt(countAt);
      this.counts[2 * place + 1] = chain.writableAt(countAt + 1);
    }
    state[number]!++;
    this.sum[0]! += room;
  }

  /** The first `length` bytes are filled, with one frame: those chains go back to the driver. */
  give(length: number): void {
    const { state, queue, rooms } = this;
    const mask = queue.size - 1;
    const begin = state[first]!;
    let left = length;
    let buffers = 0;
    while (left > 0) {
      const place = (begin + buffers++) & mask;
      const filled = Math.min(left, rooms[place]!);
      queue.complete(this.heads[place]!, filled);
      this.sum[0]! -= rooms[place]!;
      state[start]! += this.segments[place]!;
      left -= filled;
    }
    state[first] = (begin + buffers) & mask;
    state[number]! -= buffers;
    if (state[number] === 0) this.dropIovecs();
    this.writeCount(begin, buffers);
    if (!this.checksums) queue.windows.setUint8(this.flags[begin]!, 0);
  }

  /** The iovecs are of no use any more; the chains stay in hand. */
  dropIovecs(): void {
    this.state[start] = 0;
    this.state[end] = 0;
  }

  /** All chains in hand are the driver's again, as if they had not been taken. */
  putBack(): void {
    this.queue.putBack(this.state[number]!);
    this.state[number] = 0;
    this.sum[0] = 0;
    this.dropIovecs();
  }

  /** The destination of the frame that lies in the chains, into `memory.mac`. */
  readMac(): void {
    const { memory, queue } = this;
    const { windows } = queue;
    const { mac } = memory;
    const begin = this.begins[this.state[first]!]!;
    if (begin < 0) {
      this.copyMac();
      return;
    }
    mac.setUint32(0, windows.getUint32(begin + headerBytes), true);
    mac.setUint8(4, windows.getUint8(begin + headerBytes + 4));
    mac.setUint8(5, windows.getUint8(begin + headerBytes + 5));
  }

  private writeCount(place: number, buffers: number): void {
    const { windows } = this.queue;
    const begin = this.begins[place]!;
    if (begin >= 0) {
      windows.setUint16(begin + countAt, buffers);
    } else {
      windows.setUint8(this.counts[2 * place]!, buffers & 0xff);
      windows.setUint8(this.counts[2 * place + 1]!, buffers >>> 8);
    }
  }

  /** Byte by byte, where the driver's segments cut it. */
  private copyMac(): void {
    const words = new Uint32Array(this.memory.iovecs.buffer);
    let at = this.state[start]! * iovecWords;
    let inside = headerBytes;
    for (let i = 0; i < macBytes; i++, inside++) {
      for (; inside >= words[at + 2]!; at += iovecWords) inside -= words[at + 2]!;
      const address = words[at + 1]! * highUnit + words[at]! + inside;
      if (peek(address, 1)) this.memory.mac.setUint8(i, peeked.getUint8(0));
    }
  }

  private endTable(): void {
    const { words, pair } = this.memory;
    const at = this.state[end]! * iovecWords;
    for (let i = 0; i < iovecWords; i++) words[at + i] = pair[iovecWords + i]!;
  }

  private compact(): void {
    const { state, memory } = this;
    memory.words.copyWithin(0, state[start]! * iovecWords, state[end]! * iovecWords);
    state[end]! -= state[start]!;
    state[start] = 0;
  }
}
