/**
 * The block device's backend (virtio 1.2 section 5.2): its queues, the image behind them, and how they start and stop.
 */
import { createEventfd, drainEventfd, signalEventfd } from "../../ffi/eventfd.ts";
import { close } from "../../ffi/file.ts";
import { IoUring, type RequestRing } from "../../ffi/io-uring.ts";
import { errnoName, SystemError } from "../../ffi/libc.ts";
import type { Chores } from "../chores/chores.ts";
import type { DiskImage, ImageClient } from "../images/disk-image.ts";
import { Qcow2Image } from "../images/qcow2/image.ts";
import { extraRequests } from "../images/qcow2/lists.ts";
import { RawImage } from "../images/raw.ts";
import { Transfers } from "../images/transfers.ts";
import { type Backend, type BackendHost, tellFailure } from "./backend.ts";
import {
  BlockFeature,
  type BlockSpec,
  BlockStatus,
  blockCounters,
  idBytes,
  queueDepth,
  readCapacity,
  segMax,
  VirtioBlkConfig,
} from "./block-config.ts";
import { type BlockParts, BlockQueue } from "./block-queue.ts";
import type { Virtqueue } from "./queue.ts";
import { RateLimiter } from "./rate-limiter.ts";
import { SectorGuard } from "./sector-guard.ts";

const epollIn = 1;
/** The driver hears in portions of requests that end together: it goes on while this thread looks at the others. */
const toldRequests = 8;
/** Flags of the backend: what the driver accepted, and where it stands. */
const [wceChosen, alwaysDurable, discardChosen, zeroesChosen, stopping, warned, turnOver] = [
  0, 1, 2, 3, 4, 5, 6,
];

/**
 * Makes the image of a disk. The ring, if there is one, has the entries that it needs and is the image's from now on;
 * `chores` may be called once.
 */
export type ImageOpener = (
  spec: BlockSpec,
  transfers: Transfers,
  client: ImageClient,
  ring: RequestRing | undefined,
  chores: () => Chores,
) => DiskImage;

const openFile: ImageOpener = ({ fd, direct, qcow2 }, transfers, client, ring, chores) =>
  qcow2
    ? new Qcow2Image(qcow2, transfers, client, ring, chores())
    : new RawImage(fd, transfers, client, ring ?? chores(), direct);

export class BlockBackend implements Backend, ImageClient, BlockParts {
  readonly transfers: Transfers;
  readonly image: DiskImage;
  readonly id = new Uint8Array(idBytes);
  readonly limiter: RateLimiter;
  readonly guard: SectorGuard | undefined;
  /** An eventfd that is written to have the queues go on in the worker's next round. */
  private readonly nextTurn = createEventfd();
  /** By number; those that are not served here, or that the driver has not enabled, are not there. */
  private readonly queues: (BlockQueue | undefined)[] = [];
  private readonly flags = new Uint8Array(7);
  /** One number: sectors that the disk has, as far as this worker knows. It may have grown since. */
  private readonly sectors = new Float64Array(1);
  private readonly depth: number;
  /** How many requests have ended, and had when `poll` looked last. */
  private readonly endings = new Uint32Array(2);
  /** Who waits for the requests in hand to end, of all queues or of one. */
  private readonly quiet: (() => void)[] = [];
  private readonly leaving: { readonly index: number; readonly quiet: () => void }[] = [];

  /** `config` is configuration space in shared memory, `counters` where to count (see BlockCounter). */
  constructor(
    readonly spec: BlockSpec,
    readonly host: BackendHost,
    readonly config: Uint8Array,
    readonly counters: Float64Array = new Float64Array(blockCounters),
    openImage: ImageOpener = openFile,
    /** Those of the device's queues that this backend serves, by number. */
    readonly numbers: readonly number[] = Array.from({ length: spec.queues }, (_, index) => index),
  ) {
    this.depth = queueDepth(spec.queueSize);
    this.sectors[0] = spec.sectors;
    const slots = numbers.length * this.depth;
    this.transfers = new Transfers(slots, segMax(spec.queueSize) + 2);
    this.id.set(new TextEncoder().encode(spec.serial).subarray(0, idBytes));
    const ring = this.openRing(slots + (spec.qcow2 ? extraRequests : 0));
    this.image = openImage(spec, this.transfers, this, ring, () => host.chores());
    for (const fd of this.fds) host.watch(fd, epollIn, () => this.goOn());
    host.watch(this.nextTurn, epollIn, () => {
      drainEventfd(this.nextTurn);
      this.goOn();
    });
    this.limiter = new RateLimiter(spec.limits, host, () => this.goOn());
    const warn = (text: string) => host.warn(text);
    if (spec.guarded) this.guard = new SectorGuard(this.transfers, spec.blockSize, warn);
  }

  start(queues: readonly (Virtqueue | undefined)[], features: bigint): void {
    const has = (bit: number) => ((features >> BigInt(bit)) & 1n) === 1n;
    const { flags } = this;
    const wce = has(BlockFeature.CONFIG_WCE);
    flags[wceChosen] = wce ? 1 : 0;
    // a driver that cannot flush gets a disk that need not be flushed (section 5.2.6.2)
    const durable = !has(BlockFeature.FLUSH) || (!wce && !this.spec.writeback);
    flags[alwaysDurable] = durable ? 1 : 0;
    // and a switch that says so (section 5.2.5.2)
    if (wce && !has(BlockFeature.FLUSH)) Atomics.store(this.config, VirtioBlkConfig.offsets.wce, 0);
    flags[discardChosen] = has(BlockFeature.DISCARD) ? 1 : 0;
    flags[zeroesChosen] = has(BlockFeature.WRITE_ZEROES) ? 1 : 0;
    flags[stopping] = 0;
    for (const index of this.numbers) {
      const queue = queues[index];
      if (queue) this.startQueue(index, queue);
      else this.queues[index] = undefined;
    }
  }

  startQueue(index: number, queue: Virtqueue): void {
    const first = this.numbers.indexOf(index) * this.depth;
    this.queues[index] = new BlockQueue(queue, first, this.depth, this);
  }

  stopQueue(index: number, quiet: () => void): boolean {
    if (this.queues[index]?.busy) {
      this.leaving.push({ index, quiet });
      return false;
    }
    this.queues[index] = undefined;
    return true;
  }

  kicked(index: number): void {
    if (!this.works(index)) return;
    try {
      this.queues[index]!.work();
    } finally {
      this.settle();
    }
  }

  poll(): boolean {
    const { flags, endings, queues } = this;
    let found = false;
    try {
      this.image.turn();
      const goesOn = endings[0] !== endings[1] || flags[turnOver] === 1;
      flags[turnOver] = 0;
      found = goesOn;
      for (let index = 0; index < queues.length; index++) {
        if (!this.works(index)) continue;
        const queue = queues[index]!;
        if (queue.waits ? !goesOn || !queue.canGoOn : !queue.queue.pending) continue;
        found = true;
        queue.work();
      }
    } finally {
      if (found) this.settle();
      endings[1] = endings[0]!;
    }
    return found;
  }

  sleep(): boolean {
    const { queues } = this;
    if (this.flags[turnOver] === 1) return false;
    for (let index = 0; index < queues.length; index++) {
      // a queue that waits is gone on with when what it waits for is there
      if (!this.works(index) || queues[index]!.waits) continue;
      if (!queues[index]!.queue.armKick()) return false;
    }
    return true;
  }

  stop(quiet: () => void): boolean {
    this.flags[stopping] = 1;
    this.leaving.length = 0;
    this.limiter.cancel();
    if (this.busy) {
      this.quiet.push(quiet);
      return false;
    }
    this.queues.fill(undefined);
    return true;
  }

  close(): void {
    for (const fd of this.fds) this.host.unwatch(fd);
    this.image.close();
    this.limiter.close();
    this.host.unwatch(this.nextTurn);
    close(this.nextTurn);
  }

  ended(slot: number, error: number): void {
    if (error !== 0 && this.flags[warned] === 0) {
      this.flags[warned] = 1;
      tellFailure(this.host, `the image gives I/O errors; the first is ${errnoName(error)}`);
    }
    this.endings[0]!++;
    const queue = this.queues[this.numbers[Math.floor(slot / this.depth)]!]!;
    queue.finish(slot, error === 0 ? BlockStatus.OK : BlockStatus.IOERR);
    if (this.endings[0]! % toldRequests === 1) queue.queue.flush();
  }

  warn(text: string): void {
    this.host.warn(text);
  }

  again(): void {
    if (this.host.polls) this.flags[turnOver] = 1;
    else signalEventfd(this.nextTurn);
  }

  get alone(): boolean {
    return this.host.polls === true || this.host.alone === true;
  }

  get inFlight(): boolean {
    return this.busy;
  }

  get durable(): boolean {
    if (this.flags[alwaysDurable] === 1) return true;
    if (this.flags[wceChosen] === 0) return false;
    return Atomics.load(this.config, VirtioBlkConfig.offsets.wce) === 0;
  }

  /** A disk only grows: what lay within it once always does, and only what does not is worth a look. */
  holds(sector: number, count: number): boolean {
    const end = sector + count;
    if (end <= this.sectors[0]!) return true;
    this.sectors[0] = Math.max(this.sectors[0]!, readCapacity(this.config));
    return end <= this.sectors[0]!;
  }

  get discards(): boolean {
    return this.flags[discardChosen] === 1;
  }

  get zeroes(): boolean {
    return this.flags[zeroesChosen] === 1;
  }

  /** Throws GuestFault, as `kicked` does: queues that waited, for whatever it was, go on. */
  private goOn(): void {
    try {
      this.image.turn();
      if (this.flags[stopping] === 1) return;
      for (let index = 0; index < this.queues.length; index++) {
        if (this.works(index) && this.queues[index]!.canGoOn) this.queues[index]!.work();
      }
    } finally {
      this.settle();
    }
  }

  /** What has begun goes its way, also when a chain was broken behind it; and who waits for the end of that is told. */
  private settle(): void {
    this.image.turn();
    this.flush();
    if (this.flags[stopping] === 1 || this.leaving.length > 0) this.letGo();
  }

  /** Tells those who wait for requests to end, if they have. */
  private letGo(): void {
    if (this.flags[stopping] === 1 && !this.busy) {
      this.queues.fill(undefined);
      this.quiet.pop()?.();
    }
    for (let i = this.leaving.length - 1; i >= 0; i--) {
      const { index, quiet } = this.leaving[i]!;
      if (this.queues[index]?.busy) continue;
      this.leaving.splice(i, 1);
      this.queues[index] = undefined;
      quiet();
    }
  }

  /** The queue is there, and takes new requests. */
  private works(index: number): boolean {
    if (this.flags[stopping] === 1 || this.queues[index] === undefined) return false;
    return this.leaving.length === 0 || this.leaving.every((one) => one.index !== index);
  }

  /** What tells that `turn` has something to do. */
  private get fds(): readonly number[] {
    const { fd, otherFd = fd } = this.image;
    return [...new Set([fd, otherFd])].filter((one) => one >= 0);
  }

  private get busy(): boolean {
    for (let index = 0; index < this.queues.length; index++) {
      if (this.queues[index]?.busy) return true;
    }
    return false;
  }

  private flush(): void {
    for (let index = 0; index < this.queues.length; index++) this.queues[index]?.queue.flush();
  }

  private openRing(entries: number): IoUring | undefined {
    if (!this.spec.uring) return undefined;
    const ring = IoUring.open(entries);
    if (!(ring instanceof SystemError)) return ring;
    this.host.warn(`no io_uring (${ring.message}): preadv2 and pwritev2 are used`);
    return undefined;
  }
}
