/** The front end's memory: what its table may say, and that it changes under a running device. */
import { afterEach, describe, expect, test } from "bun:test";
import { closeSync, openSync, readFileSync } from "node:fs";
import { signalEventfd } from "../../../src/ffi/eventfd.ts";
import { DiskRig, diskFeatures, offerRequest, statusOf } from "./disk.ts";
import { type FrontEnd, Message, numbers, Rig, SharedRam, state, table } from "./front-end.ts";
import { copiesOf } from "./held.ts";
import { Holding, model, TestQueue, VERSION_1 } from "./queues.ts";

const KiB = 1024;
const MiB = 2 ** 20;
const OUT = 1;
const cleanups: Disposable[] = [];
afterEach(() => {
  for (const one of cleanups.splice(0).reverse()) one[Symbol.dispose]();
});
const keep = <T extends Disposable>(one: T): T => {
  cleanups.push(one);
  return one;
};
const pattern = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 7 + 3) & 0xff);

/** Ranges of the address space, so long or with a page or two behind it, that were taken and given no memory. */
function reservations(bytes: number): number {
  const lines = readFileSync("/proc/self/maps", "latin1").split("\n");
  const lengths = lines.flatMap((line) => {
    const [start, end] = line.split(/[- ]/).map((word) => Number.parseInt(word, 16));
    return line.includes("---p 00000000 00:00 0") ? [end! - start!] : [];
  });
  return lengths.filter((length) => length >= bytes && length <= bytes + 8192).length;
}

function frontEnd(): FrontEnd {
  return keep(new Rig(model, (host) => keep(new Holding(host))))
    .connect()
    .begin(VERSION_1);
}

describe("a table", () => {
  const size = 64 * KiB;
  const user = 0x7000_0000_0000;

  test.each<[string, (number | bigint)[][]]>([
    [
      "regions that overlap in the guest",
      [
        [0, size, user, 0],
        [size - 4096, size, 2 * user, 0],
      ],
    ],
    [
      "regions that overlap in the front end",
      [
        [0, size, user, 0],
        [size, size, user + 4096, 0],
      ],
    ],
    ["a region of nothing", [[0, 0, user, 0]]],
    ["a region that is not whole pages", [[0, size - 1, user, 0]]],
    ["a region that begins within a page", [[1, 4096, user, 0]]],
    ["an offset within a page", [[0, 4096, user, 512]]],
    ["a region beyond the end of its file", [[0, size, user, 4096]]],
    ["a region that wraps around", [[2n ** 64n - 4096n, 8192, user, 0]]],
    ["an offset that wraps around", [[0, 8192, user, 2n ** 64n - 4096n]]],
    ["a size of all ones", [[0, 2n ** 64n - 1n, user, 0]]],
  ])("with %s is refused, and costs nothing", (_, rows) => {
    const front = frontEnd();
    const ram = keep(new SharedRam(size, 0, user));
    const fds = rows.map(() => ram.fd);

    expect(front.tell(Message.SET_MEM_TABLE, table(...rows), fds)).not.toBe(0);
    expect(front.tell(Message.SET_MEM_TABLE, table(ram.row), [ram.fd])).toBe(0);
  });

  test("of a file that may not be written is refused, and nothing of it is left", () => {
    const front = frontEnd();
    const ram = keep(new SharedRam(size, 0, user));
    const odd = keep(new SharedRam(37 * 4096, MiB, 2 * user)); // a length that nothing else has
    const readOnly = openSync(`/proc/self/fd/${odd.fd}`, "r");
    const reserved = reservations(37 * 4096);
    const both = table(ram.row, odd.row);

    expect(front.tell(Message.SET_MEM_TABLE, both, [ram.fd, readOnly])).not.toBe(0);
    expect(front.tell(Message.ADD_MEM_REG, numbers(0, ...odd.row), [readOnly])).not.toBe(0);

    expect(copiesOf(ram.fd, odd.fd)).toEqual([1, 2]); // the test's own
    expect(reservations(37 * 4096)).toBe(reserved);
    const mapped = readFileSync("/proc/self/maps", "latin1").match(/memfd:test-ram/g)!.length;
    expect(mapped).toBe(2); // the test's own
    expect(front.tell(Message.SET_MEM_TABLE, both, [ram.fd, odd.fd])).toBe(0);
    closeSync(readOnly);
  });

  test("may have 8 regions of one file", () => {
    const front = frontEnd();
    const ram = keep(new SharedRam(size, 0, user));
    const rows = Array.from({ length: 8 }, (_, i) => [i * MiB, 4096, user + i * 4096, i * 4096]);

    expect(
      front.tell(
        Message.SET_MEM_TABLE,
        table(...rows),
        rows.map(() => ram.fd),
      ),
    ).toBe(0);
  });

  test.each([
    ["more descriptors than regions", 1, 2],
    ["fewer", 2, 1],
  ])("with %s ends the connection", (_, rows, fds) => {
    const front = frontEnd();
    const ram = keep(new SharedRam(size, 0, user));
    const all = Array.from({ length: rows }, (_, i) => [i * MiB, 4096, user + i * MiB, 0]);
    const sent = new Array<number>(fds).fill(ram.fd);

    expect(front.endsAfter(Message.SET_MEM_TABLE, table(...all), { fds: sent })).toBe(true);
  });

  test("of nine regions ends the connection", () => {
    const front = frontEnd();
    const ram = keep(new SharedRam(size, 0, user));
    const rows = Array.from({ length: 9 }, (_, i) => [i * MiB, 4096, user + i * MiB, 0]);
    const fds = new Array<number>(8).fill(ram.fd);

    expect(front.endsAfter(Message.SET_MEM_TABLE, table(...rows), { fds })).toBe(true);
  });
});

describe("single regions", () => {
  const single = (row: readonly (number | bigint)[]) => numbers(0, ...row);
  const user = 0x5000_0000_0000;

  test("there may be 64 of them", () => {
    const front = frontEnd();
    const ram = keep(new SharedRam(4096, 0, user));
    expect(front.askNumber(Message.GET_MAX_MEM_SLOTS)).toBe(64n);

    const add = (i: number) =>
      front.tell(Message.ADD_MEM_REG, single([i * MiB, 4096, user + i * MiB, 0]), [ram.fd]);

    expect(Array.from({ length: 64 }, (_, i) => add(i))).toEqual(new Array(64).fill(0));
    expect(add(64)).not.toBe(0);
  });

  test("come and go, by guest address, user address and size", () => {
    const front = frontEnd();
    const ram = keep(new SharedRam(8192, 0, user));
    const row = [MiB, 8192, user, 0];
    expect(front.tell(Message.ADD_MEM_REG, single(row), [ram.fd])).toBe(0);
    expect(front.tell(Message.ADD_MEM_REG, single(row), [ram.fd])).not.toBe(0); // it is there

    expect(front.tell(Message.REM_MEM_REG, single([MiB, 4096, user, 0]))).not.toBe(0);
    expect(front.tell(Message.REM_MEM_REG, single([0, 8192, user, 0]))).not.toBe(0);
    expect(front.tell(Message.REM_MEM_REG, single([MiB, 8192, user + 4096, 0]))).not.toBe(0);
    expect(front.tell(Message.REM_MEM_REG, single([MiB, 8192, user, 12345]), [ram.fd])).toBe(0);
    expect(front.tell(Message.REM_MEM_REG, single(row))).not.toBe(0); // it is gone
  });

  test("are closed when they go, and not before", () => {
    const front = frontEnd();
    const ram = keep(new SharedRam(3 * 4096, 0, user));
    const row = (i: number) => single([i * MiB, 4096, user + i * MiB, i * 4096]);
    const counts = [0, 1, 2].map((i) => {
      front.tell(Message.ADD_MEM_REG, row(i), [ram.fd]);
      return copiesOf(ram.fd);
    });
    front.tell(Message.REM_MEM_REG, row(1));

    // and the test's own
    expect([...counts, copiesOf(ram.fd)]).toEqual([[2], [3], [4], [3]]);
  });

  test("one without a descriptor ends the connection", () => {
    expect(frontEnd().endsAfter(Message.ADD_MEM_REG, single([0, 4096, user, 0]))).toBe(true);
  });
});

describe("a running device", () => {
  const user = 0x6000_0000_0000;

  test("writes from a buffer that runs over the seam of two files", () => {
    const rig = keep(new DiskRig());
    const [low, high] = [
      keep(new SharedRam(MiB, 0, user)),
      keep(new SharedRam(MiB, MiB, 2 * user)),
    ];
    const front = rig.connect().begin(diskFeatures);
    front.tell(Message.SET_MEM_TABLE, table(high.row, low.row), [high.fd, low.fd]);
    const queue = keep(new TestQueue(front, low, 0)).start();
    const data = pattern(1024);
    low.bytes(MiB - 512, 512).set(data.subarray(0, 512));
    high.bytes(MiB, 512).set(data.subarray(512));

    offerRequest(queue, low, OUT, 3, MiB - 512, 1024);
    signalEventfd(queue.kick);
    rig.until(() => (queue.driver.usedIndex === 1 ? true : undefined));

    expect(statusOf(low)).toBe(0);
    expect(rig.content(3 * 512, 1024)).toEqual(data);
  });

  test("finds rings at the start of a region, next to one that lies elsewhere in the guest", () => {
    const rig = keep(new DiskRig());
    const [low, high] = [
      keep(new SharedRam(MiB, 0, user)),
      keep(new SharedRam(MiB, 16 * MiB, user + MiB)),
    ];
    const front = rig.connect().begin(diskFeatures);
    front.tell(Message.SET_MEM_TABLE, table(low.row, high.row), [low.fd, high.fd]);
    const queue = keep(new TestQueue(front, high, 0, 16, 0)).start();
    high.bytes(16 * MiB + 0x9000, 512).set(pattern(512));

    offerRequest(queue, high, OUT, 2, 16 * MiB + 0x9000, 512);
    signalEventfd(queue.kick);
    rig.until(() => (queue.driver.usedIndex === 1 ? true : undefined));

    expect(rig.content(2 * 512, 512)).toEqual(pattern(512));
  });

  test("goes on when its memory is replaced, at other addresses", () => {
    const rig = keep(new DiskRig());
    const ram = keep(new SharedRam(MiB, 0, user));
    const front = rig.connect().begin(diskFeatures);
    front.tell(Message.SET_MEM_TABLE, table(ram.row), [ram.fd]);
    const queue = keep(new TestQueue(front, ram, 0)).start();
    ram.bytes(0x9000, 512).set(pattern(512));
    offerRequest(queue, ram, OUT, 0, 0x9000, 512);
    signalEventfd(queue.kick);
    rig.until(() => (queue.driver.usedIndex === 1 ? true : undefined));

    const more = keep(new SharedRam(MiB, 16 * MiB, user + MiB));
    expect(front.tell(Message.SET_MEM_TABLE, table(more.row, ram.row), [more.fd, ram.fd])).toBe(0);
    more.bytes(16 * MiB, 512).set(pattern(512));
    offerRequest(queue, ram, OUT, 1, 16 * MiB, 512);
    signalEventfd(queue.kick);
    rig.until(() => (queue.driver.usedIndex === 2 ? true : undefined));

    expect(statusOf(ram)).toBe(0);
    expect(rig.content(512, 512)).toEqual(pattern(512));
  });

  test("whose rings are in memory no more is stopped by that", () => {
    const rig = keep(new DiskRig());
    const ram = keep(new SharedRam(MiB, 0, user));
    const front = rig.connect().begin(diskFeatures);
    front.tell(Message.SET_MEM_TABLE, table(ram.row), [ram.fd]);
    const queue = keep(new TestQueue(front, ram, 0)).start();
    const other = keep(new SharedRam(MiB, 0, user + MiB));

    expect(front.tell(Message.SET_MEM_TABLE, table(other.row), [other.fd])).not.toBe(0);
    expect(queue.stop()).toBe(0);
  });

  test.each([
    ["behind it", 0],
    ["that begin in it and do not end there", MiB - 16],
    ["that are not aligned", 0x1001],
  ])("has no rings outside of its memory: %s", (_, at) => {
    const rig = keep(new DiskRig());
    const ram = keep(new SharedRam(MiB, 0, user));
    const front = rig.connect().begin(diskFeatures);
    front.tell(Message.SET_MEM_TABLE, table(ram.row), [ram.fd]);
    const queue = keep(new TestQueue(front, ram, 0)).describe();
    const ring = at === 0 ? user + MiB : user + at;
    const results = [
      front.tell(Message.SET_VRING_ADDR, numbers(0, ring, user + 0x2000, user + 0x3000, 0)),
      front.tell(Message.SET_VRING_KICK, numbers(0), [queue.kick]),
      front.tell(Message.SET_VRING_ENABLE, state(0, 1)),
    ];

    expect(results.some((result) => result !== 0)).toBe(true);
    expect(front.tell(Message.SET_OWNER)).toBe(0);
  });
});
