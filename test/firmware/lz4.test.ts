import { expect, test } from "bun:test";
import fc from "fast-check";
import { decompressLz4Legacy, Lz4Error } from "../../src/firmware/lz4.ts";
import { MiB } from "./fake-ram.ts";
import { pipe } from "./images.ts";

const lz4 = (data: Uint8Array, level = "-9") => pipe(["lz4", "-l", level, "-c"], data);

/** A legacy frame of one block, from the block's bytes. */
const frame = (...block: number[]) =>
  Uint8Array.of(0x02, 0x21, 0x4c, 0x18, block.length, 0, 0, 0, ...block);

/** Text-like data: runs, repeats at short and long distances, and noise. */
function mixed(size: number): Uint8Array {
  const data = new Uint8Array(size);
  let seed = 12345;
  const next = () => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 16;
  for (let at = 0; at < size; ) {
    const length = 1 + (next() % 300);
    const kind = next() % 3;
    const distance = 1 + (next() % 70000);
    for (let i = 0; i < length && at < size; i++, at++) {
      if (kind === 0) data[at] = next();
      else if (kind === 1) data[at] = length;
      else data[at] = data[Math.max(0, at - distance)]!;
    }
  }
  return data;
}

test("unpacks what the lz4 program packs, over several blocks", () => {
  const data = mixed(9 * MiB + 12345); // a block is 8 MiB

  expect(Buffer.compare(decompressLz4Legacy(lz4(data), data.length), data)).toBe(0);
});

test("unpacks what the fast compressor packs", () => {
  const data = mixed(100_000);

  expect(decompressLz4Legacy(lz4(data, "-1"), data.length)).toEqual(data);
});

test("unpacks any data that the lz4 program packs", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 5000, size: "max" }), (data) => {
      expect(decompressLz4Legacy(lz4(data), data.length)).toEqual(data);
    }),
    { numRuns: 20 },
  );
});

// LZ4 Block Format: a token 0x15 is one literal and a match of 5 + 4; distance 1 repeats the
// literal.
test("a match may overlap what it makes", () => {
  const unpacked = decompressLz4Legacy(frame(0x15, 0x61, 1, 0, 0x10, 0x62), 11);

  expect(new TextDecoder().decode(unpacked)).toBe("aaaaaaaaaab");
});

test("long overlapping matches repeat their pattern", () => {
  // Literals "abc", a match of 15 + 4 + 255 + 26 bytes at distance 3, and the literal "!".
  const block = [0x3f, 0x61, 0x62, 0x63, 3, 0, 255, 26, 0x10, 0x21];

  expect(new TextDecoder().decode(decompressLz4Legacy(frame(...block), 304))).toBe(
    `${"abc".repeat(101)}!`,
  );
});

test.each([
  ["no frame", Uint8Array.of(1, 2, 3, 4, 5)],
  ["nothing", Uint8Array.of()],
  ["a cut block header", Uint8Array.of(2, 0x21, 0x4c, 0x18, 1, 0)],
  ["a cut block", Uint8Array.of(2, 0x21, 0x4c, 0x18, 200, 0, 0, 0, 0x10)],
  ["an empty block", frame()],
  ["too many literals", frame(0xc0, 1, 2, 3)],
  ["a cut literal length", frame(0xf0, 255)],
  ["a cut distance", frame(0x10, 0x61, 1)],
  ["a distance of zero", frame(0x10, 0x61, 0, 0, 0x10, 0x61)],
  ["a distance before the block", frame(0x10, 0x61, 2, 0, 0x10, 0x61)],
  ["a match that ends the block", frame(0x10, 0x61, 1, 0)],
  ["a match past the end", frame(0x1f, 0x61, 1, 0, 255, 0, 0x10, 0x61)],
  ["a cut match length", frame(0x1f, 0x61, 1, 0, 255)],
  ["less than promised", frame(0x10, 0x61)],
])("refuses %s", (_, input) => {
  expect(() => decompressLz4Legacy(input, 6)).toThrow(Lz4Error);
});

test("a block cannot fill more than 8 MiB", () => {
  const lengths = new Array(33_500).fill(255); // 33,500 * 255 bytes are more than 8 MiB
  const block = [0x1f, 0x61, 1, 0, ...lengths, 0, 0x10, 0x61];
  const input = new Uint8Array(8 + block.length);
  input.set([0x02, 0x21, 0x4c, 0x18]);
  new DataView(input.buffer).setUint32(4, block.length, true);
  input.set(block, 8);

  expect(() => decompressLz4Legacy(input, 16 * MiB)).toThrow("a match out of bounds");
});

test("damaged input is an Lz4Error or other bytes, never anything else", () => {
  const data = mixed(20_000);
  const packed = lz4(data);

  fc.assert(
    fc.property(fc.nat(packed.length - 1), fc.nat(255), fc.nat(40_000), (at, byte, size) => {
      const damaged = packed.slice();
      damaged[at] = byte;
      try {
        expect(decompressLz4Legacy(damaged, size).length).toBe(size);
      } catch (error) {
        expect(error).toBeInstanceOf(Lz4Error);
      }
    }),
    { numRuns: 500 },
  );
});
