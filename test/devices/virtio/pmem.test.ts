/** Persistent memory's queue (virtio 1.2 section 5.19): flushes, who shares one, and how they fail. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { PmemBackend, type SyncRing } from "../../../src/devices/virtio/pmem.ts";
import {
  PmemCounters,
  PmemReturn,
  type PmemSpec,
  pmemConfig,
  pmemQueueSize,
  VIRTIO_PMEM_REQ_TYPE_FLUSH,
  VirtioPmemConfig,
  VirtioPmemReq,
  VirtioPmemResp,
} from "../../../src/devices/virtio/pmem-config.ts";
import { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { DeviceType } from "../../../src/devices/virtio/registers.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../../../src/ffi/eventfd.ts";
import { close } from "../../../src/ffi/file.ts";
import { IoUring } from "../../../src/ffi/io-uring.ts";
import { Errno, SystemError } from "../../../src/ffi/libc.ts";
import { valuesInC } from "../../headers.ts";
import { type Buffer, Driver } from "./driver.ts";
import { FakeRam } from "./fake-ram.ts";
import { TestWorker } from "./worker.ts";

const at = 0x1_0000;
const requestBytes = 16;
const untouched = 0xeeee_eeee;

/** A ring, or chores, that do nothing by themselves: a sync ends when the test says so, as it says. */
class HeldSyncs implements SyncRing {
  readonly fd = createEventfd();
  result = 0;
  /** The files that were to be synced. */
  readonly asked: number[] = [];
  #ended: number[] = [];

  dataSync(fd: number): void {
    this.asked.push(fd);
  }
  submit(): void {}
  next(): boolean {
    drainEventfd(this.fd);
    const result = this.#ended.shift();
    if (result === undefined) return false;
    this.result = result;
    return true;
  }
  sync(_tag: number, fd: number): boolean {
    this.asked.push(fd);
    return true;
  }
  turn(done: (tag: number, error: number) => void): void {
    while (this.next()) done(0, -this.result);
  }
  end(error = 0): void {
    this.#ended.push(-error);
    signalEventfd(this.fd);
  }
  close(): void {
    close(this.fd);
  }
}

type Way = "ring" | "chores";

class Pmem {
  readonly ram = new FakeRam([{ start: 0, length: 0x4_0000 }]);
  readonly worker = new TestWorker();
  readonly syncs = new HeldSyncs();
  readonly spec: PmemSpec;
  readonly backend: PmemBackend;
  driver!: Driver;
  calls = 0;

  constructor(
    readonly way: Way = "ring",
    spec: Partial<PmemSpec> = {},
    readonly size = 128,
    readonly counters = new Float64Array(PmemCounters.length),
  ) {
    const place = { start: 2 ** 32, size: 2 ** 21, hostAddress: 0 };
    this.spec = { fd: 77, ...place, discard: false, uring: way === "ring", ...spec };
    const worker = Object.assign(this.worker, { chores: () => this.syncs as never });
    this.backend = new PmemBackend(this.spec, worker, this.counters, () => this.syncs);
    this.start();
  }

  start(): void {
    this.driver = new Driver(this.ram, this.size);
    const options = { indirect: true, eventIndex: false, call: () => this.calls++ };
    this.backend.start([new Virtqueue(this.ram.windows, this.driver.layout, options)]);
  }

  /** Offers request `n` without a kick; its answer is at `answerOf(n)`. */
  offer(n = 0, type = 0, cut: readonly Buffer[] = []): number {
    const place = at + n * requestBytes;
    this.ram.view(place, 8).setUint32(0, type, true);
    this.ram.view(place, 8).setUint32(4, untouched, true);
    const whole = [
      { address: place, length: 4 },
      { address: place + 4, length: 4, write: true },
    ];
    return this.driver.offer(cut.length > 0 ? cut : whole);
  }

  answerOf(n = 0): number {
    return this.ram.view(at + n * requestBytes + 4, 4).getUint32(0, true);
  }

  kick(): void {
    this.backend.kicked();
  }

  /** The sync that runs ends so. */
  end(error = 0): void {
    this.syncs.end(error);
    this.worker.pump(1000);
  }

  counted(): number[] {
    return [...this.counters];
  }

  [Symbol.dispose](): void {
    this.backend.close();
    this.worker.close();
    if (this.way === "chores" || this.spec.discard) this.syncs.close();
  }
}

test("layouts, numbers and configuration are the header's", () => {
  const names = [
    ...["sizeof(struct virtio_pmem_config)", "offsetof(struct virtio_pmem_config, start)"],
    ...["offsetof(struct virtio_pmem_config, size)", "sizeof(struct virtio_pmem_req)"],
    ...["sizeof(struct virtio_pmem_resp)", "VIRTIO_PMEM_REQ_TYPE_FLUSH", "VIRTIO_ID_PMEM"],
  ] as const;
  const { offsets } = VirtioPmemConfig;

  expect<unknown>(Object.values(valuesInC(["linux/virtio_pmem"], names))).toEqual([
    ...[VirtioPmemConfig.size, offsets.start, offsets.size, VirtioPmemReq.size],
    ...[VirtioPmemResp.size, VIRTIO_PMEM_REQ_TYPE_FLUSH, DeviceType.pmem],
  ]);
  const spec = { fd: 0, start: 0x1_4000_0000, size: 0x60_0000, hostAddress: 0 };
  expect(pmemConfig({ ...spec, discard: false, uring: false }).toHex()).toBe(
    "00000040010000000000600000000000",
  );
  expect(PmemReturn).toEqual({ success: 0, failure: 0xffff_ffff });
});

describe.each(["ring", "chores"] as const)("a flush by %s", (way) => {
  test("is a sync of the file, answered when that has ended", () => {
    using pmem = new Pmem(way);
    const head = pmem.offer();

    pmem.kick();
    expect(pmem.syncs.asked).toEqual([77]);
    expect([pmem.driver.collect(), pmem.answerOf()]).toEqual([[], untouched]);
    pmem.end();

    expect(pmem.driver.collect()).toEqual([{ head, written: 4 }]);
    expect([pmem.answerOf(), pmem.calls]).toEqual([0, 1]);
    expect(pmem.counted()).toEqual([1, 0]);
  });

  test("shares its sync with those that were there, not with those that came after it began", () => {
    using pmem = new Pmem(way);
    for (const n of [0, 1, 2]) pmem.offer(n);
    pmem.kick();
    pmem.offer(3);
    pmem.kick();
    expect(pmem.syncs.asked.length).toBe(1);

    pmem.end();
    expect([0, 1, 2, 3].map((n) => pmem.answerOf(n))).toEqual([0, 0, 0, untouched]);
    expect(pmem.syncs.asked.length).toBe(2);
    pmem.end();

    expect(pmem.answerOf(3)).toBe(0);
    expect(pmem.driver.collect().length).toBe(4);
    expect(pmem.counted()).toEqual([4, 0]);
  });

  test("that fails says so to the guest, and to the log once", () => {
    using pmem = new Pmem(way);
    for (const n of [0, 1]) {
      pmem.offer(n);
      pmem.kick();
      pmem.end(n === 0 ? Errno.EIO : 28);
    }
    pmem.offer(2);
    pmem.kick();
    pmem.end();

    expect([0, 1, 2].map((n) => pmem.answerOf(n))).toEqual([0xffff_ffff, 0xffff_ffff, 0]);
    expect(pmem.worker.warnings).toEqual(["flushing fails: EIO; the guest is told"]);
    expect(pmem.counted()).toEqual([3, 2]);
  });

  test("that was interrupted is asked again", () => {
    using pmem = new Pmem(way);
    pmem.offer();
    pmem.kick();
    pmem.end(Errno.EINTR);
    expect([pmem.syncs.asked.length, pmem.answerOf()]).toEqual([2, untouched]);
    pmem.end();

    expect(pmem.answerOf()).toBe(0);
  });

  test("in hand holds up a reset until it has ended, and then answers nobody", () => {
    using pmem = new Pmem(way);
    pmem.offer();
    pmem.kick();
    let quiet = 0;

    expect(pmem.backend.stop(() => quiet++)).toBe(false);
    pmem.kick();
    expect(quiet).toBe(0);
    pmem.end();
    expect([quiet, pmem.answerOf(), pmem.driver.usedIndex]).toEqual([1, untouched, 0]);

    pmem.start();
    pmem.offer();
    pmem.kick();
    pmem.end();
    expect(pmem.answerOf()).toBe(0);
    expect(pmem.backend.stop(() => quiet++)).toBe(true);
    expect(quiet).toBe(1);
  });
});

test("where writes are not kept there is nothing to sync: a flush is answered at once", () => {
  using pmem = new Pmem("ring", { discard: true });
  pmem.offer();

  pmem.kick();

  expect([pmem.answerOf(), pmem.driver.collect().length]).toEqual([0, 1]);
  expect(pmem.syncs.asked).toEqual([]);
  expect(pmem.backend.stop(() => {})).toBe(true);
});

test("a request that nobody knows is refused; one without room for an answer comes back", () => {
  using pmem = new Pmem();
  pmem.offer(0, 1);
  pmem.offer(1, 0xffff_ff00);
  pmem.offer(2, 0, [{ address: at + 32, length: 4 }]);
  pmem.offer(3, 0, [
    { address: at + 48, length: 3 },
    { address: at + 52, length: 4, write: true },
  ]);
  pmem.kick();

  expect([0, 1, 3].map((n) => pmem.answerOf(n))).toEqual(Array(3).fill(0xffff_ffff));
  expect(pmem.answerOf(2)).toBe(untouched);
  expect(pmem.driver.collect().map(({ written }) => written)).toEqual([4, 4, 0, 4]);
  expect(pmem.syncs.asked).toEqual([]);
  expect(pmem.counted()).toEqual([0, 4]);
});

test("a driver that asks on and on has its turn over, and another; a reset ends it", () => {
  let asking = true;
  const counters = new Proxy(new Float64Array(PmemCounters.length), {
    set(target, place, value) {
      target[Number(place)] = value; // a request is refused, and the next is there already
      if (asking && value < 10_000) pmem.driver.publish(0);
      return true;
    },
  });
  using pmem = new Pmem("ring", {}, 128, counters);
  pmem.offer(0, 1);

  pmem.kick();
  expect(pmem.counters[1]).toBe(256);
  pmem.worker.pump(1000);
  expect(pmem.counters[1]).toBe(512);
  asking = false;
  pmem.worker.settle();
  expect(pmem.counters[1]).toBe(513);

  asking = true;
  pmem.driver.publish(0);
  pmem.kick();
  expect(pmem.backend.stop(() => {})).toBe(true);
  expect(pmem.worker.pump()).toBe(0);
});

test("request and answer may be cut into single bytes", () => {
  using pmem = new Pmem();
  const piece = (offset: number, write: boolean) => ({ address: at + offset, length: 1, write });
  pmem.offer(
    0,
    0,
    [0, 1, 2, 3, 4, 5, 6, 7].map((offset) => piece(offset, offset > 3)),
  );
  pmem.kick();
  pmem.end(Errno.EIO);

  expect(pmem.answerOf()).toBe(0xffff_ffff);
});

test("a broken chain is a fault; those before it are flushed and answered", () => {
  using pmem = new Pmem();
  pmem.offer(0);
  pmem.driver.offer([{ address: 2 ** 40, length: 4 }]);

  expect(() => pmem.kick()).toThrow(GuestFault);
  pmem.end();

  expect(pmem.answerOf(0)).toBe(0);
  expect(pmem.syncs.asked.length).toBe(1);
});

test("a driver that publishes more than it has entries is served all the same", () => {
  using pmem = new Pmem("ring", {}, pmemQueueSize);
  for (let n = 0; n < 64; n++) pmem.offer(n);
  pmem.kick();
  for (let n = 64; n < 128; n++) pmem.driver.publish(2 * (n - 64));
  pmem.end();
  pmem.end();

  expect(pmem.driver.usedIndex).toBe(128);
  expect(pmem.counted()).toEqual([128, 0]);
});

describe("on the host's own", () => {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "chv-pmem-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function flushed(fd: number): number {
    const ram = new FakeRam([{ start: 0, length: 0x4_0000 }]);
    const worker = new TestWorker();
    const place = { start: 2 ** 32, size: 2 ** 21, hostAddress: 0 };
    const backend = new PmemBackend({ fd, ...place, discard: false, uring: true }, worker);
    const driver = new Driver(ram, 8);
    const options = { indirect: false, eventIndex: false, call() {} };
    backend.start([new Virtqueue(ram.windows, driver.layout, options)]);
    ram.view(at + 4, 4).setUint32(0, untouched, true);
    driver.offer([
      { address: at, length: 4 },
      { address: at + 4, length: 4, write: true },
    ]);
    backend.kicked();
    while (driver.usedIndex === 0) worker.pump(1000);
    backend.close();
    worker.close();
    return ram.view(at + 4, 4).getUint32(0, true);
  }

  test("io_uring a file is synced, and a pipe cannot be", () => {
    const fd = openSync(join(folder, "file"), "w+");
    expect(flushed(fd)).toBe(0);
    closeSync(fd);
    const event = createEventfd();
    expect(flushed(event)).toBe(0xffff_ffff);
    close(event);
  });

  test("where there is no io_uring a chore does it, and the log says so", () => {
    const [worker, syncs] = [new TestWorker(), new HeldSyncs()];
    const place = { fd: 5, start: 2 ** 32, size: 2 ** 21, hostAddress: 0 };
    const asked: string[] = [];
    Object.assign(worker, {
      chores: () => {
        asked.push("chores");
        return syncs;
      },
    });
    const none = () => new SystemError("io_uring_setup", Errno.EPERM);
    const backend = new PmemBackend(
      { ...place, discard: false, uring: true },
      worker,
      undefined,
      none,
    );

    expect(asked).toEqual(["chores"]);
    expect(worker.warnings).toEqual([
      "no io_uring (io_uring_setup: EPERM): a thread of its own flushes",
    ]);
    backend.close();
    syncs.close();
    worker.close();
  });
});

test("the ring that the host gives has what is used of it", () => {
  const ring = IoUring.open(1);
  expect(ring).toBeInstanceOf(IoUring);
  (ring as IoUring).close();
});
