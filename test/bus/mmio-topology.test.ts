/** Ranges that move: the generation, and who is served where they overlap. */
import { expect, test } from "bun:test";
import { Mapping } from "../../src/bus/mapping.ts";
import { MmioBus } from "../../src/bus/mmio-bus.ts";
import { CountingLock, Scratch } from "./parts.ts";

const generation = () => new Int32Array(new SharedArrayBuffer(4));

/** A bus whose moving ranges are `ranges`, and a way to say that they have changed. */
function movable(...ranges: Mapping[]) {
  const word = generation();
  const bus = new MmioBus({ generation: word, ranges: () => ranges });
  return { bus, ranges, publish: () => Atomics.add(word, 0, 1) };
}

function read(bus: MmioBus, address: number): number {
  const data = new DataView(new ArrayBuffer(4));
  bus.read(address, 4, data, 0);
  return data.getUint32(0, true);
}

/** A device whose first register reads `value`. */
function device(value: number): Scratch {
  const scratch = new Scratch(0x1000);
  scratch.bytes.setUint32(0, value, true);
  return scratch;
}

const nobody = 0xffff_ffff;

test("a range is served from the first access on, under its lock", () => {
  const lock = new CountingLock();
  const { bus } = movable(new Mapping("a", 0x1_0000, 0x1000, device(1), lock));

  expect(read(bus, 0x1_0000)).toBe(1);
  expect([lock.acquired, lock.held]).toEqual([1, 0]);
});

test("a range that has moved is found at its new place alone, the last hit included", () => {
  const { bus, ranges, publish } = movable(new Mapping("a", 0x1_0000, 0x1000, device(1)));
  expect(read(bus, 0x1_0000)).toBe(1);

  ranges[0] = new Mapping("a", 0x5_0000_0000, 0x1000, device(2));
  publish();

  expect(read(bus, 0x1_0000)).toBe(nobody);
  expect(read(bus, 0x5_0000_0000)).toBe(2);
  ranges.length = 0;
  publish();
  expect(read(bus, 0x5_0000_0000)).toBe(nobody);
});

test("over a fixed range, however little of it, a moving one is not served at all", () => {
  const { bus, ranges, publish } = movable();
  bus.map("fixed", 0x1_0000, 0x1000, device(1));
  const places: [number, number][] = [
    [0x1_0000, 0x1000],
    [0x0_f000, 0x3000],
    [0x1_0fff, 0x1000],
    [0x0_f001, 0x1000],
  ];
  for (const [base, length] of places) {
    ranges[0] = new Mapping("moving", base, length, device(2));
    publish();

    expect(read(bus, 0x1_0000)).toBe(1);
    expect(read(bus, base === 0x1_0000 ? 0x1_1000 : base)).not.toBe(2);
  }
  ranges[0] = new Mapping("moving", 0x1_1000, 0x1000, device(2));
  publish();
  expect([read(bus, 0x1_0000), read(bus, 0x1_1000)]).toEqual([1, 2]);
});

test("of two moving ranges at one place the first listed is served, until it leaves", () => {
  const { bus, ranges, publish } = movable(
    new Mapping("a", 0x1_0000, 0x1000, device(1)),
    new Mapping("b", 0x1_0000, 0x1000, device(2)),
  );
  expect(read(bus, 0x1_0000)).toBe(1);

  ranges.shift();
  publish();

  expect(read(bus, 0x1_0000)).toBe(2);
});

test("a fixed range that is mapped after an access is served, over a moving one", () => {
  const { bus } = movable(new Mapping("moving", 0x1_0000, 0x1000, device(2)));
  expect(read(bus, 0x1_0000)).toBe(2);

  bus.map("fixed", 0x1_0000, 0x1000, device(1));

  expect(read(bus, 0x1_0000)).toBe(1);
});

test("ranges that lie wherever a guest can put them serve nothing wrong", () => {
  const { bus, ranges, publish } = movable();
  bus.map("fixed", 0xfec0_0000, 0x1000, device(1));
  for (const base of [0, 0xfebf_f000, 2 ** 52 - 0x1000, 2 ** 64 - 2 ** 16]) {
    ranges[0] = new Mapping("moving", base, 0x1000, device(2));
    publish();

    expect(read(bus, base)).toBe(2);
    expect(read(bus, 0xfec0_0000)).toBe(1);
    expect(read(bus, 0x8000_0000)).toBe(nobody);
  }
});
