/** The block device against a file, by io_uring and by preadv2 and pwritev2 (virtio 1.2 section 5.2.6). */
import { describe, expect, test } from "bun:test";
import { ftruncateSync } from "node:fs";
import { BlockBackend } from "../../../src/devices/virtio/block.ts";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { allFeatures, Disk, type DiskOptions } from "./disk.ts";

const [IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES] = [0, 1, 4, 8, 11, 13];
const [OK, IOERR, UNSUPP] = [0, 1, 2];
const none = new Uint8Array(0);
const sector = 512;

/** Bytes that are different at every place, and never zero. */
const pattern = (length: number, seed = 1) =>
  Uint8Array.from({ length }, (_, i) => ((i * 31 + (i >> 8) * 17 + seed) % 255) + 1);

function range(from: number, count: number, flags = 0): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, BigInt(from), true);
  view.setUint32(8, count, true);
  view.setUint32(12, flags, true);
  return new Uint8Array(view.buffer);
}

describe.each([
  ["io_uring", true],
  ["preadv2 and pwritev2", false],
])("by %s", (_, uring) => {
  const disk = (options: DiskOptions = {}) => new Disk({ uring, ...options });

  test("the mode is the one that was asked for", () => {
    using device = disk();

    expect(device.doers.length).toBe(uring ? 0 : 1);
    expect(device.warnings).toEqual([]);
  });

  test("IN reads the image", () => {
    const content = pattern(64 * sector);
    using device = disk({ content });

    const { status, data, written } = device.request(IN, 3, none, 5 * sector);

    expect(status).toBe(OK);
    expect(data).toEqual(content.subarray(3 * sector, 8 * sector));
    expect(written).toBe(5 * sector + 1);
    expect(device.calls).toBeGreaterThan(0);
    expect(device.ram.guardsIntact).toBe(true);
  });

  test("OUT writes the image, and nothing beside", () => {
    using device = disk();
    const data = pattern(4 * sector, 9);

    const { status, written } = device.request(OUT, 60, data, 0);

    expect(status).toBe(OK);
    expect(written).toBe(1);
    const expected = new Uint8Array(64 * sector);
    expected.set(data, 60 * sector);
    expect(device.content()).toEqual(expected);
  });

  test.each([
    ["byte by byte", { cutReadable: Array(40).fill(1), cutWritable: Array(40).fill(1) }],
    ["with the header in two", { cutReadable: [7], cutWritable: [512] }],
    ["with header and data in one", { cutReadable: [700], cutWritable: [1025] }],
    ["with the status behind data", { cutReadable: [16], cutWritable: [100, 924] }],
  ])("a request may be cut %s", (_name, cuts) => {
    using device = disk({ queueSize: 64 });
    const data = pattern(2 * sector, 3);
    const framing = { ...cuts, indirect: true };

    const wrote = device.request(OUT, 8, data, 0, framing);
    const read = device.request(IN, 8, none, 2 * sector, framing);

    expect(wrote.status).toBe(OK);
    expect(read.status).toBe(OK);
    expect(read.data).toEqual(data);
    expect(read.written).toBe(2 * sector + 1);
  });

  test("requests in hand at once end as they should, in any order", () => {
    const content = pattern(64 * sector, 5);
    using device = disk({ content });

    const waits = [0, 1, 2, 3, 4].map((i) =>
      device.send(IN, i * 7, none, 3 * sector, {}, 0x2_0000 + i * 0x4000),
    );
    device.backend.kicked(0);

    for (const [i, wait] of waits.entries()) {
      const { status, data } = wait();
      expect(status).toBe(OK);
      expect(data).toEqual(content.subarray(i * 7 * sector, (i * 7 + 3) * sector));
    }
  });

  test("several queues work side by side", () => {
    using device = disk({ queues: 3 });

    for (const queue of [0, 1, 2]) {
      expect(device.request(OUT, queue, pattern(sector, queue + 1), 0, { queue }).status).toBe(OK);
    }

    for (const queue of [0, 1, 2]) {
      const { data } = device.request(IN, queue, none, sector, { queue: 2 - queue });
      expect(data).toEqual(pattern(sector, queue + 1));
    }
  });

  test("a queue that the driver left out costs nothing", () => {
    using device = disk({ queues: 2 });
    device.backend.stop(() => {});
    device.backend.start([undefined, device.queues[1]!], allFeatures);

    device.backend.kicked(0);

    expect(device.request(IN, 0, none, sector, { queue: 1 }).status).toBe(OK);
  });

  test("FLUSH is answered", () => {
    using device = disk();

    expect(device.request(FLUSH, 0, none, 0)).toEqual({ status: OK, data: none, written: 1 });
    expect(device.counters[4]).toBe(1);
  });

  test.each([
    ["in 20 bytes", "disk-serial", 20, "disk-serial\0\0\0\0\0\0\0\0\0", 21],
    ["cut to 20 bytes", "a-serial-of-more-than-20", 20, "a-serial-of-more-tha", 21],
    ["into less room", "disk-serial", 4, "disk", 5],
    ["into more room", "s", 24, `s${"\0".repeat(19)}\xee\xee\xee\xee`, 20],
  ])("GET_ID gives the serial %s", (_name, serial, room, text, written) => {
    using device = disk({ serial });

    const answer = device.request(GET_ID, 0, none, room, { cutWritable: [3, 1] });

    expect(answer.status).toBe(OK);
    expect(Buffer.from(answer.data).toString("latin1")).toBe(text);
    expect(answer.written).toBe(written);
  });

  test.each([
    ["DISCARD", DISCARD, 0],
    ["WRITE_ZEROES that may unmap", WRITE_ZEROES, 1],
  ])("%s gives room back, and the sectors read zero", (_name, type, flags) => {
    const content = pattern(256 * sector);
    using device = disk({ content });
    const before = device.allocated;

    const { status } = device.request(type, 0, range(64, 128, flags), 0);

    expect(status).toBe(OK);
    expect(device.content()).toEqual(content.slice().fill(0, 64 * sector, 192 * sector));
    expect(device.allocated).toBe(before - 128 * sector);
  });

  test("WRITE_ZEROES without unmap keeps the room, at any sector", () => {
    const content = pattern(256 * sector);
    using device = disk({ content });
    const before = device.allocated;

    const { status } = device.request(WRITE_ZEROES, 0, range(5, 130), 0);

    expect(status).toBe(OK);
    expect(device.content()).toEqual(content.slice().fill(0, 5 * sector, 135 * sector));
    expect(device.allocated).toBe(before);
  });

  test("an image that cannot give room back has its zeroes written", () => {
    const content = pattern(256 * sector);
    using device = disk({ content, discard: false });
    const before = device.allocated;

    expect(device.request(WRITE_ZEROES, 0, range(0, 256, 1), 0).status).toBe(OK);

    expect(device.content()).toEqual(new Uint8Array(256 * sector));
    expect(device.allocated).toBe(before);
  });

  test.each([
    ["IN over the end", IN, 63, none, 2 * sector],
    ["IN behind the end", IN, 64, none, sector],
    ["IN at a sector near 2^64", IN, 2 ** 63, none, sector],
    ["IN of half a sector", IN, 0, none, 700],
    ["OUT over the end", OUT, 63, pattern(2 * sector), 0],
    ["OUT of a byte", OUT, 0, pattern(1), 0],
    ["OUT at 2^55", OUT, 2 ** 55, pattern(sector), 0],
    ["DISCARD over the end", DISCARD, 0, range(60, 5), 0],
    ["DISCARD of nothing known", DISCARD, 0, none, 0],
    ["DISCARD of half a range", DISCARD, 0, range(0, 1).subarray(0, 8), 0],
    ["DISCARD of two ranges", DISCARD, 0, new Uint8Array([...range(0, 1), ...range(2, 1)]), 0],
    ["WRITE_ZEROES over the end", WRITE_ZEROES, 0, range(64, 1), 0],
    ["WRITE_ZEROES of 2^32 - 1 sectors", WRITE_ZEROES, 0, range(0, 0xffff_ffff), 0],
  ])("%s is an I/O error, and touches nothing", (_name, type, at, data, room) => {
    const content = pattern(64 * sector);
    using device = disk({ content });

    const answer = device.request(type, at, data, room);

    expect(answer.status).toBe(IOERR);
    expect(answer.written).toBe(room === 0 ? 1 : 0);
    expect(answer.data.every((byte) => byte === 0xee)).toBe(true);
    expect(device.content()).toEqual(content);
    expect(device.counters[7]).toBe(1);
  });

  test.each([
    ["a type that nobody knows", 99, range(0, 1)],
    ["secure erase, which is not offered", 14, range(0, 1)],
    ["DISCARD with the unmap flag", DISCARD, range(0, 1, 1)],
    ["DISCARD with an unknown flag", DISCARD, range(0, 1, 0x8000_0000)],
    ["WRITE_ZEROES with an unknown flag", WRITE_ZEROES, range(0, 1, 2)],
  ])("%s is unsupported", (_name, type, data) => {
    const content = pattern(64 * sector);
    using device = disk({ content });

    expect(device.request(type, 0, data, 0).status).toBe(UNSUPP);

    expect(device.content()).toEqual(content);
  });

  test("what the driver did not accept is unsupported", () => {
    using device = disk({ features: 0n });

    expect(device.request(DISCARD, 0, range(0, 1), 0).status).toBe(UNSUPP);
    expect(device.request(WRITE_ZEROES, 0, range(0, 1), 0).status).toBe(UNSUPP);
  });

  test("a read-only disk is read, and not written", () => {
    const content = pattern(64 * sector);
    using device = disk({ content, readonly: true });

    expect(device.request(OUT, 0, pattern(sector, 7), 0).status).toBe(IOERR);
    expect(device.request(IN, 0, none, sector).data).toEqual(content.subarray(0, sector));
    expect(device.request(FLUSH, 0, none, 0).status).toBe(OK);
    expect(device.content()).toEqual(content);
  });

  test("a file that was cut short under the guest gives I/O errors", () => {
    using device = disk();
    ftruncateSync(device.fd, 10 * sector);

    const part = device.request(IN, 9, none, 2 * sector);
    const nothing = device.request(IN, 20, none, sector);

    expect([part.status, part.written]).toEqual([IOERR, 0]);
    expect(nothing.status).toBe(IOERR);
    expect(device.warnings.length).toBe(1);
    expect(device.warnings[0]).toContain("EIO");
  });

  test("errors of the host are I/O errors", () => {
    using device = disk({ sectors: 2 ** 54 }); // farther than any file goes

    expect(device.request(OUT, 2 ** 54 - 1, pattern(sector), 0).status).toBe(IOERR);
    expect(device.request(IN, 2 ** 53, none, sector).status).toBe(IOERR);
    expect(device.warnings.length).toBe(1);
  });

  test("no header is an I/O error; no room for a status gives the chain back", () => {
    using device = disk();

    const short = device.sendRaw(pattern(15), 1);
    device.backend.kicked(0);
    expect(short()).toEqual({ status: IOERR, data: none, written: 1 });
    const mute = device.sendRaw(pattern(16), 0);
    device.backend.kicked(0);
    expect(mute().written).toBe(0);
  });

  test("no bytes to move is no error", () => {
    using device = disk();

    expect(device.request(IN, 64, none, 0).status).toBe(OK);
    expect(device.request(OUT, 0, none, 0).status).toBe(OK);
    expect(device.request(WRITE_ZEROES, 0, range(0, 0), 0).status).toBe(OK);
  });

  test("more pieces of memory than were offered are an I/O error", () => {
    using device = disk({ queueSize: 16 });
    const pieces = Array(17).fill(32);

    const answer = device.request(IN, 0, none, 2 * sector, {
      ...{ cutWritable: pieces, indirect: true },
    });

    expect(answer.status).toBe(IOERR);
  });

  test("a broken chain is a fault, and those before it are answered", () => {
    const content = pattern(64 * sector);
    using device = disk({ content });
    const good = device.send(IN, 1, none, sector);
    device.drivers[0]!.publish(0xffff);

    expect(() => device.backend.kicked(0)).toThrow(GuestFault);

    expect(good().data).toEqual(content.subarray(sector, 2 * sector));
    expect(device.backend.stop(() => {})).toBe(true);
  });

  test("a stopped device answers what is in hand and takes no more; started again, it works", () => {
    const content = pattern(64 * sector, 2);
    using device = disk({ content });
    const flushes = [0, 1, 2].map((i) => device.send(FLUSH, 0, none, 0, {}, 0x2_0000 + i * 64));
    device.backend.kicked(0);
    let quiet = false;

    quiet = device.backend.stop(() => {
      quiet = true;
    });
    while (!quiet) device.pump();

    for (const flush of flushes) expect(flush().status).toBe(OK);
    device.send(IN, 0, none, sector);
    device.backend.kicked(0);
    device.pump(0);
    expect(device.drivers[0]!.collect()).toEqual([]);
    device.start();
    const { status, data } = device.request(IN, 0, none, sector);
    expect(status).toBe(OK);
    expect(data).toEqual(content.subarray(0, sector));
  });

  test("counters say what was done", () => {
    using device = disk();
    device.request(IN, 0, none, 3 * sector);
    device.request(OUT, 0, pattern(2 * sector), 0);
    device.request(OUT, 0, pattern(2 * sector), 0);
    device.request(DISCARD, 0, range(0, 1), 0);
    device.request(WRITE_ZEROES, 0, range(0, 1), 0);
    device.request(99, 0, none, 0);

    expect([...device.counters]).toEqual([1, 3 * sector, 2, 4 * sector, 0, 1, 1, 1]);
  });
});

test.each([true, false])(
  "backends with a share of the queues each work side by side, io_uring %p",
  (uring) => {
    using first = new Disk({ uring, queues: 4, numbers: [0, 2] });
    using second = new Disk({ uring, queues: 4, numbers: [1, 3], fd: first.fd });

    for (const [disk, queue] of [
      [first, 0],
      [second, 1],
      [first, 2],
      [second, 3],
    ] as const) {
      expect(disk.request(OUT, queue, pattern(sector, queue + 1), 0, { queue }).status).toBe(OK);
      expect(disk.request(FLUSH, 0, none, 0, { queue }).status).toBe(OK);
    }
    first.backend.kicked(1); // another's

    const expected = new Uint8Array(64 * sector);
    for (const queue of [0, 1, 2, 3]) expected.set(pattern(sector, queue + 1), queue * sector);
    expect(first.content()).toEqual(expected);
    expect(first.backend.transfers.slots).toBe(32);
  },
);

test("without io_uring, a flush, a hole and zeroes that take their time hold up nobody", () => {
  const content = pattern(256 * sector);
  using slow = new Disk({ uring: false, choresWait: true, content });
  using other = new Disk({ uring: false, choresWait: true, content });
  const places = [0, 1, 2].map((i) => 0x3_0000 + i * 0x1000);
  const waits = [
    slow.send(FLUSH, 0, none, 0, {}, places[0]),
    slow.send(DISCARD, 0, range(64, 64), 0, {}, places[1]),
    slow.send(WRITE_ZEROES, 0, range(128, 64, 1), 0, {}, places[2]),
  ];
  slow.backend.kicked(0);

  expect(slow.drivers[0]!.usedIndex).toBe(0);
  expect(slow.request(IN, 1, none, sector).data).toEqual(content.subarray(sector, 2 * sector));
  expect(other.request(IN, 1, none, sector).data).toEqual(content.subarray(sector, 2 * sector));
  let quiet = slow.backend.stop(() => {
    quiet = true;
  });
  expect([quiet, slow.drivers[0]!.usedIndex, slow.content()]).toEqual([false, 1, content]);

  slow.doers[0]!.serve();
  slow.pump();

  expect(waits.map((wait) => wait().status)).toEqual([OK, OK, OK]);
  expect(slow.content()).toEqual(
    content
      .slice()
      .fill(0, 64 * sector, 128 * sector)
      .fill(0, 128 * sector, 192 * sector),
  );
  expect(quiet).toBe(true);
});

test("without io_uring, an error of a chore is the guest's", () => {
  using device = new Disk({ uring: false });
  device.doers[0]!.script.push(5);

  expect(device.request(FLUSH, 0, none, 0).status).toBe(IOERR);
  expect(device.warnings).toEqual([expect.stringContaining("EIO")]);
});

test("where io_uring is refused, a warning says so and the disk works", () => {
  // no ring has room for a request of each of so many queues (IORING_MAX_ENTRIES is 32,768)
  const content = pattern(64 * sector);
  using device = new Disk({ queueSize: 4, content });
  const config = new Uint8Array(60);
  const spec = { ...device.spec, queues: 10_000 };

  const backend = new BlockBackend(spec, device, config);
  backend.start(device.queues, allFeatures);
  const wait = device.send(IN, 2, none, sector);
  backend.kicked(0);

  expect(device.warnings.length).toBe(1);
  expect(device.warnings[0]).toContain("preadv2");
  expect(wait().data).toEqual(content.subarray(2 * sector, 3 * sector));
});
