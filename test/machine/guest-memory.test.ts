/** Where RAM lies around the 32-bit hole, and that nobody gets beside it. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { close, Open, open } from "../../src/ffi/file.ts";
import { GuestMemory, ramLayout } from "../../src/machine/guest-memory.ts";
import { createBacking, type RamBacking } from "../../src/machine/ram-backing.ts";
import { RamView } from "../../src/machine/ram-view.ts";
import { mappingsOf } from "./proc.ts";

const [KiB, MiB, GiB] = [2 ** 10, 2 ** 20, 2 ** 30];

test.each([
  ["512 MiB", 512 * MiB, [[0, 512 * MiB]]],
  ["3 GiB exactly", 3 * GiB, [[0, 0xc000_0000]]],
  [
    "3 GiB and a page",
    3 * GiB + 4 * KiB,
    [
      [0, 0xc000_0000],
      [0x1_0000_0000, 0x1000],
    ],
  ],
  [
    "5 GiB",
    5 * GiB,
    [
      [0, 0xc000_0000],
      [0x1_0000_0000, 0x8000_0000],
    ],
  ],
  [
    "128 GiB",
    128 * GiB,
    [
      [0, 0xc000_0000],
      [0x1_0000_0000, 0x1f_4000_0000],
    ],
  ],
])("%s leaves the hole from 3 to 4 GiB free", (_, size, expected) => {
  expect(ramLayout(size)).toEqual(expected.map(([start, length]) => ({ start, length }) as never));
});

describe("5 GiB of RAM", () => {
  const size = 5 * GiB;
  const backing = createBacking({
    ...{ size, shared: false, hugepages: false, mergeable: false, prefault: false, thp: false },
  });
  const memory = new GuestMemory(size, backing);
  const work = mkdtempSync(join(tmpdir(), "chv-memory-"));
  afterAll(() => {
    backing.close();
    rmSync(work, { recursive: true });
  });
  const [holeStart, holeEnd, end] = [3 * GiB, 4 * GiB, 6 * GiB];
  const isRam = (from: number, length: number) =>
    (from >= 0 && from + length <= holeStart) || (from >= holeEnd && from + length <= end);

  test("regions lie behind each other in the host's mapping", () => {
    expect(memory.regions).toEqual([
      { start: 0, length: 3 * GiB, hostAddress: backing.address },
      { start: 4 * GiB, length: 2 * GiB, hostAddress: backing.address + 3 * GiB },
    ]);
  });

  test("a range has an address exactly when all of it is RAM, of one region", () => {
    const near = fc.constantFrom(0, holeStart, holeEnd, end, 2 ** 32, 2 ** 52, -(2 ** 40));
    const place = fc.tuple(near, fc.integer({ min: -5000, max: 5000 })).map(([a, b]) => a + b);
    const length = fc.oneof(fc.nat(10_000), fc.constantFrom(GiB, 3 * GiB, 2 ** 53, -1, -GiB));
    fc.assert(
      fc.property(place, length, (address, length) => {
        if (length >= 0 && isRam(address, length)) {
          const offset = address < holeEnd ? address : address - GiB;
          expect(memory.hostAddress(address, length)).toBe(backing.address + offset);
        } else {
          expect(() => memory.hostAddress(address, length)).toThrow(RangeError);
        }
      }),
    );
  });

  test("numbers that are none are no addresses", () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => memory.hostAddress(bad, 4)).toThrow(RangeError);
      expect(() => memory.hostAddress(0, bad)).toThrow(RangeError);
    }
  });

  test("what is written is read back, on both sides of the hole; the rest stays zero", () => {
    const data = new Uint8Array([1, 2, 3, 4]);
    memory.write(holeStart - 4, data);
    memory.write(holeEnd, new Uint8Array([5]));
    memory.write(end - 4, data);

    expect(memory.read(holeStart - 6, 6)).toEqual(new Uint8Array([0, 0, 1, 2, 3, 4]));
    expect(memory.read(holeEnd, 2)).toEqual(new Uint8Array([5, 0]));
    expect(memory.read(end - 4, 4)).toEqual(data);
    expect(() => memory.write(holeStart - 3, data)).toThrow(
      new RangeError("guest memory [0xbffffffd, 0xc0000001) is not RAM"),
    );

    memory.zero(end - 3, 2);
    expect(memory.read(end - 4, 4)).toEqual(new Uint8Array([1, 0, 0, 4]));
    expect(() => memory.zero(end - 3, 4)).toThrow(RangeError);
    expect(memory.read(end, 0)).toEqual(new Uint8Array(0));
  });

  test("a file comes in at its offset; one that ends early is an error", () => {
    const path = join(work, "file");
    writeFileSync(path, "0123456789");
    const fd = open(path, Open.readOnly);
    try {
      memory.readFile(fd, 3, 0x1000, 5);
      expect(new TextDecoder().decode(memory.read(0xfff, 7))).toBe("\0" + "34567\0");
      expect(() => memory.readFile(fd, 8, 0x1000, 5)).toThrow(
        new RangeError("the file ends 3 bytes early, at 10"),
      );
      expect(() => memory.readFile(fd, 0, holeStart - 2, 5)).toThrow(RangeError);
    } finally {
      close(fd);
    }
  });

  test("discard makes all of it read zero again", () => {
    memory.write(0x5000, new Uint8Array([9]));
    memory.write(end - 1, new Uint8Array([9]));
    expect(memory.discard()).toBe(true);

    expect(memory.read(0x5000, 1)[0]).toBe(0);
    expect(memory.read(end - 1, 1)[0]).toBe(0);
  });
});

test("fresh memory is not touched to be zero", () => {
  const size = 2 * MiB;
  const options = { size, hugepages: false, mergeable: false, prefault: false, thp: false };
  const backing = createBacking({ ...options, shared: false });
  const { regions } = new GuestMemory(size, backing);
  const [used, fresh] = [new RamView(regions), new RamView(regions, true)];
  fresh.zero(0, size);
  expect(residentKiB(backing.address)).toBe(0);
  expect(() => fresh.zero(size, 1)).toThrow(RangeError);
  used.zero(0, size);
  expect(residentKiB(backing.address)).toBe(2048);
  backing.close();
});

/** Of the mapping that has the address. */
function residentKiB(address: number): number {
  const range = mappingsOf(address, 1)[0]!.split(" ")[0];
  const smaps = readFileSync("/proc/self/smaps", "utf8");
  return Number(new RegExp(`^${range} [^]*?^Rss:\\s+(\\d+) kB`, "m").exec(smaps)![1]);
}

test.each([
  ["anonymous", false, undefined, "fresh, then to discard"],
  ["memfd", true, undefined, "fresh, then kept"],
  ["file", true, tmpdir(), "kept, then kept"],
] as const)(
  "what memory of the kind %s holds before a boot, and before another",
  (kind, shared, file, what) => {
    const size = 2 * MiB;
    const options = { size, hugepages: false, mergeable: false, prefault: false, thp: true };
    const backing: RamBacking = createBacking({ ...options, shared, file });
    const memory = new GuestMemory(size, backing);
    expect(backing.kind).toBe(kind);
    expect(`${memory.before(false)}, then ${memory.before(true)}`).toBe(what);
    backing.close();
  },
);
