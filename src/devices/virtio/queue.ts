/**
 * The device's half of a split virtqueue (virtio 1.2 section 2.7), laid over the driver's rings in guest RAM. Every
 * number of the driver is read once and checked before use; what breaks the rules is a GuestFault, after which the
 * queue gives no more chains. Ring indexes go through Atomics, which also orders them against the entries.
 *
 * A device works a queue like this: `pauseKicks`, then `next` until it says -1, then `armKick`, and again while that
 * says false; `complete` for each chain in any order; `flush` after a batch.
 */
import { addressAt, Chain, descBytes, VRING_DESC_F_NEXT } from "./chain.ts";
import { GuestFault } from "./guest-fault.ts";
import type { GuestWindows } from "./guest-windows.ts";
import { maxQueueSize } from "./registers.ts";

/** Where the driver put the three parts, guest-physical, and how many entries they have. */
export interface QueueLayout {
  readonly size: number;
  readonly desc: number;
  readonly driver: number;
  readonly device: number;
}

/** Who keeps track of the chains that the device has in hand, for a device that outlives this process (vhost-user). */
export interface InFlight {
  /** Chains that were in hand before: the first that the queue gives. They are counted in `nextAvail`. */
  readonly heads: Uint16Array;
  taken(head: number): void;
  /** It was not taken after all. */
  putBack(head: number): void;
  completed(head: number): void;
  /** The used ring's index is `usedIndex` now, behind all that was completed. */
  published(usedIndex: number): void;
}

export interface QueueOptions {
  /** VIRTIO_F_INDIRECT_DESC and VIRTIO_F_EVENT_IDX, as accepted. */
  readonly indirect: boolean;
  readonly eventIndex: boolean;
  /** Indexes to go on from, for a queue that was in use before. */
  readonly nextAvail?: number;
  readonly nextUsed?: number;
  readonly inFlight?: InFlight;
  /** Tells the driver that there is something in the used ring. */
  readonly call: () => void;
}

// linux/virtio_ring.h
const VRING_AVAIL_F_NO_INTERRUPT = 1;
const VRING_USED_F_NO_NOTIFY = 1;
const availHeader = 4;
const usedHeader = 4;
const usedElementBytes = 8;
/** Both rings begin with 16-bit flags and index; the entries follow. */
const [flagsAt, indexAt, entriesAt] = [0, 1, 2];
/** Words of the queue's own state; the last two where it tracks what is in flight: chains taken again, and others. */
const [availNext, availSeen, usedNext, usedCalled, broken, resumed, fresh] = [0, 1, 2, 3, 4, 5, 6];

export class Virtqueue {
  readonly size: number;
  /** The buffers of the chain that `next` gave last. */
  readonly chain: Chain;
  private readonly desc: DataView;
  private readonly avail: Uint16Array;
  private readonly used: Uint16Array;
  private readonly usedElements: Uint32Array;
  private readonly state = new Uint16Array(7);
  private readonly indirect: boolean;
  private readonly eventIndex: boolean;
  private readonly call: () => void;
  private readonly inFlight: InFlight | undefined;

  /** Throws GuestFault when the rings are not where rings can be. */
  constructor(
    readonly windows: GuestWindows,
    readonly layout: QueueLayout,
    options: QueueOptions,
  ) {
    const { size } = layout;
    if (size < 1 || size > maxQueueSize || (size & (size - 1)) !== 0) {
      throw new GuestFault(`a queue of ${size} entries`);
    }
    this.size = size;
    this.indirect = options.indirect;
    this.eventIndex = options.eventIndex;
    this.call = options.call;
    this.inFlight = options.inFlight;
    this.chain = new Chain(windows);
    const tail = options.eventIndex ? 2 : 0;
    this.desc = new DataView(this.ring("descriptor table", layout.desc, size * descBytes, 16));
    const availBytes = availHeader + size * 2 + tail;
    this.avail = new Uint16Array(this.ring("avail ring", layout.driver, availBytes, 2));
    const usedBytes = usedHeader + size * usedElementBytes + tail;
    const used = this.ring("used ring", layout.device, usedBytes, 4);
    this.used = new Uint16Array(used);
    this.usedElements = new Uint32Array(used, usedHeader, size * 2);
    const nextAvail = options.nextAvail ?? 0;
    this.state[availNext] = nextAvail;
    this.state[availSeen] = nextAvail;
    this.state[usedNext] = options.nextUsed ?? nextAvail;
    this.state[usedCalled] = this.state[usedNext]!;
  }

  /** Index of the next avail entry to take: with `nextUsed`, where a later queue on these rings goes on. */
  get nextAvail(): number {
    return this.state[availNext]!;
  }
  get nextUsed(): number {
    return this.state[usedNext]!;
  }

  /** Takes the next chain into `chain`: its head, or -1 when there is none. Throws GuestFault. */
  next(): number {
    const { state, inFlight } = this;
    if (state[broken] !== 0) return -1;
    const again = inFlight !== undefined && state[resumed]! < inFlight.heads.length;
    if (!again && state[availNext] === state[availSeen] && !this.look()) return -1;
    const head = again ? inFlight.heads[state[resumed]!++]! : this.headAt(state[availNext]!++);
    try {
      this.walk(head);
    } catch (error) {
      state[broken] = 1;
      throw error;
    }
    if (inFlight !== undefined && !again) {
      inFlight.taken(head);
      if (state[fresh]! < maxQueueSize) state[fresh]!++; // no more are ever put back
    }
    return head;
  }

  /**
   * The last `count` chains were not taken after all, and come again. None of them, nor any later one, was completed.
   */
  putBack(count: number): void {
    const { inFlight, state } = this;
    if (inFlight === undefined) state[availNext]! -= count;
    else for (let i = 0; i < count; i++) this.putOneBack(inFlight);
  }

  private putOneBack(inFlight: InFlight): void {
    const { state } = this;
    if (state[fresh] === 0) {
      state[resumed]!--;
      return;
    }
    state[fresh]!--;
    state[availNext]!--;
    inFlight.putBack(this.headAt(state[availNext]!));
  }

  /** Gives a chain back: the device wrote `written` bytes from the start of its writable part. */
  complete(head: number, written: number): void {
    const at = (this.state[usedNext]! & (this.size - 1)) * 2;
    this.usedElements[at] = head;
    this.usedElements[at + 1] = written;
    this.state[usedNext]!++;
    if (this.inFlight !== undefined) this.inFlight.completed(head);
  }

  /** Publishes what was completed, and calls the driver if it wants to be called. */
  flush(): void {
    if (this.needsCall()) this.call();
  }

  /** Publishes what was completed since the last time; whether the driver wants to be called for it (section 2.7.7). */
  needsCall(): boolean {
    const next = this.state[usedNext]!;
    const called = this.state[usedCalled]!;
    if (next === called) return false;
    Atomics.store(this.used, indexAt, next);
    this.state[usedCalled] = next;
    if (this.inFlight !== undefined) this.inFlight.published(next);
    if (!this.eventIndex) {
      return (Atomics.load(this.avail, flagsAt) & VRING_AVAIL_F_NO_INTERRUPT) === 0;
    }
    const event = Atomics.load(this.avail, entriesAt + this.size);
    return ((next - event - 1) & 0xffff) < ((next - called) & 0xffff);
  }

  /** The device is at work: kicks are of no use for now. With the event index there is nothing to say. */
  pauseKicks(): void {
    if (!this.eventIndex) Atomics.store(this.used, flagsAt, VRING_USED_F_NO_NOTIFY);
  }

  /**
   * Asks to be kicked for the next chain (section 2.7.10). False when there is one already, which may bring no kick any
   * more: the device looks again. Throws GuestFault.
   */
  armKick(): boolean {
    const next = this.state[availNext]!;
    if (this.eventIndex) Atomics.store(this.used, entriesAt + this.size * 4, next);
    else Atomics.store(this.used, flagsAt, 0);
    return this.state[broken] !== 0 || (next === this.state[availSeen] && !this.look());
  }

  /** The driver has offered something that was not taken yet: a look, without asking for a kick. */
  get pending(): boolean {
    return Atomics.load(this.avail, indexAt) !== this.state[availNext];
  }

  /** How much that is, as the driver says: not checked. */
  get offered(): number {
    return (Atomics.load(this.avail, indexAt) - this.state[availNext]!) & 0xffff;
  }

  private headAt(index: number): number {
    return Atomics.load(this.avail, entriesAt + (index & (this.size - 1)));
  }

  /** Reads the avail index: whether there is something new. */
  private look(): boolean {
    const index = Atomics.load(this.avail, indexAt);
    const ahead = (index - this.state[availNext]!) & 0xffff;
    if (ahead > this.size) {
      this.state[broken] = 1;
      throw new GuestFault(`avail index ${index} is ${ahead} ahead in a queue of ${this.size}`);
    }
    this.state[availSeen] = index;
    return ahead !== 0;
  }

  private walk(head: number): void {
    const { chain, desc } = this;
    chain.clear();
    const at = chain.take(desc, 0, this.size, head);
    if (at >= 0) this.walkTable(at);
  }

  /** The table that the descriptor at `at` refers to; it is the last of its chain (section 2.7.5.3). */
  private walkTable(at: number): void {
    const { windows, desc } = this;
    if (!this.indirect) throw new GuestFault("an indirect descriptor that was not negotiated");
    if (desc.getUint32(at + 12, true) & VRING_DESC_F_NEXT) {
      throw new GuestFault("an indirect descriptor with a next");
    }
    const length = desc.getUint32(at + 8, true);
    if (length === 0 || length % descBytes !== 0) {
      throw new GuestFault(`an indirect table of ${length} bytes`);
    }
    const window = windows.windowOf(addressAt(desc, at), length);
    if (window < 0)
      throw new GuestFault(`an indirect table of ${length} bytes, not RAM or too long`);
    const count = (length / descBytes) | 0;
    if (this.chain.take(windows.view(window), windows.offset, count, 0) >= 0) {
      throw new GuestFault("an indirect table in another");
    }
  }

  private ring(name: string, address: number, length: number, align: number): ArrayBuffer {
    const window = address % align === 0 ? this.windows.exactly(address, length) : undefined;
    if (window) return window;
    const place = `[0x${address.toString(16)}, +0x${length.toString(16)})`;
    throw new GuestFault(`the ${name} ${place} is not RAM, or not aligned to ${align}`);
  }
}
