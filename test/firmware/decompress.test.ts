import { expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import {
  DecompressError,
  decompress,
  type HostFormat,
  payloadFormat,
  unpackedSize,
} from "../../src/firmware/decompress.ts";
import { MiB } from "./fake-ram.ts";
import { pattern, pipe, poke, withSize } from "./images.ts";

const data = pattern(3 * MiB + 77);

/** As linux/scripts/Makefile.lib runs them: from a pipe, so that no size is in the frame. */
const commands: Record<HostFormat, readonly string[]> = {
  gzip: ["gzip", "-n", "-9"],
  zstd: ["zstd", "-9", "--no-progress"],
  LZ4: ["lz4", "-l", "-9", "-c"],
};

const packed = (format: HostFormat): Uint8Array => {
  const bytes = pipe(commands[format], data);
  return format === "gzip" ? bytes : withSize(bytes, data.length);
};

/** A payload with the four spare bytes in front. */
const buffer = (payload: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(4 + payload.length);
  bytes.set(payload, 4);
  return bytes;
};

test.each(["gzip", "zstd", "LZ4"] as const)("unpacks %s", (format) => {
  const payload = packed(format);

  expect(payloadFormat(payload)).toBe(format);
  expect(unpackedSize(payload)).toBe(data.length);
  expect(Buffer.compare(decompress(format, buffer(payload), data.length), data)).toBe(0);
});

test("unpacks a zstd frame that has its size in it already", () => {
  const file = `/tmp/chv-zstd-${process.pid}`;
  writeFileSync(file, data);
  const frame = pipe(["zstd", "-c", file], new Uint8Array());
  rmSync(file);

  const unpacked = decompress("zstd", buffer(withSize(frame, data.length)), data.length);

  expect(Buffer.compare(unpacked, data)).toBe(0);
});

test.each(["gzip", "zstd", "LZ4"] as const)(
  "%s that unpacks to more than it says is refused",
  (format) => {
    for (const size of [1, data.length - 1]) {
      expect(() => decompress(format, buffer(packed(format)), size)).toThrow(DecompressError);
    }
  },
);

test.each(["gzip", "zstd", "LZ4"] as const)(
  "%s that unpacks to less than it says is refused",
  (format) => {
    expect(() => decompress(format, buffer(packed(format)), data.length + 1)).toThrow(
      DecompressError,
    );
  },
);

test.each(["gzip", "zstd", "LZ4"] as const)("damaged %s is refused", (format) => {
  const payload = packed(format);
  const cut = buffer(payload.subarray(0, payload.length >> 1));
  const wrong = buffer(payload);
  wrong.fill(0xff, 8, 20); // past the magic: LZ4 has no checksum, but this is a block's length

  expect(() => decompress(format, cut, data.length)).toThrow(DecompressError);
  expect(() => decompress(format, wrong, data.length)).toThrow(DecompressError);
});

test("a bomb of many frames is stopped at the size it claims", () => {
  const zeros = pipe(["zstd", "-c"], new Uint8Array(16 * MiB));
  const many = new Uint8Array(zeros.length * 8);
  for (let i = 0; i < 8; i++) many.set(zeros, i * zeros.length);

  expect(() => decompress("zstd", buffer(withSize(many, MiB)), MiB)).toThrow(DecompressError);
});

// The first bytes that the formats' specifications give.
test.each([
  ["XZ", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["bzip2", [0x42, 0x5a, 0x68, 0x39]],
  ["LZMA", [0x5d, 0x00, 0x00, 0x80]],
  ["LZO", [0x89, 0x4c, 0x5a, 0x4f]],
  [undefined, [0x7f, 0x45, 0x4c, 0x46]],
] as const)("knows %p by its magic", (format, bytes) => {
  expect(payloadFormat(Uint8Array.from(bytes))).toBe(format);
});

test("a payload too short for a size is refused", () => {
  expect(() => unpackedSize(new Uint8Array(7))).toThrow(DecompressError);
  const payload = new Uint8Array(8);
  poke(payload, 4, 4, 0xffff_ffff);
  expect(unpackedSize(payload)).toBe(0xffff_ffff);
});
