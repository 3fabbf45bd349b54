/**
 * What a guest receives: frames go by readv(2) from a tap's queue straight into the buffers that the driver offered,
 * the header of virtio in front (virtio 1.2 section 5.1.6.4). Chains are taken ahead, until the longest frame that may
 * come has room in them; a frame uses up as many as it needs, and they are given back in order. The length of a frame
 * is not known before it is read: what does not fit goes into an overflow area, and from there, where buffers can be
 * merged, into the next chains that the driver offers.
 */
import { Block } from "../../ffi/block.ts";
import type { readVector } from "../../ffi/file-vector.ts";
import { iovecBytes, iovecWords, putIovec } from "../../ffi/iovec.ts";
import { Errno } from "../../ffi/libc.ts";
import { copyBetween } from "../../ffi/memory.ts";
import { maxSegments } from "./chain.ts";
import { GuestFault } from "./guest-fault.ts";
import {
  headerBytes,
  macBytes,
  rxBytes,
  rxDropped,
  rxFiltered,
  rxFrames,
  VirtioNetHdr,
} from "./net-config.ts";
import type { NetFilter } from "./net-filter.ts";
import type { Virtqueue } from "./queue.ts";
import type { RateLimiter } from "./rate-limiter.ts";

const { num_buffers } = VirtioNetHdr.offsets;
/** Ethernet's header with a VLAN tag. */
const frameHeader = 18;
const overflowBytes = headerBytes + frameHeader + 2 ** 16;
/** Iovecs of chains in hand: a read has the overflow's besides. */
const segmentsMax = maxSegments - 1;
/** Frames of a turn, after which it is another's. */
const turnFrames = 128;
/** readv(2), which has no offset. */
const noOffset = -1;
const highUnit = 0x1_0000_0000;

/** Most frames that wait in a tap are far less. */
const oldFrames = 65_536;

/** Frames that came before the driver was ready are not for it: they may be of a kind that it does not take. */
export function discardFrames(fd: number, read: typeof readVector): void {
  const into = new Block(headerBytes);
  const iovec = new Block(iovecBytes);
  putIovec(new Uint32Array(iovec.buffer), 0, into.address, into.bytes.length);
  for (let i = 0; i < oldFrames && read(fd, iovec.address, 1, noOffset) >= 0; i++);
}

/** What the queues of a device have in common. */
export interface ReceiveParts {
  readonly filter: NetFilter;
  readonly limiter: RateLimiter;
  readonly counters: Float64Array;
  readonly read: typeof readVector;
  /** The tap is no more. */
  lost(): void;
}

/** Chains in hand: the first's place, and how many; then the first and the end of their iovecs; their bytes. */
const [first, count, start, end, bytes] = [0, 1, 2, 3, 4];
/** Bytes in the overflow area that are still to be placed, and where they begin. */
const [tail, tailAt] = [5, 6];
/** Bytes of the longest frame expected; whether frames are waited for (1), not buffers or tokens; there is no tap (1). */
const [want, listening, gone] = [7, 8, 9];

export class NetReceiver {
  private readonly state = new Float64Array(10);
  private readonly iovecs = new Block(2 * maxSegments * iovecBytes);
  private readonly words = new Uint32Array(this.iovecs.buffer);
  private readonly overflow = new Block(overflowBytes);
  private readonly peek = new Block(8);
  /** By place: a chain's head, its bytes, its iovecs, and the guest addresses of `num_buffers` and of the MAC (or -1). */
  private readonly heads: Uint16Array;
  private readonly rooms: Float64Array;
  private readonly segments: Uint16Array;
  private readonly counts: Float64Array;
  private readonly counts1: Float64Array;
  private readonly macs: Float64Array;

  /** Throws GuestFault, as all that takes chains does. */
  constructor(
    readonly fd: number,
    readonly queue: Virtqueue,
    /** VIRTIO_NET_F_MRG_RXBUF: a frame may go on in the next chain. */
    readonly mergeable: boolean,
    readonly parts: ReceiveParts,
  ) {
    const { size } = queue;
    this.heads = new Uint16Array(size);
    this.rooms = new Float64Array(size);
    this.segments = new Uint16Array(size);
    this.counts = new Float64Array(size);
    this.counts1 = new Float64Array(size);
    this.macs = new Float64Array(size);
  }

  get listening(): boolean {
    return this.state[listening] === 1;
  }

  /** Packets of up to `packetBytes` are to be expected. */
  expect(packetBytes: number): void {
    this.state[want] = headerBytes + frameHeader + packetBytes;
  }

  /** Moves frames until there are none, or no buffers, or no tokens, or it is another's turn. Throws GuestFault. */
  work(): void {
    const { queue, state } = this;
    state[listening] = 0;
    queue.pauseKicks();
    try {
      for (let frames = 0; frames < turnFrames; ) {
        if (!this.ready()) {
          if (queue.armKick()) return;
          queue.pauseKicks();
        } else if (!this.parts.limiter.admits(1)) {
          return;
        } else if (this.receive()) {
          frames++;
        } else {
          break;
        }
      }
      state[listening] = 1 - state[gone]!;
    } finally {
      queue.flush();
    }
  }

  /** The queue ends here: the chains in hand are the driver's again. A frame that was half placed is lost. */
  stop(): void {
    this.state[tail] = 0;
    this.state[listening] = 0;
    this.putBack();
  }

  /** Whether the next frame can be read; if not, buffers are missing. */
  private ready(): boolean {
    if (this.state[tail]! > 0) return this.placeTail() && this.ready();
    this.fill();
    return this.state[count]! > 0;
  }

  /** Takes chains, until the longest frame has room. */
  private fill(): void {
    const { state, queue } = this;
    const most = this.mergeable ? queue.size : 1;
    while (state[bytes]! < state[want]! && state[count]! < most) {
      const head = queue.next();
      if (head < 0) return;
      if (state[end]! >= segmentsMax) this.compact();
      const at = state[end]!;
      const { writableBytes } = queue.chain;
      const room = segmentsMax - (at - state[start]!);
      const taken = queue.chain.gather(true, 0, writableBytes, this.words, at * iovecWords, room);
      if (taken < 0) {
        if (state[count] === 0) throw new GuestFault(`a receive buffer of over ${room} segments`);
        queue.putBack(1);
        return;
      }
      this.push(head, writableBytes, taken);
    }
  }

  /** The chain that the queue has just given is the last in hand. */
  private push(head: number, room: number, taken: number): void {
    const { state, queue } = this;
    const { chain } = queue;
    if (chain.writableBytes < headerBytes) {
      throw new GuestFault(`a receive buffer of ${chain.writableBytes} bytes`);
    }
    const place = (state[first]! + state[count]!) & (queue.size - 1);
    const whole = chain.lengthOf(chain.readable) >= headerBytes + macBytes;
    const at = whole ? chain.addressOf(chain.readable) : -1;
    this.heads[place] = head;
    this.rooms[place] = room;
    this.segments[place] = taken;
    this.counts[place] = whole ? at + num_buffers : chain.writableAt(num_buffers);
    this.counts1[place] = whole ? at + num_buffers + 1 : chain.writableAt(num_buffers + 1);
    this.macs[place] = whole ? at + headerBytes : -1;
    state[count]!++;
    state[bytes]! += room;
    state[end]! += taken;
  }

  private compact(): void {
    const { state, words } = this;
    words.copyWithin(0, state[start]! * iovecWords, state[end]! * iovecWords);
    state[end]! -= state[start]!;
    state[start] = 0;
  }

  /** Reads one frame; false when there is none. */
  private receive(): boolean {
    const { state, iovecs, overflow, fd, parts } = this;
    putIovec(this.words, state[end]! * iovecWords, overflow.address, overflowBytes);
    const from = iovecs.address + state[start]! * iovecBytes;
    const length = parts.read(fd, from, state[end]! - state[start]! + 1, noOffset);
    if (length < headerBytes) {
      if (length === -Errno.EBADFD) {
        state[gone] = 1;
        parts.lost();
      }
      return false;
    }
    parts.limiter.spend(length - headerBytes);
    if (!parts.filter.open && !this.wanted()) {
      parts.counters[rxFiltered]!++;
    } else if (length <= state[bytes]!) {
      this.give(length);
    } else if (!this.mergeable || length === state[bytes]! + overflowBytes) {
      parts.counters[rxDropped]!++;
    } else {
      state[tail] = length - state[bytes]!;
      state[tailAt] = 0;
      state[start] = 0;
      state[end] = 0;
    }
    return true;
  }

  /** The frame fills the first `length` bytes of the chains in hand: they go back to the driver. */
  private give(length: number): void {
    const { state, queue, rooms, parts } = this;
    const mask = queue.size - 1;
    const begin = state[first]!;
    let left = length;
    let buffers = 0;
    while (left > 0) {
      const place = (begin + buffers++) & mask;
      const filled = Math.min(left, rooms[place]!);
      queue.complete(this.heads[place]!, filled);
      state[bytes]! -= rooms[place]!;
      state[start]! += this.segments[place]!;
      left -= filled;
    }
    state[first] = (begin + buffers) & mask;
    state[count]! -= buffers;
    if (state[count] === 0) {
      state[start] = 0;
      state[end] = 0;
    }
    queue.windows.setUint8(this.counts[begin]!, buffers & 0xff);
    queue.windows.setUint8(this.counts1[begin]!, buffers >>> 8);
    parts.counters[rxFrames]!++;
    parts.counters[rxBytes]! += length - headerBytes;
  }

  /** Copies what is in the overflow area to further chains; false when there are not enough. */
  private placeTail(): boolean {
    const { state, queue, overflow, parts } = this;
    while (state[tail]! > 0) {
      if (state[count] === queue.size) {
        // the frame is longer than all that the ring can hold
        parts.counters[rxDropped]!++;
        state[tail] = 0;
        this.putBack();
        return true;
      }
      const head = queue.next();
      if (head < 0) return false;
      const { chain } = queue;
      const length = Math.min(state[tail]!, chain.writableBytes);
      this.push(head, length, 0);
      for (let done = 0, segment = chain.readable; done < length; segment++) {
        const part = Math.min(length - done, chain.lengthOf(segment));
        const to = queue.windows.hostAddress(chain.addressOf(segment), part);
        copyBetween(to, overflow.address + state[tailAt]! + done, part);
        done += part;
      }
      state[tail]! -= length;
      state[tailAt]! += length;
    }
    this.give(state[bytes]!);
    return true;
  }

  private putBack(): void {
    const { state } = this;
    this.queue.putBack(state[count]!);
    state[count] = 0;
    state[start] = 0;
    state[end] = 0;
    state[bytes] = 0;
  }

  /** Whether the filter lets the frame through that lies in the first chains. */
  private wanted(): boolean {
    const { windows } = this.queue;
    const mac = this.macs[this.state[first]!]!;
    if (mac >= 0) {
      const low = windows.getUint32(mac);
      const high = windows.getUint8(mac + 4) + windows.getUint8(mac + 5) * 256;
      return this.parts.filter.wants(low, high);
    }
    this.peekMac();
    const { view } = this.peek;
    return this.parts.filter.wants(view.getUint32(0, true), view.getUint16(4, true));
  }

  /** The MAC byte by byte, where the driver's segments cut it. */
  private peekMac(): void {
    const { words, peek } = this;
    let at = this.state[start]! * iovecWords;
    let inside = headerBytes;
    for (let i = 0; i < macBytes; i++, inside++) {
      for (; inside >= words[at + 2]!; at += iovecWords) inside -= words[at + 2]!;
      const address = words[at + 1]! * highUnit + words[at]! + inside;
      copyBetween(peek.address + i, address, 1);
    }
  }
}
