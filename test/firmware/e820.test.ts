import { expect, test } from "bun:test";
import fc from "fast-check";
import { buildE820, E820Type, usableRanges } from "../../src/firmware/e820.ts";

const GiB = 2 ** 30;

test("RAM is cut at the hole below 1 MiB, and the hole is reported", () => {
  const map = buildE820(
    [{ start: 0, length: 512 * 2 ** 20 }],
    [{ start: 0x9_fc00, length: 0x6_0400, type: E820Type.reserved }],
  );

  expect(map).toEqual([
    { start: 0, length: 0x9_fc00, type: 1 },
    { start: 0x9_fc00, length: 0x6_0400, type: 2 },
    { start: 0x10_0000, length: 0x1ff0_0000, type: 1 },
  ]);
});

test("a hole is cut out of RAM without being reported", () => {
  const map = buildE820(
    [{ start: 0, length: 0x20_0000 }],
    [
      { start: 0x9_fc00, length: 0x400, type: E820Type.reserved },
      { start: 0xa_0000, length: 0x4_0000, type: E820Type.hole },
      { start: 0xe_0000, length: 0x2_0000, type: E820Type.reserved },
    ],
  );

  expect(map).toEqual([
    { start: 0, length: 0x9_fc00, type: 1 },
    { start: 0x9_fc00, length: 0x400, type: 2 },
    { start: 0xe_0000, length: 0x2_0000, type: 2 },
    { start: 0x10_0000, length: 0x10_0000, type: 1 },
  ]);
});

test("RAM around the 32-bit hole and MMCONFIG come out in address order", () => {
  const map = buildE820(
    [
      { start: 4 * GiB, length: 2 * GiB },
      { start: 0, length: 3 * GiB },
    ],
    [{ start: 0xe800_0000, length: 0x1000_0000, type: E820Type.reserved }],
  );

  expect(map).toEqual([
    { start: 0, length: 3 * GiB, type: 1 },
    { start: 0xe800_0000, length: 0x1000_0000, type: 2 },
    { start: 4 * GiB, length: 2 * GiB, type: 1 },
  ]);
});

test("neighbours of one type become one entry, empty ones none", () => {
  const map = buildE820(
    [
      { start: 0, length: 0x1000 },
      { start: 0x1000, length: 0x1000 },
      { start: 0x9000, length: 0 },
    ],
    [],
  );

  expect(map).toEqual([{ start: 0, length: 0x2000, type: 1 }]);
});

test("where entries overlap, the higher type wins", () => {
  const map = buildE820(
    [],
    [
      { start: 0x1000, length: 0x2000, type: E820Type.acpi },
      { start: 0x2000, length: 0x2000, type: E820Type.reserved },
    ],
  );

  expect(map).toEqual([
    { start: 0x1000, length: 0x2000, type: 3 },
    { start: 0x3000, length: 0x1000, type: 2 },
  ]);
});

test("a range that does not fit a number is refused", () => {
  expect(() => buildE820([{ start: 2 ** 53, length: 1 }], [])).toThrow(RangeError);
  expect(() => buildE820([{ start: -1, length: 4 }], [])).toThrow(RangeError);
});

test("only RAM is usable, in address order", () => {
  expect(
    usableRanges([
      { start: 0x10_0000, length: 0x1000, type: 1 },
      { start: 0x9_fc00, length: 0x400, type: 2 },
      { start: 0, length: 0x9_fc00, type: 1 },
    ]),
  ).toEqual([
    { start: 0, end: 0x9_fc00 },
    { start: 0x10_0000, end: 0x10_1000 },
  ]);
});

test("any map is sorted, has no overlaps, and says of a byte what the strongest range does", () => {
  const range = fc.record({ start: fc.nat(60), length: fc.nat(20) });
  const typed = fc.record({
    start: fc.nat(60),
    length: fc.nat(20),
    type: fc.integer({ min: 0, max: 4 }),
  });
  const cover = <T extends { start: number; length: number }>(list: readonly T[], at: number) =>
    list.filter(({ start, length }) => start <= at && at < start + length);

  fc.assert(
    fc.property(
      fc.array(range, { maxLength: 4 }),
      fc.array(typed, { maxLength: 5 }),
      (ram, others) => {
        const strong = others.filter(({ type }) => type !== 1);
        const map = buildE820(ram, strong);
        for (let i = 1; i < map.length; i++) {
          expect(map[i]!.start).toBeGreaterThanOrEqual(map[i - 1]!.start + map[i - 1]!.length);
        }
        for (let at = 0; at < 90; at++) {
          const types = cover(strong, at).map(({ type }) => type);
          const expected =
            types.length > 0 ? Math.max(...types) : cover(ram, at).length > 0 ? 1 : 0;
          expect(cover(map, at).map(({ type }) => type)).toEqual(expected === 0 ? [] : [expected]);
        }
      },
    ),
  );
});
