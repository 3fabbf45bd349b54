/**
 * Random requests to the block device, framed by hostile drivers, against a model of virtio 1.2 section 5.2.6 and of the
 * rings: the same answers, the same bytes in the image, and nothing touched beside.
 */
import { expect } from "bun:test";
import fc from "fast-check";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { Disk } from "./disk.ts";
import { model, ramOf, type Segment, wild } from "./random-rings.ts";

const queueSize = 8;
const sectors = 40;
const imageBytes = sectors * 512;
/** Rings at 0x1000; an indirect table; where drivers put what the device reads, and what it writes. */
const [table, readableAt, writableAt] = [0x4000, 0x8000, 0x10_000];
const tableEntries = 6;
const [IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES] = [0, 1, 4, 8, 11, 13];
const [OK, IOERR, UNSUPP] = [0, 1, 2];
const serial = "random-disk";

const lengths = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(1, 16, 512, 1024, 513, 1025, 2048) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 40 }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 5000 }) },
);
const buffer = (write: boolean) =>
  fc.record({
    address: fc.integer({ min: 0, max: 0x2000 }).map((n) => n + (write ? writableAt : readableAt)),
    length: lengths,
    write: fc.constant(write),
  });
const sector = fc.oneof(
  { weight: 8, arbitrary: fc.bigInt({ min: 0n, max: BigInt(sectors) }) },
  { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) },
);
const request = fc.record({
  readable: fc.array(buffer(false), { maxLength: 3 }),
  writable: fc.array(buffer(true), { maxLength: 3 }),
  indirect: fc.boolean(),
  /** Now and then one descriptor is anything at all. */
  wild: fc.option(fc.record({ at: fc.nat(5), descriptor: wild }), { freq: 8 }),
  type: fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(IN, IN, OUT, OUT, FLUSH, GET_ID) },
    { weight: 4, arbitrary: fc.constantFrom(DISCARD, WRITE_ZEROES) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff_ffff }) },
  ),
  sector,
  range: fc.record({
    sector,
    count: fc.oneof(fc.integer({ min: 0, max: 8 }), fc.integer({ min: 0, max: 0xffff_ffff })),
    flags: fc.constantFrom(0, 0, 0, 1, 1, 2, 0x8000_0000),
  }),
  noise: fc.integer({ min: 1, max: 255 }),
});
type Request = typeof request extends fc.Arbitrary<infer T> ? T : never;

/** The addresses of a part's bytes, in order. */
const places = (segments: readonly Segment[], write: boolean): number[] =>
  segments
    .filter((segment) => segment.write === write)
    .flatMap(({ address, length }) => Array.from({ length }, (_, i) => Number(address) + i));

/** What the device should answer, and do to `image`: data it writes for the driver, and the status. */
function answer(input: Uint8Array, room: number, image: Uint8Array) {
  const failed = (status: number) => ({ status, data: new Uint8Array(0) });
  if (input.length < 16) return failed(IOERR);
  const view = new DataView(input.buffer, input.byteOffset, input.length);
  const at = view.getBigUint64(8, true);
  const inside = (from: bigint, count: number) => from + BigInt(count) <= BigInt(sectors);
  const length = input.length - 16;
  switch (view.getUint32(0, true)) {
    case IN:
      if (room % 512 !== 0 || !inside(at, room / 512)) return failed(IOERR);
      return { status: OK, data: image.slice(Number(at) * 512, Number(at) * 512 + room) };
    case OUT:
      if (length % 512 !== 0 || !inside(at, length / 512)) return failed(IOERR);
      image.set(input.subarray(16), Number(at) * 512);
      return failed(OK);
    case FLUSH:
      return failed(OK);
    case GET_ID: {
      const id = Buffer.concat([Buffer.from(serial), Buffer.alloc(20 - serial.length)]);
      return { status: OK, data: new Uint8Array(id.subarray(0, room)) };
    }
    case DISCARD:
    case WRITE_ZEROES: {
      if (length !== 16) return failed(IOERR);
      const [from, count] = [view.getBigUint64(16, true), view.getUint32(24, true)];
      const allowed = view.getUint32(0, true) === DISCARD ? 0 : 1;
      if ((view.getUint32(28, true) & ~allowed) !== 0) return failed(UNSUPP);
      if (count > 0x3f_ffff || !inside(from, count)) return failed(IOERR);
      image.fill(0, Number(from) * 512, (Number(from) + count) * 512);
      return failed(OK);
    }
    default:
      return failed(UNSUPP);
  }
}

/** Lays a request's descriptors and what the device is to read; the head's segments, or "fault", as the model sees them. */
function offer(disk: Disk, wanted: Request): Segment[] | "fault" {
  const driver = disk.drivers[0]!;
  const buffers = [...wanted.readable, ...wanted.writable];
  if (buffers.length === 0) buffers.push({ address: writableAt, length: 0, write: true });
  const base = wanted.indirect ? table : driver.desc;
  for (const [i, { address, length, write }] of buffers.entries()) {
    const last = i === buffers.length - 1;
    const flags = (write ? 2 : 0) + (last ? 0 : 1);
    driver.write(base + 16 * i, { address, length, flags, next: last ? 0 : i + 1 });
  }
  let head = 0;
  if (wanted.indirect) {
    const length = 16 * Math.min(buffers.length, tableEntries);
    driver.describe((head = 7), { address: table, length, flags: 4, next: 0 });
  }
  if (wanted.wild) driver.write(base + 16 * wanted.wild.at, wanted.wild.descriptor);
  const memory = (at: bigint) => disk.ram.view(Number(at), 16);
  const segments = model(memory, ramOf(disk.ram.regions), driver.desc, queueSize, head);
  if (segments !== "fault") fillReadable(disk, wanted, places(segments, false));
  driver.publish(head);
  return segments;
}

/** Header, range and noise, through segments that may lie over each other. */
function fillReadable(disk: Disk, wanted: Request, where: readonly number[]): void {
  const bytes = new DataView(new ArrayBuffer(32));
  bytes.setUint32(0, wanted.type, true);
  bytes.setBigUint64(8, wanted.sector, true);
  bytes.setBigUint64(16, wanted.range.sector, true);
  bytes.setUint32(24, wanted.range.count, true);
  bytes.setUint32(28, wanted.range.flags, true);
  for (let i = where.length - 1; i >= 0; i--) {
    if (where[i]! < readableAt || where[i]! >= writableAt) continue; // the rings, with a wild descriptor
    disk.ram.bytes(where[i]!, 1)[0] = i < 32 ? bytes.getUint8(i) : (wanted.noise + i) & 0xff;
  }
}

/** The driver resets the device, and takes it into use again. */
function restart(disk: Disk): void {
  let quiet = false;
  quiet = disk.backend.stop(() => {
    quiet = true;
  });
  while (!quiet) disk.pump();
  disk.start();
}

/** Runs so many random requests on one device. */
export function tryRandomRequests(runs: number, uring: boolean): void {
  const image = Uint8Array.from({ length: imageBytes }, (_, i) => (i % 251) + 1);
  using disk = new Disk({ uring, queueSize, content: image, serial, guarded: true });
  const statuses = new Map<number | "fault", number>();
  const property = fc.property(request, (wanted) => {
    const segments = offer(disk, wanted);
    if (segments === "fault") {
      expect(() => disk.backend.kicked(0)).toThrow(GuestFault);
      restart(disk);
      statuses.set("fault", (statuses.get("fault") ?? 0) + 1);
      return;
    }
    const input = Uint8Array.from(places(segments, false), (at) => disk.ram.bytes(at, 1)[0]!);
    const output = places(segments, true);
    if (output.some((at) => at < writableAt)) {
      // the device is told to write over what it reads, its rings among them: nothing but the guard is foretold
      try {
        disk.backend.kicked(0);
      } catch (error) {
        expect(error).toBeInstanceOf(GuestFault);
      }
      restart(disk);
      image.set(disk.content());
      expect(disk.ram.guardsIntact).toBe(true);
      return;
    }
    for (const at of output) disk.ram.bytes(at, 1)[0] = 0xee;

    disk.backend.kicked(0);
    const { written } = disk.answer(wanted.indirect ? 7 : 0);

    expect(disk.ram.guardsIntact).toBe(true);
    if (output.length === 0) {
      expect(written).toBe(0);
      return;
    }
    const room = output.length - 1;
    const { status, data } = answer(input, room, image);
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
    expect(disk.ram.bytes(output[room]!, 1)[0]).toBe(status);
    expect(written).toBe(data.length === room ? room + 1 : data.length);
    const distinct = new Set(output).size === output.length;
    if (distinct) {
      expect(
        Uint8Array.from(output.slice(0, data.length), (at) => disk.ram.bytes(at, 1)[0]!),
      ).toEqual(data);
    }
    expect(Buffer.compare(disk.content(), image)).toBe(0);
  });
  fc.assert(property, { numRuns: runs, endOnFailure: true });

  // the generator reaches every kind of answer
  for (const status of [OK, IOERR, UNSUPP, "fault"] as const) {
    expect(statuses.get(status) ?? 0).toBeGreaterThan(runs / 200);
  }
  expect(disk.warnings).toEqual([]);
}
