/** How a disk waits: for its limits, and for others to have their turn. */
import { describe, expect, test } from "bun:test";
import { monotonicNs } from "../../../src/ffi/clock.ts";
import { Disk, type DiskOptions } from "./disk.ts";

const sector = 512;
const [IN, OUT, FLUSH] = [0, 1, 4];
const none = new Uint8Array(0);
const hourMs = 3_600_000;

const places = new WeakMap<Disk, number>();

/** Sends so many requests, each at a place of its own, and kicks once. */
function burst(disk: Disk, count: number, type = FLUSH, bytes = 0): (() => { status: number })[] {
  const data = type === OUT ? new Uint8Array(bytes) : none;
  const room = type === IN ? bytes : 0;
  const waits = Array.from({ length: count }, () => {
    const place = places.get(disk) ?? 0x2_0000;
    places.set(disk, place + bytes + 64);
    return disk.send(type, 0, data, room, {}, place);
  });
  disk.backend.kicked(0);
  return waits;
}

/** The clock by which the disk's limits go; the one of before comes back. */
function setClock({ backend: { limiter } }: Disk, clock: () => number): () => number {
  const before = limiter.clock;
  Object.assign(limiter, { clock });
  return before;
}

/** Requests that have been answered when nothing more happens by itself. */
function answered(disk: Disk): number {
  while (disk.pump(0) > 0);
  return disk.drivers[0]!.usedIndex;
}

describe.each([
  ["by io_uring", true],
  ["by preadv2 and pwritev2", false],
])("%s", (_, uring) => {
  const disk = (options: DiskOptions) => new Disk({ uring, queueSize: 1024, ...options });
  /** Waits, as the worker does, until so many are answered; how often it was woken. */
  const rounds = (device: Disk, count: number) => {
    let woken = 0;
    const deadline = Date.now() + 120_000;
    for (; device.drivers[0]!.usedIndex < count; woken++) {
      device.pump();
      if (Date.now() > deadline) throw new Error("test: nobody wakes the worker");
    }
    return woken;
  };

  test("operations above the limit wait, whatever they are, and the worker sleeps meanwhile", () => {
    const limits = { ops: { size: 3, oneTimeBurst: 2, refillMs: hourMs } };
    using device = disk({ limits });

    burst(device, 2, FLUSH);
    burst(device, 2, IN, sector);
    burst(device, 9, FLUSH);

    expect(rounds(device, 5)).toBeLessThan(10);
    expect(answered(device)).toBe(5);
    device.backend.kicked(0);
    expect(answered(device)).toBe(5);
  });

  test("bytes above the limit wait; what moves none does not", () => {
    const limits = { bytes: { size: 8 * sector, oneTimeBurst: 0, refillMs: hourMs } };
    using device = disk({ limits });

    burst(device, 1, OUT, 5 * sector);
    burst(device, 1, IN, 3 * sector);
    burst(device, 1, FLUSH);
    rounds(device, 3);
    burst(device, 1, IN, sector);
    burst(device, 1, FLUSH);

    expect(answered(device)).toBe(3); // in order: the flush stands behind the read
  });

  test("what waits goes on when the bucket fills again, with no kick", () => {
    const limits = { ops: { size: 1, oneTimeBurst: 0, refillMs: 2 } };
    using device = disk({ limits });

    const waits = burst(device, 6, IN, sector);

    for (const wait of waits) expect(wait().status).toBe(0);
    expect(device.counters[0]).toBe(6);
  });

  test("a device that waits for its limits alone stands still at once, and starts anew", () => {
    const limits = { ops: { size: 1, oneTimeBurst: 0, refillMs: 20 } };
    using device = disk({ limits });
    const stopped = monotonicNs(); // however long the first request takes, the second is not due
    const clock = setClock(device, () => stopped);
    burst(device, 3, IN, sector);
    rounds(device, 1);

    expect(device.backend.stop(() => {})).toBe(true);
    setClock(device, clock);
    device.start();

    expect(device.request(IN, 0, none, sector).status).toBe(0);
    expect(device.counters[0]).toBe(2);
  });

  test("limits of size 0 are none", () => {
    const nothing = { size: 0, oneTimeBurst: 0, refillMs: 100 };
    using device = disk({ limits: { ops: nothing, bytes: nothing } });

    burst(device, 100);

    rounds(device, 100);
  });

  test("so many requests, and others have their turn; the rest follows with no kick", () => {
    using device = disk({});

    burst(device, 400, IN, sector);
    const atOnce = device.counters[0]!;
    rounds(device, 400);

    expect(atOnce).toBe(256);
    expect(device.counters[0]).toBe(400);
  });

  test("so many bytes, and others have their turn", () => {
    const mebibyte = 2 ** 20;
    using device = disk({ content: new Uint8Array(mebibyte) });
    const send = () => device.send(IN, 0, none, mebibyte, {}, 0x2_0000);
    for (let i = 0; i < 24; i++) send();

    device.backend.kicked(0);

    expect(device.counters[1]).toBe(16 * mebibyte);
    rounds(device, 24);
  });

  test("a driver that never stops does not keep the worker", () => {
    let offered = 0;
    using device = disk({ queueSize: 16 });
    const queue = device.queues[0]!;
    const offer = () => {
      device.drivers[0]!.collect();
      if (++offered < 5000) device.send(IN, 0, none, sector, {}, 0x2_0000);
    };
    for (let i = 0; i < 4; i++) offer();
    const flush = queue.flush.bind(queue);
    queue.flush = () => {
      flush();
      offer();
    };

    device.backend.kicked(0);

    expect(device.counters[0]).toBeLessThanOrEqual(256);
  });
});
