/** The memory balloon (virtio 1.2 section 5.5): its configuration, and what its queues give back to the host. */
import { describe, expect, test } from "bun:test";
import { BalloonBackend } from "../../../src/devices/virtio/balloon.ts";
import {
  BalloonFeature,
  balloonConfig,
  balloonFeatures,
  balloonPageBytes,
  balloonQueues,
  balloonWritable,
  VirtioBalloonConfig,
} from "../../../src/devices/virtio/balloon-config.ts";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { GuestWindows } from "../../../src/devices/virtio/guest-windows.ts";
import { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { close, truncate } from "../../../src/ffi/file.ts";
import { copyFrom, MapFlag, memfd, mmap, munmap, Prot } from "../../../src/ffi/memory.ts";
import { valuesInC } from "../../headers.ts";
import { Balloon, high, listAt, MiB, page, persistent } from "./balloon-rig.ts";
import { Driver } from "./driver.ts";
import { FakeRam } from "./fake-ram.ts";
import { TestWorker } from "./worker.ts";

const [dontNeed, remove] = [4, 9]; // asm-generic/mman-common.h
const plain = { granule: page, shared: false, deflateOnOom: false, reporting: false };

describe("configuration", () => {
  test("is the header's, as far as its features go", () => {
    const names = [
      ...["offsetof(struct virtio_balloon_config, num_pages)"],
      ...["offsetof(struct virtio_balloon_config, actual)"],
      ...["offsetof(struct virtio_balloon_config, free_page_hint_cmd_id)"],
      ...["1 << VIRTIO_BALLOON_PFN_SHIFT", "VIRTIO_BALLOON_F_DEFLATE_ON_OOM"],
      ...["VIRTIO_BALLOON_F_REPORTING", "VIRTIO_ID_BALLOON"],
    ] as const;
    const c = Object.values(valuesInC(["linux/virtio_balloon"], names));

    expect<unknown>(c).toEqual([
      ...[VirtioBalloonConfig.offsets.num_pages, VirtioBalloonConfig.offsets.actual],
      ...[VirtioBalloonConfig.size, balloonPageBytes],
      ...[BalloonFeature.DEFLATE_ON_OOM, BalloonFeature.REPORTING, 5],
    ]);
  });

  test("asks for pages of 4 KiB; the driver writes how many it has given, and nothing else", () => {
    expect(balloonConfig(3 * MiB).toHex()).toBe("0003000000000000");
    expect(balloonWritable().toHex()).toBe("0000000001010101");
  });

  test("each feature is offered when it is asked for, the reporting queue with it", () => {
    expect([balloonFeatures(plain), balloonQueues(plain)]).toEqual([0, 2]);
    expect(balloonFeatures({ ...plain, deflateOnOom: true })).toBe(1 << 2);
    const reporting = { ...plain, reporting: true };
    expect([balloonFeatures(reporting), balloonQueues(reporting)]).toEqual([1 << 5, 5]);
  });
});

describe("inflating", () => {
  test("gives pages back: neighbours together, in either direction", () => {
    using balloon = new Balloon();

    const given = balloon.inflate(0x100, 0x101, 0x102, 0x205, 0x204, 0x203, 0x300);

    expect(given).toEqual([
      { start: 0x10_0000, length: 3 * page, advice: dontNeed },
      { start: 0x20_3000, length: 3 * page, advice: dontNeed },
      { start: 0x30_0000, length: page, advice: dontNeed },
    ]);
    expect(balloon.drivers[0]!.collect()).toEqual([{ head: 0, written: 0 }]);
    expect(balloon.counter("inflate_ops")).toBe(1);
    expect(balloon.counter("inflate_bytes")).toBe(7 * page);
    expect(balloon.counter("returned_bytes")).toBe(7 * page);
  });

  test("from a shared mapping they are taken from what is behind it", () => {
    using balloon = new Balloon({ shared: true });
    expect(balloon.inflate(0x100).map(({ advice }) => advice)).toEqual([remove]);
  });

  test("page numbers may be cut anywhere, and what is left over at the end is none", () => {
    using balloon = new Balloon();
    balloon.ram.bytes(listAt, 11).set([0, 1, 0, 0, 0x80, 1, 0, 0, 1, 2, 3]);
    balloon.drivers[0]!.offer([
      { address: listAt, length: 3 },
      { address: listAt + 3, length: 2 },
      { address: listAt + 5, length: 6 },
    ]);

    expect(balloon.kick().map(({ start }) => start)).toEqual([0x10_0000, 0x18_0000]);
    expect(balloon.drivers[0]!.collect().length).toBe(1);
  });

  test("what is no RAM is left alone and counted: holes, persistent memory, the end of the address space", () => {
    using balloon = new Balloon();

    const given = balloon.inflate(0x3ff, 0x400, persistent / page, 0xffff_ffff, high / page);

    expect(given.map(({ start }) => start)).toEqual([0x3f_f000, high]);
    expect(balloon.counter("errors")).toBe(3);
    expect(balloon.counter("returned_bytes")).toBe(2 * page);
    expect(balloon.worker.warnings).toEqual(["page 1024 is not RAM; it is left alone"]);
  });

  test("with huge pages whole ones alone go back", () => {
    using balloon = new Balloon({ granule: 2 * MiB });
    expect(balloon.inflate(...Array.from({ length: 256 }, (_, i) => 0x200 + i))).toEqual([]);

    expect(balloon.inflate(...Array.from({ length: 600 }, (_, i) => 0x1f0 + i))).toEqual([
      { start: 2 * MiB, length: 2 * MiB, advice: dontNeed },
    ]);
  });

  test("a host that takes nothing back is told of once, and the guest goes on", () => {
    using balloon = new Balloon();
    balloon.refuses = true;

    balloon.inflate(0x100, 0x102);

    expect(balloon.drivers[0]!.collect().length).toBe(1);
    expect(balloon.counter("errors")).toBe(2);
    expect(balloon.counter("returned_bytes")).toBe(0);
    expect(balloon.worker.warnings).toEqual([
      "the host does not take memory back: madvise: EINVAL",
    ]);
  });
});

test("deflating takes nothing back and is answered", () => {
  using balloon = new Balloon();
  balloon.offerPages([0x100, 0x101], 1);

  expect(balloon.kick()).toEqual([]);
  expect(balloon.drivers[1]!.collect()).toEqual([{ head: 0, written: 0 }]);
  expect([balloon.counter("deflate_ops"), balloon.counter("deflate_bytes")]).toEqual([1, 2 * page]);
});

describe("reporting", () => {
  test.each([2, 3, 4])("by queue %d gives back the whole pages of each range", (queue) => {
    using balloon = new Balloon();

    const given = balloon.report(
      [
        [0x10_0000, 0x4000],
        [0x20_0001, 2 * page],
        [high + 0x1000, page],
        [0x30_0800, 0x100],
      ],
      queue,
    );

    expect(given).toEqual([
      { start: 0x10_0000, length: 0x4000, advice: dontNeed },
      { start: 0x20_1000, length: page, advice: dontNeed },
      { start: high + 0x1000, length: page, advice: dontNeed },
    ]);
    expect(balloon.drivers[queue]!.collect().length).toBe(1);
    expect(balloon.counter("report_ops")).toBe(1);
    expect(balloon.counter("report_bytes")).toBe(0x4000 + 2 * page + page + 0x100);
    expect(balloon.counter("returned_bytes")).toBe(6 * page);
  });

  test("of persistent memory is refused", () => {
    using balloon = new Balloon();
    expect(balloon.report([[persistent, 2 * MiB]])).toEqual([]);
    expect(balloon.counter("errors")).toBe(1);
  });

  test("with huge pages gives back those that lie whole in a range", () => {
    using balloon = new Balloon({ granule: 2 * MiB });
    expect(balloon.report([[0x1000, 4 * MiB - 0x1000]])).toEqual([
      { start: 2 * MiB, length: 2 * MiB, advice: dontNeed },
    ]);
  });
});

describe("a driver that asks for much", () => {
  test("by page numbers gets 16 MiB in a turn, and the worker its time between", () => {
    using balloon = new Balloon();
    const pages = Array.from({ length: 10_000 }, (_, i) => 0x100 + (i % 700));
    balloon.offerPages(pages, 0, 0x10_0000);
    balloon.given.length = 0;

    balloon.backend.kicked();
    const first = balloon.given.reduce((sum, { length }) => sum + length, 0);
    expect(first).toBeGreaterThan(0);
    expect(first).toBeLessThanOrEqual(16 * MiB);
    expect(balloon.drivers[0]!.collect()).toEqual([]);
    expect(balloon.worker.pump()).toBe(1);
    balloon.worker.settle();

    expect(balloon.drivers[0]!.collect().length).toBe(1);
    expect(balloon.counter("returned_bytes")).toBe(10_000 * page);
  });

  test("by pages apart from one another gets fewer of them in a turn: each is a call to the host", () => {
    using balloon = new Balloon();
    balloon.offerPages(
      Array.from({ length: 2000 }, (_, i) => 0x100 + 2 * (i % 300)),
      0,
      0x10_0000,
    );
    balloon.given.length = 0;

    balloon.backend.kicked();
    const first = balloon.given.length;
    balloon.worker.settle();

    expect(first).toBeGreaterThan(100);
    expect(first).toBeLessThanOrEqual(512);
    expect(balloon.given.length).toBe(2000);
    expect(balloon.drivers[0]!.collect().length).toBe(1);
  });

  test("by a long range gets it in pieces that end where huge pages do", () => {
    const GiB = 2 ** 30;
    using balloon = new Balloon({ granule: 2 * MiB }, 8, [GiB]);
    const at = MiB;

    balloon.drivers[4]!.offer([{ address: at, length: GiB - at, write: true }]);
    balloon.backend.kicked();
    const first = balloon.given.reduce((sum, { length }) => sum + length, 0);
    expect(first).toBeLessThanOrEqual(16 * MiB);
    balloon.worker.settle();

    const { given } = balloon;
    expect(given.length).toBeGreaterThan(10);
    for (const { length } of given) expect(length).toBeLessThanOrEqual(16 * MiB);
    let next = 2 * MiB;
    for (const { start, length } of given) {
      expect(start).toBe(next);
      next = start + length;
    }
    expect(next).toBe(GiB);
    expect(balloon.drivers[4]!.collect().length).toBe(1);
  });

  test("with chains of nothing has turns, too", () => {
    const counters = new Proxy(new Float64Array(8), {
      set(target, place, value) {
        target[Number(place)] = value; // one is taken, and the next is there already
        if (place === "0" && value < 10_000) balloon.drivers[0]!.publish(0);
        return true;
      },
    });
    using balloon = new Balloon({}, 8, [], counters);
    balloon.drivers[0]!.offer([{ address: listAt, length: 0 }]);

    balloon.backend.kicked();
    expect(balloon.counter("inflate_ops")).toBe(4096);
    balloon.worker.settle();
    expect(balloon.counter("inflate_ops")).toBe(10_000);
  });

  test("a reset in the midst of it ends it", () => {
    using balloon = new Balloon();
    balloon.offerPages(Array(10_000).fill(0x200), 0, 0x10_0000);
    balloon.backend.kicked();
    balloon.given.length = 0;

    expect(balloon.backend.stop()).toBe(true);
    balloon.worker.settle();
    expect(balloon.given).toEqual([]);
    balloon.start();

    expect(balloon.inflate(0x300).length).toBe(1);
    expect(balloon.drivers[0]!.collect().length).toBe(1);
  });
});

test("a broken chain is a fault", () => {
  using balloon = new Balloon();
  balloon.drivers[0]!.offer([{ address: 2 ** 40, length: 4 }]);
  expect(() => balloon.backend.kicked()).toThrow(GuestFault);
});

/** Two pages of true memory, filled, above a RAM that holds the rings. */
function onMemory(shared: boolean, use: (inflate: () => void, host: number, fd: number) => void) {
  const fd = shared ? memfd("chv-test-balloon", false) : -1;
  if (shared) truncate(fd, 2 * page);
  const flags = shared ? MapFlag.shared : MapFlag.private | MapFlag.anonymous;
  const host = mmap(0, 2 * page, Prot.read | Prot.write, flags, fd);
  const ram = new FakeRam([{ start: 0, length: MiB }]);
  const windows = new GuestWindows([
    ...ram.regions,
    { start: high, length: 2 * page, hostAddress: host },
  ]);
  const worker = new TestWorker();
  const backend = new BalloonBackend({ ...plain, shared }, worker);
  const driver = new Driver(ram, 8);
  backend.start([
    new Virtqueue(windows, driver.layout, { indirect: false, eventIndex: false, call() {} }),
  ]);
  for (let at = 0; at < 2 * page; at++) windows.setUint8(high + at, 0xee);
  ram.view(listAt, 4).setUint32(0, high / page + 1, true);
  driver.offer([{ address: listAt, length: 4 }]);
  try {
    use(() => backend.kicked(), host, fd);
    expect(worker.warnings).toEqual([]);
  } finally {
    backend.close();
    worker.close();
    munmap(host, 2 * page);
    if (shared) close(fd);
  }
}

test.each([false, true])(
  "a page that went back reads zero, its neighbour as before (shared: %p)",
  (shared) => {
    onMemory(shared, (inflate, host) => {
      inflate();

      expect(copyFrom(host, page)).toEqual(new Uint8Array(page).fill(0xee));
      expect(copyFrom(host + page, page)).toEqual(new Uint8Array(page));
    });
  },
);
