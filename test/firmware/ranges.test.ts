import { expect, test } from "bun:test";
import { highestFit, holds, lowestFit, pickFit, subtract } from "../../src/firmware/ranges.ts";

const free = [
  { start: 0x1000, end: 0x5000 },
  { start: 0x8000, end: 0xa000 },
];

test("taking ranges away splits, trims and removes", () => {
  expect(subtract(free, [{ start: 0x2000, end: 0x3000 }])).toEqual([
    { start: 0x1000, end: 0x2000 },
    { start: 0x3000, end: 0x5000 },
    { start: 0x8000, end: 0xa000 },
  ]);
  expect(subtract(free, [{ start: 0x4000, end: 0x9000 }])).toEqual([
    { start: 0x1000, end: 0x4000 },
    { start: 0x9000, end: 0xa000 },
  ]);
  expect(subtract(free, [{ start: 0, end: 0x10_0000 }])).toEqual([]);
  expect(subtract(free, [{ start: 0x5000, end: 0x8000 }])).toEqual(free);
});

test("a range is held only by one that has all of it", () => {
  expect(holds(free, 0x1000, 0x5000)).toBe(true);
  expect(holds(free, 0x0fff, 0x2000)).toBe(false);
  expect(holds(free, 0x4000, 0x9000)).toBe(false);
});

test("the lowest and the highest fit are aligned and whole", () => {
  expect(lowestFit(free, 0x1000, 0x1000, 0)).toBe(0x1000);
  expect(lowestFit(free, 0x1000, 0x1000, 0x4001)).toBe(0x8000);
  expect(lowestFit(free, 0x1000, 0x2000, 0)).toBe(0x2000);
  expect(lowestFit(free, 0x4001, 0x1000, 0)).toBeUndefined();
  expect(highestFit(free, 0x1000, 0x1000, 0xffff_ffff)).toBe(0x9000);
  expect(highestFit(free, 0x1000, 0x1000, 0x9fff)).toBe(0x8000);
  expect(highestFit(free, 0x3000, 0x1000, 0xffff_ffff)).toBe(0x2000);
  expect(highestFit(free, 0x1000, 0x1000, 0x1fff)).toBeUndefined();
});

test("a pick counts every slot of every range once", () => {
  const seen = Array.from({ length: 6 }, (_, i) =>
    pickFit(free, 0x1000, 0x1000, { minimum: 0, limit: 0x1_0000 }, (count) => {
      expect(count).toBe(6);
      return i;
    }),
  );

  expect(seen).toEqual([0x1000, 0x2000, 0x3000, 0x4000, 0x8000, 0x9000]);
});

test("a pick respects minimum and limit, and may find nothing", () => {
  const bounds = { minimum: 0x4000, limit: 0x9000 };

  expect(pickFit(free, 0x1000, 0x1000, bounds, (count) => count - 1)).toBe(0x8000);
  expect(pickFit(free, 0x1000, 0x1000, bounds, () => 0)).toBe(0x4000);
  expect(pickFit(free, 0x8000, 0x1000, bounds, () => 0)).toBeUndefined();
});
