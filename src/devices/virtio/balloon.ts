/**
 * The memory balloon's backend (virtio 1.2 section 5.5): pages that the driver puts into the balloon, or reports as
 * free, go back to the host; the guest finds zeroes, or what the file behind its RAM has there, when it uses them
 * again.
 *
 * Page numbers come one by one and are gathered into runs. A driver may name as many as it likes: they are worked off
 * `turnPages` at a time between the worker's other work. What is no RAM, persistent memory among it, is counted as an
 * error and left alone.
 */
import { armTimerfd, createTimerfd, Epoll } from "../../ffi/epoll.ts";
import { drainEventfd } from "../../ffi/eventfd.ts";
import { close } from "../../ffi/file.ts";
import { SystemError } from "../../ffi/libc.ts";
import { Madvise, madvise } from "../../ffi/memory.ts";
import type { Backend, BackendHost } from "./backend.ts";
import { BalloonCounters, type BalloonSpec, balloonPageBytes } from "./balloon-config.ts";
import type { Virtqueue } from "./queue.ts";

/** 16 MiB: about a millisecond to give back in one piece. A whole number of granules. */
const turnPages = 4096;
/** What a piece costs beside its pages, in pages. */
const piecePages = 8;
const pfnBytes = 4;
const [inflate, deflate] = [0, 1];
const [inflateOps, inflateBytes, deflateOps, deflateBytes] = [0, 1, 2, 3];
const [reportOps, reportBytes, returnedBytes, errors] = [4, 5, 6, 7];
/** Numbers of the backend: pages left in this turn, the run that is being gathered (in pages), 1 when it has warned. */
const [left, runStart, runLength, warned] = [0, 1, 2, 3];

export class BalloonBackend implements Backend {
  private readonly queues: (Virtqueue | undefined)[] = [];
  /** By queue: the chain in hand (-1: none), the segment and the byte in it, or the byte of all, that comes next. */
  private readonly heads = new Int32Array(5).fill(-1);
  private readonly segments = new Uint32Array(5);
  private readonly offsets = new Float64Array(5);
  private readonly state = new Float64Array(4);
  /** Goes off when it is time to go on. */
  private readonly timer = createTimerfd();

  constructor(
    readonly spec: BalloonSpec,
    readonly host: BackendHost,
    readonly counters: Float64Array = new Float64Array(BalloonCounters.length),
    readonly advise: typeof madvise = madvise,
  ) {
    host.watch(this.timer, Epoll.in, () => {
      drainEventfd(this.timer);
      this.work();
    });
  }

  start(queues: readonly (Virtqueue | undefined)[]): void {
    this.queues.splice(0, this.queues.length, ...queues);
    this.heads.fill(-1);
  }

  kicked(): void {
    this.work();
  }

  /** Nothing is ever in flight. */
  stop(): boolean {
    this.queues.length = 0;
    armTimerfd(this.timer, 0);
    return true;
  }

  close(): void {
    this.host.unwatch(this.timer);
    close(this.timer);
  }

  /** Works all queues until they are empty or the turn is over. Throws GuestFault. */
  private work(): void {
    this.state[left] = turnPages;
    for (let index = 0; index < this.queues.length; index++) {
      const queue = this.queues[index];
      if (!queue) continue;
      try {
        this.workQueue(queue, index);
      } finally {
        queue.flush();
      }
      if (this.state[left]! > 0) continue;
      armTimerfd(this.timer, 1); // a moment that has passed: after what else is ready
      return;
    }
  }

  private workQueue(queue: Virtqueue, index: number): void {
    const { state, heads } = this;
    queue.pauseKicks();
    while (state[left]! > 0) {
      if (heads[index]! < 0 && !this.take(queue, index)) {
        if (queue.armKick()) return;
        continue;
      }
      const done = index <= deflate ? this.pages(queue, index) : this.report(queue, index);
      if (!done) return;
      queue.complete(heads[index]!, 0);
      heads[index] = -1;
    }
  }

  /** Has the next chain in hand, if there is one. */
  private take(queue: Virtqueue, index: number): boolean {
    const head = queue.next();
    if (head < 0) return false;
    const { chain } = queue;
    this.heads[index] = head;
    this.segments[index] = 0;
    this.offsets[index] = 0;
    this.state[left]!--;
    if (index <= deflate) {
      const bytes = Math.floor(chain.readableBytes / pfnBytes) * balloonPageBytes;
      this.counters[index === inflate ? inflateOps : deflateOps]!++;
      this.counters[index === inflate ? inflateBytes : deflateBytes]! += bytes;
    } else {
      this.counters[reportOps]!++;
      this.counters[reportBytes]! += chain.readableBytes + chain.writableBytes;
    }
    return true;
  }

  /** The page numbers of the chain in hand, 32 bits each (section 5.5.6.1); false when the turn is over before them. */
  private pages(queue: Virtqueue, index: number): boolean {
    const { chain } = queue;
    const { state, offsets } = this;
    // pages that leave the balloon are there when they are touched
    if (index === deflate) return true;
    while (state[left]! > 0 && offsets[index]! + pfnBytes <= chain.readableBytes) {
      this.gather(queue, chain.readUint32(offsets[index]!));
      offsets[index]! += pfnBytes;
      state[left]!--;
    }
    this.giveRun(queue);
    return offsets[index]! + pfnBytes > chain.readableBytes;
  }

  /** Puts a page to the run, on either end; one that does not fit begins another. */
  private gather(queue: Virtqueue, page: number): void {
    const { state } = this;
    const { windows } = queue;
    const [start, length] = [state[runStart]!, state[runLength]!];
    const first = page === start - 1 ? page : start;
    const beside = length > 0 && (page === start + length || page === start - 1);
    if (
      beside &&
      windows.ramAddress(first * balloonPageBytes, (length + 1) * balloonPageBytes) >= 0
    ) {
      state[runStart] = first;
      state[runLength] = length + 1;
      return;
    }
    this.giveRun(queue);
    if (windows.ramAddress(page * balloonPageBytes, balloonPageBytes) < 0) {
      this.failed(`page ${page} is not RAM; it is left alone`);
      return;
    }
    state[runStart] = page;
    state[runLength] = 1;
  }

  private giveRun(queue: Virtqueue): void {
    const { state } = this;
    const length = state[runLength]! * balloonPageBytes;
    state[runLength] = 0;
    if (length > 0) this.give(queue, state[runStart]! * balloonPageBytes, length);
  }

  /** The free ranges of the chain in hand, each a segment; false when the turn is over before them. */
  private report(queue: Virtqueue, index: number): boolean {
    const { chain } = queue;
    const { state, segments, offsets } = this;
    const granulePages = this.spec.granule / balloonPageBytes;
    while (segments[index]! < chain.readable + chain.writable) {
      const segment = segments[index]!;
      const from = chain.addressOf(segment) + offsets[index]!;
      const end = chain.addressOf(segment) + chain.lengthOf(segment);
      // cut where a granule ends: the rest of it comes with what follows
      const most = Math.max(state[left]!, granulePages) * balloonPageBytes;
      const to = end - from <= most ? end : this.floor(from + most);
      this.reported(queue, from, to - from);
      state[left]! -= Math.ceil((to - from) / balloonPageBytes);
      offsets[index]! += to - from;
      if (to === end) {
        segments[index]!++;
        offsets[index] = 0;
      }
      if (state[left]! <= 0) break;
    }
    return segments[index]! >= chain.readable + chain.writable;
  }

  private reported(queue: Virtqueue, address: number, length: number): void {
    if (queue.windows.ramAddress(address, length) >= 0) this.give(queue, address, length);
    else this.failed("a free range that was reported is not RAM; it is left alone");
  }

  /** Gives the host the whole granules of a range of RAM. */
  private give(queue: Virtqueue, address: number, length: number): void {
    const { granule, shared } = this.spec;
    const start = this.floor(address + granule - 1);
    const bytes = this.floor(address + length) - start;
    if (bytes <= 0) return;
    const host = queue.windows.ramAddress(start, bytes);
    this.state[left]! -= piecePages;
    try {
      this.advise(host, bytes, shared ? Madvise.remove : Madvise.dontNeed);
      this.counters[returnedBytes]! += bytes;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.failed(`the host does not take memory back: ${error.message}`);
    }
  }

  private floor(address: number): number {
    return Math.floor(address / this.spec.granule) * this.spec.granule;
  }

  private failed(why: string): void {
    this.counters[errors]!++;
    if (this.state[warned] === 1) return;
    this.state[warned] = 1;
    this.host.warn(why);
  }
}
