/**
 * What a guest receives: frames go by readv(2) from a tap's queue straight into the buffers that the driver offered,
 * the header of virtio in front (virtio 1.2 section 5.1.6.4). The length of a frame is not known before it is read: so
 * chains are taken until the frames that may come have room, and what does not fit goes into an overflow area, and from
 * there, where buffers can be merged, into the next chains that the driver offers. Chains are given back in order.
 */
import { Block } from "../../ffi/block.ts";
import { iovecBytes, putIovec } from "../../ffi/iovec.ts";
import { Errno } from "../../ffi/libc.ts";
import type { TapCalls } from "../../ffi/tap.ts";
import { frameHeader, overflowBytes, ReceiveChains, type ReceiveMemory } from "./net-chains.ts";
import {
  headerBytes,
  rxBytes,
  rxDropped,
  rxFiltered,
  rxFrames,
  VirtioNetHdr,
} from "./net-config.ts";
import type { NetFilter } from "./net-filter.ts";
import type { Virtqueue } from "./queue.ts";
import type { RateLimiter } from "./rate-limiter.ts";

/** Frames of a turn, after which it is another's. */
const turnFrames = 128;
/** After so many the driver is told of them, and goes on while the others are read. */
const tellFrames = 64;
/** Most frames that wait in a tap are far less. */
const oldFrames = 65_536;

/** Frames that came before the driver was ready are not for it: they may be of a kind that it does not take. */
export function discardFrames(fd: number, read: TapCalls["readFrame"]): void {
  const into = new Block(headerBytes);
  const iovec = new Block(iovecBytes);
  putIovec(new Uint32Array(iovec.buffer), 0, into.address, into.bytes.length);
  for (let i = 0; i < oldFrames && read(fd, iovec.address, 1) >= 0; i++);
}

/** What the queues of a device have in common. */
export interface ReceiveParts {
  /** The host looks for frames and buffers, and asks for kicks before it sleeps (see Backend). */
  readonly polls?: boolean;
  readonly filter: NetFilter;
  readonly limiter: RateLimiter;
  readonly counters: Float64Array;
  readonly read: TapCalls["readFrame"];
  /** The tap is no more. */
  lost(): void;
}

/** Bytes in the overflow area that are still to be placed, and where they begin. */
const [tail, tailAt] = [0, 1];
/** Bytes of the longest frame expected; frames are waited for (1), not buffers or tokens; there is no tap (1). */
const [longest, listening, gone] = [2, 3, 4];
/** Buffers are waited for (1), by a host that looks for them. */
const starving = 6;
/** A frame was longer than the longest that is expected (1): any may be from now on. */
const surprised = 7;
/** So many more frames are taken for long ones. */
const longAhead = 5;
/** After a long frame: room for long ones is kept at hand, at the price of longer tables of iovecs. */
const longRun = 256;
const shortBytes = headerBytes + frameHeader + 1500;
/** What came of a try: a frame was read; or there is none, no buffer for one, no token for one. */
const [moved, none, starved, throttled] = [0, 1, 2, 3];

export class NetReceiver {
  private readonly state = new Uint32Array(8);
  private readonly chains: ReceiveChains;
  private readonly mostChains: number;

  constructor(
    readonly fd: number,
    readonly queue: Virtqueue,
    /** VIRTIO_NET_F_MRG_RXBUF: a frame may go on in the next chain. */
    readonly mergeable: boolean,
    /**
     * VIRTIO_NET_F_GUEST_CSUM; without it a header's flags are zero (section 5.1.6.4.1). A tap says of packets from
     * elsewhere that their checksums were found right, whatever offloads it was told.
     */
    readonly checksums: boolean,
    readonly parts: ReceiveParts,
    readonly memory: ReceiveMemory,
  ) {
    this.chains = new ReceiveChains(queue, memory, checksums);
    this.mostChains = mergeable ? queue.size : 1;
  }

  get listening(): boolean {
    return this.state[listening] === 1;
  }

  /** Packets of up to `packetBytes` are to be expected. */
  expect(packetBytes: number): void {
    this.state[longest] = headerBytes + frameHeader + packetBytes;
  }

  /** There may be something to do: frames, or buffers for them. */
  get pending(): boolean {
    const { state } = this;
    return state[listening] === 1 || (state[starving] === 1 && this.queue.pending);
  }

  /** Before sleep: asks for a kick where buffers are waited for; false when there are some. Throws GuestFault. */
  sleep(): boolean {
    return this.state[starving] === 0 || this.queue.armKick();
  }

  /**
   * Moves frames until there are none, or no buffers, or no tokens, or it is another's turn; whether there were some.
   * Throws GuestFault.
   */
  work(): boolean {
    const { queue, state, chains, parts } = this;
    state[listening] = 0;
    state[starving] = 0;
    queue.pauseKicks();
    let frames = 0;
    try {
      while (frames < turnFrames) {
        const alone = chains.count === 0 && state[tail] === 0;
        const outcome = alone ? this.receiveAlone() : this.receive();
        if (outcome === moved) {
          if (++frames % tellFrames === 0) queue.flush();
        } else if (outcome === starved && parts.polls === true) {
          state[starving] = 1;
          return frames > 0;
        } else if (outcome === starved) {
          if (queue.armKick()) return frames > 0;
          queue.pauseKicks();
        } else if (outcome === throttled) {
          return frames > 0;
        } else {
          break;
        }
      }
      state[listening] = 1 - state[gone]!;
      return frames > 0;
    } finally {
      queue.flush();
    }
  }

  /** The queue ends here: the chains in hand are the driver's again. A frame that was half placed is lost. */
  stop(): void {
    if (this.state[tail]! > 0) this.parts.counters[rxDropped]!++;
    this.state[tail] = 0;
    this.state[listening] = 0;
    this.state[starving] = 0;
    this.chains.putBack();
  }

  /** Bytes for which there should be room. */
  private get enough(): number {
    const most = this.state[longest]!;
    return this.state[longAhead] === 0 && most > shortBytes ? shortBytes : most;
  }

  /** The way of most frames: into a chain of one segment, which is taken for this frame. No chain is in hand. */
  private receiveAlone(): number {
    const { queue, chains, memory, parts } = this;
    if (!parts.limiter.admits(1)) return throttled;
    const head = queue.next();
    if (head < 0) return starved;
    const { chain } = queue;
    const room = chain.writableBytes;
    if (chain.writable !== 1 || room < headerBytes || (this.mergeable && room < this.enough)) {
      chains.hold(head);
      return this.receive();
    }
    // a table of one iovec costs the kernel less, and is there already
    const fits = room > this.state[longest]! && this.state[surprised] === 0;
    if (!fits) chain.copyWritable(memory.pair, 0);
    const table = fits ? chain.iovecAddress(chain.readable) : memory.pairs.address;
    const length = parts.read(this.fd, table, fits ? 1 : 2);
    if (fits && length === room) return this.drop(head, length);
    if (length < headerBytes || length > room || !parts.filter.open) {
      chains.hold(head);
      return this.sort(length);
    }
    this.count(length);
    const header = chain.addressOf(chain.readable);
    if (!this.checksums) queue.windows.setUint8(header, 0);
    queue.windows.setUint16(header + VirtioNetHdr.offsets.num_buffers, 1);
    queue.complete(head, length);
    return moved;
  }

  /** Into chains in hand. */
  private receive(): number {
    const { state, chains, parts } = this;
    if (state[tail]! > 0) return this.placeTail() ? moved : starved;
    const { enough } = this;
    if (chains.bytes < enough) chains.take(enough, this.mostChains);
    if (chains.count === 0) return starved;
    if (!parts.limiter.admits(1)) return throttled;
    return this.sort(parts.read(this.fd, chains.iovecAddress, chains.iovecCount));
  }

  /** The frame in the queue's chain has perhaps been cut off. */
  private drop(head: number, length: number): number {
    const { state, chains, parts } = this;
    state[surprised] = 1;
    chains.hold(head);
    parts.limiter.spend(length - headerBytes);
    parts.counters[rxDropped]!++;
    return moved;
  }

  /** What is to become of a frame that lies in the chains in hand, and in the overflow area behind them. */
  private sort(length: number): number {
    const { state, chains, parts } = this;
    if (length < headerBytes) {
      if (length === -Errno.EBADFD) {
        state[gone] = 1;
        parts.lost();
      }
      return none;
    }
    if (!parts.filter.open && !this.wanted()) {
      parts.limiter.spend(length - headerBytes);
      parts.counters[rxFiltered]!++;
    } else if (length <= chains.bytes) {
      this.count(length);
      chains.give(length);
    } else if (!this.mergeable || length === chains.bytes + overflowBytes) {
      parts.limiter.spend(length - headerBytes);
      parts.counters[rxDropped]!++;
    } else {
      state[tail] = length - chains.bytes;
      state[tailAt] = 0;
      chains.dropIovecs();
    }
    return moved;
  }

  private count(length: number): void {
    const { state, parts } = this;
    const { counters } = parts;
    if (length > shortBytes) state[longAhead] = longRun;
    else if (state[longAhead]! > 0) state[longAhead]!--;
    parts.limiter.spend(length - headerBytes);
    counters[rxFrames]!++;
    counters[rxBytes]! += length - headerBytes;
  }

  /** Copies what is in the overflow area to further chains; false when there are not enough. */
  private placeTail(): boolean {
    const { state, queue, chains, parts, memory } = this;
    while (state[tail]! > 0) {
      if (chains.count === queue.size) {
        // the frame is longer than all that the ring can hold
        parts.counters[rxDropped]!++;
        state[tail] = 0;
        chains.putBack();
        return true;
      }
      const head = queue.next();
      if (head < 0) return false;
      const length = Math.min(state[tail]!, queue.chain.writableBytes);
      chains.fill(head, memory.overflow.address + state[tailAt]!, length);
      state[tail]! -= length;
      state[tailAt]! += length;
    }
    this.count(chains.bytes);
    chains.give(chains.bytes);
    return true;
  }

  /** Whether the filter lets the frame through that lies in the first chains. */
  private wanted(): boolean {
    this.chains.readMac();
    const { mac } = this.memory;
    return this.parts.filter.wants(mac.getUint32(0, true), mac.getUint16(4, true));
  }
}
