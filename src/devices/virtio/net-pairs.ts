/**
 * The pairs of queues of a network device that one worker serves, or all of them: each begins and ends to move frames
 * as the words say that the device's workers share.
 */
import { signalEventfd } from "../../ffi/eventfd.ts";
import { NetFeature, type NetSpec, netQueueSizes } from "./net-config.ts";
import { longestPacket } from "./net-offloads.ts";
import type { QueuePair } from "./net-pair.ts";
import type { NetShared } from "./net-shared.ts";
import type { Virtqueue } from "./queue.ts";

/** Receive and transmit queues go by turns. */
const transmitQueue = 1;
export const pairOf = (queue: number): number => queue >>> 1;

/** The numbers of all queues of the device. */
export const netQueueNumbers = (spec: NetSpec): number[] => [...netQueueSizes(spec).keys()];

export class NetPairs {
  /** By number; those of other shares are not there. */
  readonly all: readonly (QueuePair | undefined)[];
  readonly share: number;
  /** By pair: frames move (1). */
  private readonly moving: Uint8Array;
  /** The version of what is shared that the pairs work by. */
  private readonly seen = new Uint32Array(1);

  constructor(
    readonly spec: NetSpec,
    readonly shared: NetShared,
    /** The device's queues that are served here, and an eventfd for each that it has. */
    readonly numbers: readonly number[],
    readonly kickFds: readonly number[],
    make: (index: number, tap: number) => QueuePair,
  ) {
    this.share = pairOf(numbers[0]!); // the first pair of a share has its number
    this.all = spec.taps.map((tap, index) =>
      numbers.includes(2 * index) ? make(index, tap) : undefined,
    );
    this.moving = new Uint8Array(this.all.length);
  }

  /** Around all that is done for the pairs: nobody changes what is shared in between. */
  begin(): void {
    this.shared.enter(this.share);
    if (this.shared.version === this.seen[0]) return;
    try {
      this.apply();
    } catch (error) {
      this.end();
      throw error;
    }
  }

  end(): void {
    this.shared.leave(this.share);
  }

  get version(): number {
    return this.seen[0]!;
  }

  /** Works by what is shared, as it is now. */
  apply(): void {
    const { shared, all, moving } = this;
    this.seen[0] = shared.version;
    const longest = longestPacket(shared.offloads, this.spec.mtu);
    const count = shared.begun ? shared.inUse : 0;
    for (let index = 0; index < all.length; index++) {
      const pair = all[index];
      if (pair === undefined) continue;
      pair.expect(longest);
      const moves = index < count && shared.present(index) ? 1 : 0;
      if (moves === moving[index]) continue;
      moving[index] = moves;
      if (moves === 1) pair.run();
      else pair.rest();
    }
  }

  /** The driver is ready, and has `usable` pairs; frames do not move yet. */
  start(
    usable: number,
    queues: readonly (Virtqueue | undefined)[],
    features: bigint,
    resumed: boolean,
  ): void {
    const mergeable = (features & (1n << BigInt(NetFeature.MRG_RXBUF))) !== 0n;
    for (let index = 0; index < usable; index++) {
      const [receive, transmit] = [queues[2 * index], queues[2 * index + transmitQueue]];
      const pair = this.all[index];
      if (!pair || !receive || !transmit) continue;
      this.shared.setPresent(index, true);
      pair.start({ receive, transmit, features, mergeable, resumed });
    }
  }

  /**
   * Frames move on the first `count` pairs, and to those alone the kernel steers them, which `attach` is to tell it;
   * false when the driver has not enabled them all.
   */
  use(count: number, attach: (index: number, attached: boolean) => void): boolean {
    const { shared } = this;
    for (let index = 0; index < count; index++) if (!shared.present(index)) return false;
    const before = shared.inUse;
    for (let index = before; index < count; index++) attach(index, true);
    shared.inUse = count;
    this.apply();
    for (let index = count; index < before; index++) attach(index, false);
    // what the driver did there so far went unheard
    for (let queue = 2 * before; queue < 2 * count; queue++) this.kicked(queue);
    return true;
  }

  /** Other shares look at what is shared, and into their queues of the first `usable` pairs. */
  wakeOthers(usable: number): void {
    if (this.shared.shares === 1) return;
    for (let queue = 0; queue < 2 * usable; queue++) {
      if (this.all[pairOf(queue)] === undefined) signalEventfd(this.kickFds[queue]!);
    }
  }

  kicked(queue: number): void {
    const pair = this.all[pairOf(queue)];
    if (queue % 2 === transmitQueue) pair?.transmit();
    else pair?.receive();
  }

  poll(): boolean {
    const { all } = this;
    let found = false;
    for (let index = 0; index < all.length; index++) {
      if (all[index]?.poll?.() === true) found = true;
    }
    return found;
  }

  sleep(): boolean {
    const { all } = this;
    for (let index = 0; index < all.length; index++) {
      if (all[index]?.sleep?.() === false) return false;
    }
    return true;
  }

  stop(): void {
    for (let index = 0; index < this.all.length; index++) {
      if (this.all[index] === undefined) continue;
      this.all[index]!.stop();
      this.shared.setPresent(index, false);
    }
    this.moving.fill(0);
  }

  close(): void {
    for (const pair of this.all) pair?.close();
  }
}
