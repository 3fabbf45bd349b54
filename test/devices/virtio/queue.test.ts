/** The device's half of a split virtqueue, driven by a driver's half (virtio 1.2 section 2.7). */
import { expect, test } from "bun:test";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { GuestWindows } from "../../../src/devices/virtio/guest-windows.ts";
import { type QueueOptions, Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { Driver } from "./driver.ts";
import { FakeRam } from "./fake-ram.ts";

const data = 0x8000;
const table = 0xc000;
const highRam = 0x1_0000_0000;

function setUp(options: Partial<QueueOptions> & { size?: number } = {}) {
  const ram = new FakeRam([
    { start: 0, length: 0x10000 },
    { start: highRam, length: 0x4000 },
  ]);
  const start = options.nextAvail ?? 0;
  const driver = new Driver(ram, options.size ?? 8, 0x1000, start);
  const calls: number[] = [];
  const call = () => calls.push(driver.usedIndex);
  const queue = new Virtqueue(ram.windows, driver.layout, {
    ...{ indirect: true, eventIndex: false, call },
    ...options,
  });
  return { ram, driver, queue, calls };
}

/** The segments of the chain in hand: address, length, and what the iovec says, as an offset from the RAM's first byte. */
function segments({ queue, ram }: { queue: Virtqueue; ram: FakeRam }) {
  const { chain } = queue;
  return Array.from({ length: chain.readable + chain.writable }, (_, i) => {
    const at = chain.iovecAddress(i) - chain.iovecs.address;
    const base = Number(chain.iovecs.view.getBigUint64(at, true));
    const length = Number(chain.iovecs.view.getBigUint64(at + 8, true));
    const address = chain.addressOf(i);
    const region = ram.regions[address >= highRam ? 1 : 0]!;
    expect(base - region.hostAddress).toBe(address - region.start);
    expect(chain.lengthOf(i)).toBe(length);
    return { address, length, write: i >= chain.readable };
  });
}

test("a chain's segments come in order, readable ones first", () => {
  const parts = setUp();
  const buffers = [
    { address: data, length: 16, write: false },
    { address: highRam + 8, length: 300, write: false },
    { address: data + 64, length: 4096, write: true },
    { address: data + 7, length: 1, write: true },
  ];
  const head = parts.driver.offer(buffers);

  expect(parts.queue.next()).toBe(head);

  expect(segments(parts)).toEqual(buffers);
  expect(parts.queue.chain.readableBytes).toBe(316);
  expect(parts.queue.chain.writableBytes).toBe(4097);
  expect(parts.queue.next()).toBe(-1);
});

test("an indirect table gives the same chain, at any alignment", () => {
  const parts = setUp();
  const buffers = [
    { address: data, length: 16, write: false },
    { address: data + 64, length: 512, write: true },
  ];
  const head = parts.driver.offer(buffers, table + 5);

  expect(parts.queue.next()).toBe(head);

  expect(segments(parts)).toEqual(buffers);
});

test("an indirect table may follow direct descriptors, and its own write flag means nothing", () => {
  const parts = setUp();
  parts.driver.describe(0, { address: data, length: 16, flags: 1, next: 3 });
  parts.driver.describe(3, { address: table, length: 32, flags: 4 | 2, next: 0 });
  parts.driver.write(table, { address: data + 64, length: 5, flags: 1, next: 1 });
  parts.driver.write(table + 16, { address: data + 96, length: 6, flags: 2, next: 0 });
  parts.driver.publish(0);

  expect(parts.queue.next()).toBe(0);

  expect(segments(parts).map(({ length }) => length)).toEqual([16, 5, 6]);
});

test("an indirect chain may be longer than the queue", () => {
  const parts = setUp({ size: 2 });
  const buffers = Array.from({ length: 100 }, (_, i) => ({ address: data + i, length: 1 }));
  parts.driver.offer(buffers, table);

  expect(parts.queue.next()).toBeGreaterThanOrEqual(0);

  expect(parts.queue.chain.readable).toBe(100);
});

test("empty segments are dropped", () => {
  const parts = setUp();
  parts.driver.offer([
    { address: 0xdead_0000, length: 0 },
    { address: data, length: 3, write: true },
  ]);

  parts.queue.next();

  expect(segments(parts)).toEqual([{ address: data, length: 3, write: true }]);
});

test("completed chains reach the used ring when they are flushed", () => {
  const { driver, queue, calls } = setUp();
  const first = driver.offer([{ address: data, length: 16, write: true }]);
  const second = driver.offer([{ address: data, length: 16, write: true }]);
  queue.next();
  queue.next();

  queue.complete(second, 5);
  queue.complete(first, 16);
  expect(driver.usedIndex).toBe(0);
  queue.flush();

  expect(driver.collect()).toEqual([
    { head: second, written: 5 },
    { head: first, written: 16 },
  ]);
  expect(calls).toEqual([2]); // and the index was there before the call
  queue.flush();
  expect(calls.length).toBe(1);
});

test("indexes wrap around at 65536", () => {
  const { driver, queue } = setUp({ nextAvail: 65530, size: 4 });

  for (let i = 0; i < 12; i++) {
    const head = driver.offer([{ address: data, length: 8, write: true }]);
    expect(queue.next()).toBe(head);
    queue.complete(head, i);
    queue.flush();
    expect(driver.collect()).toEqual([{ head, written: i }]);
  }

  expect(queue.nextAvail).toBe(6);
  expect(queue.nextUsed).toBe(6);
});

test("a later queue on the same rings goes on where the first stopped", () => {
  const { ram, driver, queue } = setUp();
  const first = driver.offer([{ address: data, length: 8, write: true }]);
  const second = driver.offer([{ address: data, length: 8, write: true }]);
  queue.next();
  queue.complete(first, 1);
  queue.flush();

  const { nextAvail, nextUsed } = queue;
  const options = { indirect: true, eventIndex: false, call: () => {}, nextAvail, nextUsed };
  const later = new Virtqueue(ram.windows, driver.layout, options);
  expect(later.next()).toBe(second);
  later.complete(second, 2);
  later.flush();

  expect(driver.collect()).toEqual([
    { head: first, written: 1 },
    { head: second, written: 2 },
  ]);
});

test("without the event index, flags say who wants to be told", () => {
  const { driver, queue } = setUp();
  const round = () => {
    queue.complete(driver.offer([{ address: data, length: 8, write: true }]), 0);
    return queue.needsCall();
  };

  queue.pauseKicks();
  expect(driver.noNotify).toBe(true);
  expect(queue.armKick()).toBe(true);
  expect(driver.noNotify).toBe(false);

  expect(round()).toBe(true);
  driver.noInterrupt = true;
  expect(round()).toBe(false);
  driver.noInterrupt = false;
  expect(round()).toBe(true);
});

test("a driver without the event index has no word for it", () => {
  const ram = new FakeRam([{ start: 0, length: 0x2000 }]);
  const layout = { size: 8, desc: 0, driver: 0x2000 - (4 + 16), device: 0x1000 };

  const make = (eventIndex: boolean) => () =>
    new Virtqueue(ram.windows, layout, { indirect: true, eventIndex, call: () => {} });

  expect(make(false)).not.toThrow();
  expect(make(true)).toThrow(GuestFault);
});

/**
 * Section 2.7.7.1: the device calls when the index of the entry just written equals used_event; with several written at
 * once, when one of them does. `from` entries have been used and told, then `count` more.
 */
test.each([
  { from: 0, count: 1, event: 0, called: true },
  { from: 0, count: 1, event: 1, called: false },
  { from: 0, count: 3, event: 2, called: true },
  { from: 0, count: 3, event: 3, called: false },
  { from: 4, count: 2, event: 3, called: false },
  { from: 4, count: 2, event: 4, called: true },
  { from: 65535, count: 2, event: 65535, called: true },
  { from: 65535, count: 2, event: 0, called: true },
  { from: 65535, count: 2, event: 1, called: false },
  { from: 65535, count: 2, event: 65534, called: false },
])("the event index %p", ({ from, count, event, called }) => {
  const { driver, queue } = setUp({ eventIndex: true, nextAvail: from });
  driver.noInterrupt = true; // has no meaning with the event index
  driver.usedEvent = event;

  for (let i = 0; i < count; i++) queue.complete(0, 0);

  expect(queue.needsCall()).toBe(called);
});

test("with the event index, a kick is asked for by number, and the flag stays clear", () => {
  const { driver, queue } = setUp({ eventIndex: true, nextAvail: 65535 });
  queue.pauseKicks();
  expect(driver.noNotify).toBe(false);
  driver.offer([{ address: data, length: 8 }]);
  driver.offer([{ address: data, length: 8 }]);
  queue.next();
  queue.next();

  expect(queue.armKick()).toBe(true);

  expect(driver.availEvent).toBe(1);
});

test.each([false, true])("what came before the kick was armed is seen, event index %p", (on) => {
  const { driver, queue } = setUp({ eventIndex: on });
  queue.pauseKicks();
  expect(queue.next()).toBe(-1);
  const head = driver.offer([{ address: data, length: 8 }]);

  expect(queue.armKick()).toBe(false);

  expect(queue.next()).toBe(head);
  expect(queue.armKick()).toBe(true);
});

test("what was seen but not taken keeps the kick from sleeping", () => {
  const { driver, queue } = setUp();
  driver.offer([{ address: data, length: 8 }]);
  driver.offer([{ address: data, length: 8 }]);
  queue.next();

  expect(queue.armKick()).toBe(false);
});

const next = { flags: 1 };
const write = { flags: 2 };
const plain = { address: data, length: 8, flags: 0, next: 0 };
test.each<[string, (driver: Driver) => void]>([
  ["a head behind the table", (driver) => driver.publish(8)],
  ["a head of 65535", (driver) => driver.publish(65535)],
  [
    "a next behind the table",
    (driver) => {
      driver.describe(0, { ...plain, ...next, next: 8 });
      driver.publish(0);
    },
  ],
  [
    "a loop of one",
    (driver) => {
      driver.describe(0, { ...plain, ...next, next: 0 });
      driver.publish(0);
    },
  ],
  [
    "a loop of empty segments",
    (driver) => {
      driver.describe(0, { ...plain, ...next, length: 0, next: 1 });
      driver.describe(1, { ...plain, ...next, length: 0, next: 0 });
      driver.publish(0);
    },
  ],
  [
    "a readable segment after a writable one",
    (driver) => {
      driver.describe(0, { ...plain, flags: 3, next: 1 });
      driver.describe(1, plain);
      driver.publish(0);
    },
  ],
  ["a segment in the hole", (driver) => driver.offer([{ address: 0x10000, length: 1 }])],
  ["a segment over the end of RAM", (driver) => driver.offer([{ address: 0xffff, length: 2 }])],
  [
    "a segment that wraps around",
    (driver) => {
      driver.describe(0, { ...plain, address: 2n ** 64n - 4n, length: 8 });
      driver.publish(0);
    },
  ],
  ["a segment of 4 GiB", (driver) => driver.offer([{ address: 0, length: 0xffff_ffff }])],
  [
    "an empty indirect table",
    (driver) => {
      driver.describe(0, { address: table, length: 0, flags: 4, next: 0 });
      driver.publish(0);
    },
  ],
  [
    "an indirect table of one descriptor and a half",
    (driver) => {
      driver.describe(0, { address: table, length: 24, flags: 4, next: 0 });
      driver.publish(0);
    },
  ],
  [
    "an indirect table of 4 GiB",
    (driver) => {
      driver.describe(0, { address: table, length: 0xffff_fff0, flags: 4, next: 0 });
      driver.publish(0);
    },
  ],
  [
    "an indirect table that is not RAM",
    (driver) => {
      driver.describe(0, { address: 0xffff_0000, length: 32, flags: 4, next: 0 });
      driver.publish(0);
    },
  ],
  [
    "an indirect descriptor with a next",
    (driver) => {
      driver.write(table, plain);
      driver.describe(0, { address: table, length: 16, flags: 5, next: 1 });
      driver.describe(1, plain);
      driver.publish(0);
    },
  ],
  [
    "an indirect table in another",
    (driver) => {
      driver.write(table, { address: table, length: 16, flags: 4, next: 0 });
      driver.describe(0, { address: table, length: 16, flags: 4, next: 0 });
      driver.publish(0);
    },
  ],
  [
    "a next behind the indirect table",
    (driver) => {
      driver.write(table, { ...plain, ...next, next: 2 });
      driver.describe(0, { address: table, length: 32, flags: 4, next: 0 });
      driver.publish(0);
    },
  ],
  [
    "a loop in an indirect table",
    (driver) => {
      driver.write(table, { ...plain, ...next, next: 1 });
      driver.write(table + 16, { ...plain, ...next, next: 0 });
      driver.describe(0, { address: table, length: 32, flags: 4, next: 0 });
      driver.publish(0);
    },
  ],
  [
    "more segments than one system call takes",
    (driver) => {
      const buffers = Array.from({ length: 1025 }, () => ({ address: data, length: 1 }));
      driver.offer(buffers, 0x3000);
    },
  ],
])("%s is the guest's fault, and the end of the queue", (_, offer) => {
  const { ram, driver, queue } = setUp();
  offer(driver);

  expect(() => queue.next()).toThrow(GuestFault);

  driver.describe(0, { ...plain, ...write });
  driver.publish(0);
  expect(queue.next()).toBe(-1);
  expect(queue.armKick()).toBe(true);
  expect(ram.guardsIntact).toBe(true);
});

test("a chain of 4 GiB is the longest", () => {
  const { ram, driver } = setUp();
  // pages that are never touched need not be there
  const large = { start: 2 ** 33, length: 2 ** 32, hostAddress: 2 ** 46 };
  const windows = new GuestWindows([...ram.regions, large]);
  const options = { indirect: true, eventIndex: false, call: () => {} };
  const queue = new Virtqueue(windows, driver.layout, options);
  const half = { address: large.start, length: 2 ** 31 };
  driver.offer([half, half]);
  driver.offer([half, half, { address: data, length: 1 }]);

  expect(queue.next()).toBe(0);
  expect(queue.chain.readableBytes).toBe(2 ** 32);
  expect(() => queue.next()).toThrow(GuestFault);
});

test("an indirect descriptor that was not negotiated is the guest's fault", () => {
  const { driver, queue } = setUp({ indirect: false });
  driver.offer([{ address: data, length: 8 }], table);

  expect(() => queue.next()).toThrow(GuestFault);
});

test("an avail index that runs ahead of the queue is the guest's fault, also when arming", () => {
  const { driver, queue } = setUp({ nextAvail: 65535 });
  driver.availIndex = (65535 + 8) % 65536;
  expect(queue.next()).toBeGreaterThanOrEqual(0);
  for (let i = 0; i < 7; i++) queue.next();

  driver.availIndex = (65535 + 8 + 9) % 65536;

  expect(() => queue.armKick()).toThrow(GuestFault);
  expect(queue.next()).toBe(-1);
});

test("an avail index that runs backwards is the guest's fault", () => {
  const { driver, queue } = setUp({ nextAvail: 5 });
  driver.availIndex = 4;

  expect(() => queue.next()).toThrow(GuestFault);
});

test.each([
  ["no entries", { size: 0 }],
  ["a size that is no power of two", { size: 6 }],
  ["a size of 65536", { size: 65536 }],
  ["a descriptor table off its alignment", { desc: 0x1008 }],
  ["an avail ring off its alignment", { driver: 0x2001 }],
  ["a used ring off its alignment", { device: 0x3002 }],
  ["a descriptor table over the end of RAM", { desc: 0x10000 - 16 * 7 }],
  ["an avail ring in the hole", { driver: 0x10000 }],
  ["a used ring over the end of RAM", { device: 0x10000 - 4 - 8 * 8 }],
  ["a used ring at the end of the address space", { device: 2 ** 64 }],
])("a queue with %s cannot be", (_, change) => {
  const ram = new FakeRam([{ start: 0, length: 0x10000 }]);
  const layout = { size: 8, desc: 0x1000, driver: 0x2000, device: 0x3000, ...change };
  const options = { indirect: true, eventIndex: true, call: () => {} };

  expect(() => new Virtqueue(ram.windows, layout, options)).toThrow(GuestFault);
});

test("a queue of 32768 works, and no chain in it is longer than 1024 descriptors", () => {
  const size = 32768; // virtio 1.2 section 2.7: the largest
  const ram = new FakeRam([{ start: 0, length: 0x14_0000 }]);
  const driver = new Driver(ram, size, 0x1000, 65530);
  const options = { indirect: false, eventIndex: true, call: () => {}, nextAvail: 65530 };
  const queue = new Virtqueue(ram.windows, driver.layout, options);
  for (let i = 0; i < size; i++) driver.offer([{ address: 0x10_0000 + i, length: 1 }]);

  for (let i = 0; i < size; i++) queue.complete(queue.next(), 0);
  expect(queue.next()).toBe(-1);
  expect(queue.armKick()).toBe(true);
  queue.flush();
  expect(driver.collect().length).toBe(size);

  for (let i = 0; i < 2048; i++) {
    driver.describe(i, { address: 0x10_0000, length: 0, flags: i < 2047 ? 1 : 0, next: i + 1 });
  }
  driver.publish(2000);
  expect(queue.next()).toBe(2000);
  driver.publish(0);
  expect(() => queue.next()).toThrow("a chain of more than 1024 descriptors");
});

test("rings may end with RAM", () => {
  const ram = new FakeRam([{ start: 0, length: 0x4000 }]);
  const layout = { size: 8, desc: 0x1f80, driver: 0, device: 0x4000 - 4 - 64 - 4 };
  const options = { indirect: true, eventIndex: true, call: () => {} };

  expect(new Virtqueue(ram.windows, layout, options).next()).toBe(-1);
});
