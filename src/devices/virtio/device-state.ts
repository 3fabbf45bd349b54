/**
 * What a virtio device's two halves share: the transport's registers, written on vCPU threads under the device's lock,
 * and the words by which transport and backend hand the device to each other. virtio 1.2 sections 2.1 and 4.1.4.3.
 */
import { array, nested, type Of, struct, u8, u16, u32 } from "../../ffi/struct.ts";
import { maxQueues } from "./registers.ts";

/** One queue's registers. Addresses are guest-physical, in two halves. */
export const QueueState = struct("virtio-queue", 32, {
  size: u16,
  enable: u16,
  vector: u16,
  pad: u16,
  descLow: u32,
  descHigh: u32,
  driverLow: u32,
  driverHigh: u32,
  deviceLow: u32,
  deviceHigh: u32,
});

export const VirtioState = struct("virtio-device", 32 + maxQueues * 36, {
  status: u8,
  isr: u8,
  configGeneration: u8,
  pad: u8,
  deviceFeatureSelect: u32,
  driverFeatureSelect: u32,
  driverFeaturesLow: u32,
  driverFeaturesHigh: u32,
  configVector: u16,
  queueSelect: u16,
  /** Atomics: what the transport wants of the backend; an odd number is "run", an even one "stand still". */
  wanted: u32,
  /** Atomics: 1 when a backend found a ring broken: DEVICE_NEEDS_RESET. */
  broken: u32,
  queues: array(nested(QueueState), maxQueues),
  /** Atomics: the last `wanted` that each share's backend has reached. */
  reached: array(u32, maxQueues),
});

export type VirtioDeviceState = Of<typeof VirtioState>;

/**
 * The words of a device's state that both halves touch without its lock. A device's queues may be dealt to several
 * backends, each on a worker of its own: then each has a share, and the device is where it was asked to be when all
 * are.
 */
export class HandOver {
  private readonly words: Int32Array;
  private readonly wantedAt = VirtioState.offsets.wanted / 4;
  private readonly reachedAt = VirtioState.offsets.reached / 4;
  private readonly brokenAt = VirtioState.offsets.broken / 4;

  constructor(
    readonly state: VirtioDeviceState,
    readonly shares = 1,
  ) {
    const { buffer, byteOffset } = state.view;
    this.words = new Int32Array(buffer, byteOffset + state.at, VirtioState.size / 4);
  }

  get wanted(): number {
    return Atomics.load(this.words, this.wantedAt);
  }

  /** Asks the backend to run or to stand still: a new number each time. */
  want(run: boolean): void {
    const next = this.wanted + 1;
    Atomics.store(this.words, this.wantedAt, (next & 1) === (run ? 1 : 0) ? next : next + 1);
  }

  /** Every backend is where it was last asked to be. */
  get settled(): boolean {
    for (let share = 0; share < this.shares; share++) if (!this.hasReached(share)) return false;
    return true;
  }

  hasReached(share: number): boolean {
    return Atomics.load(this.words, this.reachedAt + share) === this.wanted;
  }

  reach(wanted: number, share = 0): void {
    Atomics.store(this.words, this.reachedAt + share, wanted);
    Atomics.notify(this.words as Int32Array<SharedArrayBuffer>, this.reachedAt + share);
  }

  /** Waits until every backend has reached what was wanted; false after `timeoutMs`. No lock may be held. */
  waitSettled(timeoutMs: number): boolean {
    const words = this.words as Int32Array<SharedArrayBuffer>;
    for (let share = 0; share < this.shares; share++) {
      const at = this.reachedAt + share;
      for (;;) {
        const reached = Atomics.load(words, at);
        if (reached === this.wanted) break;
        if (Atomics.wait(words, at, reached, timeoutMs) === "timed-out") return false;
      }
    }
    return this.settled;
  }

  get broken(): boolean {
    return Atomics.load(this.words, this.brokenAt) !== 0;
  }
  set broken(value: boolean) {
    Atomics.store(this.words, this.brokenAt, value ? 1 : 0);
  }

  /** A ring is broken; false when that was known already. */
  breaks(): boolean {
    return Atomics.exchange(this.words, this.brokenAt, 1) === 0;
  }
}
