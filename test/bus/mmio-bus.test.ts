/** The MMIO bus against a naive model: widths, splitting, straddling and the cache of the last hit. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { MmioBus } from "../../src/bus/mmio-bus.ts";
import { CountingLock, failing, ranges, Scratch } from "./parts.ts";

/** Reads `size` bytes; those around them must stay as they are. */
function read(bus: MmioBus, address: number, size: number): number[] {
  const data = new DataView(new ArrayBuffer(16));
  new Uint8Array(data.buffer).fill(0x55);
  bus.read(address, size, data, 4);
  const bytes = [...new Uint8Array(data.buffer)];
  expect([...bytes.slice(0, 4), ...bytes.slice(4 + size)]).toEqual(Array(16 - size).fill(0x55));
  return bytes.slice(4, 4 + size);
}

function write(bus: MmioBus, address: number, bytes: readonly number[]): void {
  const data = new DataView(new ArrayBuffer(16));
  new Uint8Array(data.buffer).set(bytes, 4);
  bus.write(address, bytes.length, data, 4);
}

const base = 0xfec0_0000;

test("8 bytes reach a device as two of 4, low half first, under one lock", () => {
  const bus = new MmioBus();
  const scratch = new Scratch(16);
  const lock = new CountingLock();
  bus.map("scratch", base, 16, scratch, lock);

  write(bus, base + 8, [1, 2, 3, 4, 5, 6, 7, 8]);
  expect(read(bus, base + 8, 8)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);

  expect(scratch.calls).toEqual([
    ["write", 8, 4, 0x0403_0201],
    ["write", 12, 4, 0x0807_0605],
    ["read", 8, 4, 0x0403_0201],
    ["read", 12, 4, 0x0807_0605],
  ]);
  expect(lock.acquired).toBe(2);
});

test("odd widths reach a device byte by byte", () => {
  const bus = new MmioBus();
  const scratch = new Scratch(8);
  bus.map("scratch", base, 8, scratch);

  write(bus, base + 1, [9, 8, 7]);

  expect(read(bus, base + 1, 3)).toEqual([9, 8, 7]);
  expect(scratch.calls.slice(0, 3)).toEqual([
    ["write", 1, 1, 9],
    ["write", 2, 1, 8],
    ["write", 3, 1, 7],
  ]);
});

test("nobody's addresses and straddling accesses read all ones; writes vanish", () => {
  const bus = new MmioBus();
  const scratch = new Scratch(8);
  bus.map("scratch", base, 8, scratch);
  read(bus, base, 1); // the cache holds it now
  scratch.calls.length = 0;

  expect(read(bus, base + 4, 8)).toEqual(Array(8).fill(0xff));
  expect(read(bus, base - 2, 4)).toEqual(Array(4).fill(0xff));
  expect(read(bus, 0, 4)).toEqual(Array(4).fill(0xff));
  expect(read(bus, 2 ** 52 - 8, 8)).toEqual(Array(8).fill(0xff));
  write(bus, base + 6, [1, 2, 3, 4]);
  write(bus, base + 8, [1]);

  expect(scratch.calls).toEqual([]);
});

test("overlaps are refused whichever side they come from; neighbours are not", () => {
  const bus = new MmioBus();
  bus.map("middle", base, 0x1000, failing);
  const wanted: [number, number][] = [
    [base, 0x1000],
    [base - 1, 2],
    [base + 0xfff, 1],
    [base - 0x1000, 0x3000],
    [base + 0x10, 0x10],
  ];

  for (const [address, length] of wanted) {
    expect(() => bus.map("other", address, length, failing)).toThrow(
      /^mmio: other \[0x[0-9a-f]+, 0x[0-9a-f]+\) overlaps middle \[0xfec00000, 0xfec01000\)$/,
    );
  }
  bus.map("before", base - 0x1000, 0x1000, failing);
  bus.map("after", base + 0x1000, 0x1000, failing);
});

test("ranges that are none are refused", () => {
  const bus = new MmioBus();
  for (const [address, length] of [
    [-1, 4],
    [0, 0],
    [2 ** 53, 4],
    [0.5, 4],
  ]) {
    expect(() => bus.map("odd", address!, length!, failing)).toThrow(RangeError);
  }
});

test("the lock is given back when the device throws", () => {
  const bus = new MmioBus();
  const lock = new CountingLock();
  bus.map("broken", base, 8, failing, lock);

  for (const size of [1, 2, 3, 4, 8]) {
    expect(() => read(bus, base, size)).toThrow("broken");
    expect(() => write(bus, base, Array(size).fill(0))).toThrow("broken");
  }

  expect([lock.held, lock.acquired]).toEqual([0, 10]);
});

test("behaves as a list of ranges that is searched from the front", () => {
  const far = 0xffff_fff0; // the ranges lie around 4 GiB
  const part = fc.tuple(fc.nat(20), fc.integer({ min: 1, max: 20 }));
  const access = fc.tuple(fc.nat(300), fc.uint8Array({ minLength: 1, maxLength: 8 }));
  fc.assert(
    fc.property(
      fc.array(part, { maxLength: 12 }),
      fc.array(access, { maxLength: 40 }),
      fc.infiniteStream(fc.nat()),
      (parts, accesses, order) => {
        const bus = new MmioBus();
        const owned = ranges(parts, 300).map((range) => ({
          ...range,
          rank: order.next().value,
          device: new Scratch(range.length),
        }));
        for (const { base, length, device } of owned.toSorted((a, b) => a.rank - b.rank)) {
          bus.map(`at ${base}`, far + base, length, device);
        }
        for (const [at, bytes] of accesses) {
          const owner = owned.find(
            ({ base, length }) => base <= at && at + bytes.length <= base + length,
          );
          write(bus, far + at, [...bytes]);

          const expected = owner ? [...bytes] : Array(bytes.length).fill(0xff);
          expect(read(bus, far + at, bytes.length)).toEqual(expected);
          const inside = owned.flatMap(({ device }) => device.calls.splice(0));
          expect(inside.length > 0).toBe(owner !== undefined);
        }
      },
    ),
  );
});
