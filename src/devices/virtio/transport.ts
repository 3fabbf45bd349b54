/**
 * The half of a virtio device that every transport has in common (virtio 1.2, chapters 2 and 3): status ladder,
 * features, queue registers, configuration space. It runs on vCPU threads under the device's lock and knows nothing of
 * disks, networks or PCI; what moves data is the backend, on an I/O worker, which is asked by way of the hand-over
 * words.
 */
import { HandOver, type VirtioDeviceState } from "./device-state.ts";
import { Feature, maxQueueSize, maxQueues, noVector, Status } from "./registers.ts";

/** What a device is, as plain data: the same in every thread. */
export interface VirtioIdentity {
  readonly type: number;
  /** Feature bits offered, in halves. VERSION_1 and the ring's features are among them. */
  readonly featuresLow: number;
  readonly featuresHigh: number;
  /** The most entries of each queue. */
  readonly queueSizes: readonly number[];
}

/** Configuration space, and which of its bytes the driver may change. */
export interface ConfigSpace {
  /** In shared memory. */
  readonly bytes: Uint8Array;
  /** As long as `bytes`: 1 where the driver may write, and what is there after a reset. */
  readonly writable: Uint8Array;
  readonly initial: Uint8Array;
}

const version1High = 2 ** (Feature.VERSION_1 - 32);

export class VirtioTransport {
  readonly handOver: HandOver;

  constructor(
    readonly state: VirtioDeviceState,
    readonly identity: VirtioIdentity,
    readonly config: ConfigSpace,
    /** Wakes the workers that have the backends. */
    readonly wake: () => void,
    /** How many backends share the queues. */
    shares = 1,
  ) {
    for (const size of identity.queueSizes) {
      if (size < 1 || size > maxQueueSize || !Number.isInteger(Math.log2(size))) {
        throw new RangeError(`virtio: a queue of ${size} entries`);
      }
    }
    if (identity.queueSizes.length > maxQueues || shares > maxQueues)
      throw new RangeError("virtio: too many queues");
    this.handOver = new HandOver(state, shares);
  }

  /** As after power-on; the backend must stand still. */
  powerOn(): void {
    this.clear();
    this.handOver.broken = false;
    this.state.configGeneration = 0;
  }

  /** Zero only when the backend stands still; a broken ring shows as DEVICE_NEEDS_RESET. */
  readStatus(): number {
    const status = this.state.status;
    if (status === 0) return this.handOver.settled ? 0 : Status.ACKNOWLEDGE;
    return this.handOver.broken ? status | Status.NEEDS_RESET : status;
  }

  writeStatus(value: number): void {
    if (value === 0) this.reset();
    else if (this.state.status !== 0 || this.handOver.settled) this.climb(value);
  }

  /** Asks the backend to stand still; the registers are as after power-on at once. */
  private reset(): void {
    const running = (this.handOver.wanted & 1) === 1;
    this.clear();
    if (!running) return;
    this.handOver.want(false);
    this.wake();
  }

  private clear(): void {
    const state = this.state;
    state.status = 0;
    state.isr = 0;
    state.deviceFeatureSelect = 0;
    state.driverFeatureSelect = 0;
    state.driverFeaturesLow = 0;
    state.driverFeaturesHigh = 0;
    state.configVector = noVector;
    state.queueSelect = 0;
    const { bytes, writable, initial } = this.config;
    for (let at = 0; at < bytes.length; at++) if (writable[at] === 1) bytes[at] = initial[at]!;
    for (const [index, size] of this.identity.queueSizes.entries()) {
      const queue = state.queues.get(index);
      queue.size = size;
      queue.enable = 0;
      queue.vector = noVector;
      queue.descLow = queue.descHigh = 0;
      queue.driverLow = queue.driverHigh = 0;
      queue.deviceLow = queue.deviceHigh = 0;
    }
  }

  /** Takes each rung that a write newly reaches, in order; the first that is refused ends the climb (section 3.1.1). */
  private climb(value: number): void {
    const state = this.state;
    // the backend stands still: nothing can break now
    if (state.status === 0) this.handOver.broken = false;
    if (value & Status.FAILED) state.status |= Status.FAILED;
    if (state.status & Status.FAILED) return; // until a reset
    for (const rung of [Status.ACKNOWLEDGE, Status.DRIVER, Status.FEATURES_OK, Status.DRIVER_OK]) {
      if (state.status & rung) continue;
      if (!(value & rung)) return;
      if (rung === Status.FEATURES_OK && !this.featuresAreGood()) return;
      state.status |= rung;
      if (rung === Status.DRIVER_OK) this.start();
    }
  }

  private start(): void {
    this.handOver.want(true);
    this.wake();
  }

  /** Nothing that was not offered, and VERSION_1: there is no legacy interface (section 6.1). */
  private featuresAreGood(): boolean {
    const { driverFeaturesLow: low, driverFeaturesHigh: high } = this.state;
    const { featuresLow, featuresHigh } = this.identity;
    if ((low & ~featuresLow) !== 0 || (high & ~featuresHigh) !== 0) return false;
    return (high & version1High) !== 0;
  }

  deviceFeatures(select: number): number {
    if (select === 0) return this.identity.featuresLow >>> 0;
    return select === 1 ? this.identity.featuresHigh >>> 0 : 0;
  }

  get driverFeatures(): number {
    const { driverFeatureSelect: select } = this.state;
    if (select === 0) return this.state.driverFeaturesLow;
    return select === 1 ? this.state.driverFeaturesHigh : 0;
  }

  /** Features are settled once FEATURES_OK is. */
  set driverFeatures(value: number) {
    const { status, driverFeatureSelect: select } = this.state;
    if (status & Status.FEATURES_OK) return;
    if (select === 0) this.state.driverFeaturesLow = value;
    else if (select === 1) this.state.driverFeaturesHigh = value;
  }

  /** The selected queue's registers; undefined when there is no such queue. */
  get queue(): ReturnType<VirtioDeviceState["queues"]["get"]> | undefined {
    const { queueSelect } = this.state;
    if (queueSelect >= this.identity.queueSizes.length) return undefined;
    return this.state.queues.get(queueSelect);
  }

  /** A queue's size and addresses can be set until it is enabled. */
  get openQueue(): ReturnType<VirtioDeviceState["queues"]["get"]> | undefined {
    const queue = this.queue;
    return queue && queue.enable === 0 ? queue : undefined;
  }

  setQueueSize(size: number): void {
    const most = this.identity.queueSizes[this.state.queueSelect] ?? 0;
    const queue = this.openQueue;
    const powerOfTwo = size > 0 && (size & (size - 1)) === 0;
    if (queue && powerOfTwo && size <= most) queue.size = size;
  }

  /** Writing 1 enables; on PCI there is no way back but a reset (section 4.1.4.3.2). */
  enableQueue(value: number): void {
    const queue = this.openQueue;
    if (queue && value === 1 && (this.state.status & Status.DRIVER_OK) === 0) queue.enable = 1;
  }

  /** For mmio, where a driver may take a queue back that the backend does not have yet (section 4.2.2.2). */
  disableQueue(): void {
    const queue = this.queue;
    if (queue && (this.state.status & Status.DRIVER_OK) === 0) queue.enable = 0;
  }

  readConfig(offset: number): number {
    return this.config.bytes[offset] ?? 0;
  }

  writeConfig(offset: number, value: number): void {
    if (this.config.writable[offset] === 1) this.config.bytes[offset] = value;
  }
}
