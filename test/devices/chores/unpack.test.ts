import { describe, expect, test } from "bun:test";
import { deflateRawSync, zstdCompressSync } from "node:zlib";
import { unpackDeflate, unpackZstd, zstdFrameLength } from "../../../src/devices/chores/unpack.ts";

/** Bytes that neither compress to nothing nor not at all. */
const plain = Uint8Array.from({ length: 65536 }, (_, i) => ((i * 7) ^ (i >> 5)) & 0x3f);
const padded = (data: Uint8Array) => new Uint8Array([...data, ...new Uint8Array(300).fill(0x5a)]);

describe.each([
  ["deflate", unpackDeflate, deflateRawSync],
  ["zstd", unpackZstd, zstdCompressSync],
] as const)("%s", (_, unpack, pack) => {
  const packed = new Uint8Array(pack(plain));
  const into = (length: number) => new Uint8Array(length).fill(0xcc);

  test("unpacks what fills the target, whatever is behind it", () => {
    for (const data of [packed, padded(packed)]) {
      const target = into(plain.length);
      expect(unpack(data, target)).toBe(true);
      expect(target).toEqual(plain);
    }
  });

  test("of another size, cut short, or garbage is a failure", () => {
    expect(unpack(packed, into(plain.length - 1))).toBe(false);
    expect(unpack(packed, into(plain.length + 1))).toBe(false);
    expect(unpack(packed.subarray(0, packed.length - 20), into(plain.length))).toBe(false);
    expect(unpack(plain, into(512))).toBe(false);
    expect(unpack(new Uint8Array(0), into(512))).toBe(false);
  });

  test("never makes more than the target: a bomb is a failure", () => {
    const bomb = new Uint8Array(pack(new Uint8Array(2 ** 26)));
    expect(bomb.length).toBeLessThan(2 ** 17);
    const before = process.memoryUsage.rss();

    expect(unpack(bomb, into(4096))).toBe(false);

    // half of what it holds: the runtime's own threads take and give memory meanwhile, but never as much
    expect(process.memoryUsage.rss() - before).toBeLessThan(2 ** 25);
  });
});

describe("a zstd frame", () => {
  /** RFC 8878 section 3.1.1: magic; single segment, one byte of content size; blocks. */
  const frame = (descriptor: number, header: number[], ...blocks: number[][]) =>
    new Uint8Array([0x28, 0xb5, 0x2f, 0xfd, descriptor, ...header, ...blocks.flat()]);
  /** Last block, raw, of 3 bytes: 1 | 0 << 1 | 3 << 3. */
  const lastRaw = [0x19, 0, 0, 1, 2, 3];
  /** RLE block of 5 bytes, not the last: 0 | 1 << 1 | 5 << 3. */
  const rle = [0x2a, 0, 0, 9];

  test.each([
    ["a raw block", frame(0x20, [3], lastRaw), 12],
    ["a run and a raw block", frame(0x20, [8], rle, lastRaw), 16],
    ["a window and no size", frame(0x00, [0x58], lastRaw), 12],
    ["a checksum", frame(0x24, [3], lastRaw, [0, 0, 0, 0]), 16],
    ["a size of eight bytes and a dictionary", frame(0xe3, Array(12).fill(0), lastRaw), 23],
    ["a size of two bytes", frame(0x60, [0, 0], lastRaw), 13],
  ])("with %s ends where its headers say", (_name, data, length) => {
    expect(zstdFrameLength(padded(data))).toBe(length);
    expect(zstdFrameLength(data.subarray(0, length - 1))).toBe(-1);
  });

  test("of a reserved block type, or of another magic, is none", () => {
    expect(zstdFrameLength(frame(0x20, [3], [0x1f, 0, 0, 1, 2, 3]))).toBe(-1);
    expect(zstdFrameLength(new Uint8Array(64))).toBe(-1);
  });

  test("is unpacked; several, too", () => {
    const target = new Uint8Array(11);
    const two = new Uint8Array([...frame(0x20, [8], rle, lastRaw), ...frame(0x20, [3], lastRaw)]);

    expect(unpackZstd(padded(two), target)).toBe(true);

    expect(target).toEqual(new Uint8Array([9, 9, 9, 9, 9, 1, 2, 3, 1, 2, 3]));
  });
});
