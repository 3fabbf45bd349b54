/**
 * A balloon of a test, and its driver: RAM around a hole and persistent memory above it, of which the pages that are
 * given back are noted. The memory is never given back in truth: the rings lie in it.
 */
import { BalloonBackend } from "../../../src/devices/virtio/balloon.ts";
import { BalloonCounters, type BalloonSpec } from "../../../src/devices/virtio/balloon-config.ts";
import { GuestWindows } from "../../../src/devices/virtio/guest-windows.ts";
import { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { Errno, SystemError } from "../../../src/ffi/libc.ts";
import { Driver } from "./driver.ts";
import { FakeRam } from "./fake-ram.ts";
import { TestWorker } from "./worker.ts";

export const MiB = 2 ** 20;
export const page = 4096;
export const high = 2 ** 32;
export const persistent = 2 ** 33;
/** Where drivers put lists of page numbers. */
export const listAt = 0x2_0000;

export interface Given {
  readonly start: number;
  readonly length: number;
  readonly advice: number;
}

export class Balloon {
  readonly ram = new FakeRam([
    { start: 0, length: 4 * MiB },
    { start: high, length: 2 * MiB },
    { start: persistent, length: 2 * MiB },
  ]);
  readonly worker = new TestWorker();
  /** Guest-physical, in order. */
  readonly given: Given[] = [];
  /** The host says so when it is asked. */
  refuses = false;
  readonly drivers: Driver[] = [];
  readonly backend: BalloonBackend;
  /** Regions that the windows say are longer than they are: nothing touches them. */
  private readonly regions;

  constructor(
    spec: Partial<BalloonSpec> = {},
    readonly size = 8,
    lengths: readonly number[] = [],
    readonly counters = new Float64Array(BalloonCounters.length),
  ) {
    this.regions = this.ram.regions.map((region, i) => ({
      ...region,
      length: lengths[i] ?? region.length,
    }));
    const whole = { granule: page, shared: false, deflateOnOom: false, reporting: true, ...spec };
    this.backend = new BalloonBackend(whole, this.worker, this.counters, (host, length, advice) =>
      this.advised(host, length, advice),
    );
    this.start();
  }

  /** All five queues. */
  start(): void {
    const windows = new GuestWindows(this.regions.slice(0, 2), this.regions.slice(2));
    const options = { indirect: true, eventIndex: false, call: () => {} };
    const queues = [0, 1, 2, 3, 4].map((index) => {
      this.drivers[index] = new Driver(this.ram, this.size, 0x1000 + index * 0x2000);
      return new Virtqueue(windows, this.drivers[index].layout, options);
    });
    this.backend.start(queues);
  }

  private advised(host: number, length: number, advice: number): void {
    if (this.refuses) throw new SystemError("madvise", Errno.EINVAL);
    const region = this.regions.find(
      ({ hostAddress, length: bytes }) => host >= hostAddress && host < hostAddress + bytes,
    )!;
    this.given.push({ start: region.start + host - region.hostAddress, length, advice });
  }

  /** Offers page numbers to the inflate queue, or another, at `place`. Its head. */
  offerPages(pages: readonly number[], queue = 0, place = listAt): number {
    const view = this.ram.view(place, 4 * pages.length);
    for (const [i, number] of pages.entries()) view.setUint32(4 * i, number, true);
    return this.drivers[queue]!.offer([{ address: place, length: 4 * pages.length }]);
  }

  /** Inflates by these pages: what was given back. */
  inflate(...pages: number[]): Given[] {
    this.offerPages(pages);
    return this.kick();
  }

  /** Reports ranges as free, as `[start, length]`. */
  report(ranges: readonly (readonly [number, number])[], queue = 4): Given[] {
    const buffers = ranges.map(([address, length]) => ({ address, length, write: true }));
    this.drivers[queue]!.offer(buffers, this.size < ranges.length ? 0x1_8000 : undefined);
    return this.kick();
  }

  /** A kick and all that follows; what was given back. */
  kick(): Given[] {
    this.given.length = 0;
    this.backend.kicked();
    this.worker.settle();
    return this.given.slice();
  }

  counter(name: string): number {
    return this.counters[(BalloonCounters as readonly string[]).indexOf(name)]!;
  }

  [Symbol.dispose](): void {
    this.backend.close();
    this.worker.close();
  }
}
