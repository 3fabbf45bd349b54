/**
 * What the shares of a network device have in common when its pairs of queues are dealt to several workers: which pairs
 * frames move on, what the driver takes of frames, and a lock for each share. A share does all of its work under its
 * lock; commands of the driver are done under the locks of all, so that what follows one was done by its rules. Shares
 * that have something to do then are woken by the kicks of their queues.
 */
import { Lock } from "../../bus/lock.ts";
import { maxPairs, type NetSharedSpec } from "./net-config.ts";
import { filterBytes, NetFilter } from "./net-filter.ts";

/**
 * Places of words. Pairs in use; the tap is gone (1); the share with the control queue has begun (1); offloads of what
 * the guest receives, as feature bits; how often any of that has changed.
 */
const [inUse, gone, begun, offloads, version] = [0, 1, 2, 3, 4];
/** By pair: the driver has enabled its queues (1); the kernel steers no frames to its queue of the tap (1). */
const present = 8;
const detached = present + maxPairs;
/** By share: it has begun, too (1); its lock. */
const ready = detached + maxPairs;
const locks = ready + maxPairs;
const words = locks + maxPairs;
const netSharedBytes = filterBytes + words * Int32Array.BYTES_PER_ELEMENT;

/** For `shares` workers, in memory that they share. */
export function netShared(shares: number): NetSharedSpec {
  return { shares, buffer: new SharedArrayBuffer(netSharedBytes) };
}

export class NetShared {
  readonly shares: number;
  readonly filter: NetFilter;
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly locks: readonly Lock[];

  constructor({ shares, buffer }: NetSharedSpec = netShared(1)) {
    this.shares = shares;
    this.filter = new NetFilter(buffer);
    this.words = new Int32Array(buffer, filterBytes, words);
    this.locks = Array.from({ length: shares }, (_, share) => new Lock(this.words, locks + share));
  }

  /** A share begins with some work. */
  enter(share: number): void {
    this.locks[share]!.acquire();
  }
  leave(share: number): void {
    this.locks[share]!.release();
  }

  /** No share works until `leaveAll`. Who has entered as a share must not. */
  enterAll(): void {
    for (let share = 0; share < this.shares; share++) this.locks[share]!.acquire();
  }
  leaveAll(): void {
    for (let share = this.shares - 1; share >= 0; share--) this.locks[share]!.release();
  }

  /** Another number each time that something has changed. */
  get version(): number {
    return this.load(version) >>> 0;
  }

  get inUse(): number {
    return this.load(inUse);
  }
  set inUse(count: number) {
    this.change(inUse, count);
  }
  get begun(): boolean {
    return this.load(begun) === 1;
  }
  set begun(value: boolean) {
    this.change(begun, value ? 1 : 0);
  }
  get offloads(): number {
    return this.load(offloads);
  }
  set offloads(bits: number) {
    this.change(offloads, bits);
  }

  get gone(): boolean {
    return this.load(gone) === 1;
  }
  /** The tap is gone; false when that was known. */
  lose(): boolean {
    return Atomics.exchange(this.words, gone, 1) === 0;
  }

  present(pair: number): boolean {
    return this.load(present + pair) === 1;
  }
  setPresent(pair: number, value: boolean): void {
    Atomics.store(this.words, present + pair, value ? 1 : 0);
  }

  attached(pair: number): boolean {
    return this.load(detached + pair) === 0;
  }
  setAttached(pair: number, value: boolean): void {
    Atomics.store(this.words, detached + pair, value ? 0 : 1);
  }

  setReady(share: number, value: boolean): void {
    Atomics.store(this.words, ready + share, value ? 1 : 0);
  }
  /** Every share has begun. */
  get ready(): boolean {
    for (let share = 0; share < this.shares; share++) {
      if (this.load(ready + share) === 0) return false;
    }
    return true;
  }

  private load(place: number): number {
    return Atomics.load(this.words, place);
  }

  private change(place: number, value: number): void {
    Atomics.store(this.words, place, value);
    Atomics.add(this.words, version, 1);
  }
}
