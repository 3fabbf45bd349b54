/** Images read for a boot: raw, qcow2 of all kinds that qemu-img makes, chains of them, and broken ones. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { DiskError } from "../../../src/firmware/disk/medium.ts";
import { openMedium } from "../../../src/machine/disk-boot/image-medium.ts";
import { Owned } from "../../../src/machine/owned.ts";
import { run } from "./images.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-medium-"));
const owned = new Owned();
afterAll(() => {
  owned.close();
  rmSync(folder, { recursive: true });
});
const MiB = 2 ** 20;

/** Text that packs well, noise that does not, and holes. */
const content = new Uint8Array(2.5 * MiB);
for (let at = 0; at < content.length; at++) {
  const part = Math.floor(at / 300_000) % 3;
  content[at] = part === 0 ? at >> 9 : part === 1 ? (Math.imul(at, 0x9e3779b1) >>> 13) & 0xff : 0;
}
const raw = join(folder, "raw");
writeFileSync(raw, content);

function converted(name: string, ...options: string[]): string {
  const path = join(folder, name);
  run("qemu-img", "convert", "-O", "qcow2", ...options, raw, path);
  return path;
}

const open = (path: string, backing_files = false) => openMedium({ path, backing_files }, owned);

/** The whole disk at once, and pieces that lie across clusters. */
function expectContent(path: string, wanted: Uint8Array, backing = false): void {
  const medium = open(path, backing);
  expect(medium.size).toBe(wanted.length);
  expect(Buffer.compare(medium.read(0, wanted.length), wanted)).toBe(0);
  for (const [at, length] of [
    [65_535, 2],
    [299_990, 70_000],
    [wanted.length - 1, 1],
    [12_345, 0],
  ] as const) {
    expect(Buffer.compare(medium.read(at, length), wanted.subarray(at, at + length))).toBe(0);
  }
}

test.each([
  ["plain", []],
  ["deflate", ["-c"]],
  ["zstd", ["-c", "-o", "compression_type=zstd"]],
  ["small clusters", ["-c", "-o", "cluster_size=4k"]],
  ["large clusters", ["-c", "-o", "cluster_size=2M"]],
  ["version 2", ["-o", "compat=0.10"]],
])("qcow2, %s", (name, options) => {
  const path = converted(name, ...options);
  const before = readFileSync(path);

  expectContent(path, content);

  expect(before.equals(readFileSync(path))).toBe(true);
});

test("raw, and an image that says so", () => {
  expectContent(raw, content);
  const qcow2 = converted("as-raw");
  const medium = openMedium({ path: qcow2, image_type: "Raw", backing_files: false }, owned);
  expect(medium.size).toBe(statSync(qcow2).size);
});

test("what an overlay has covers what is below, compressed and larger than it", () => {
  const base = converted("base", "-c");
  const top = join(folder, "top");
  run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top, "4M");
  run("qemu-io", "-c", "write -P 0x5a 100000 80000", "-c", "write -z 1M 512k", top);
  const wanted = new Uint8Array(4 * MiB);
  wanted.set(content);
  wanted.fill(0x5a, 100_000, 180_000);
  wanted.fill(0, MiB, 1.5 * MiB);

  expectContent(top, wanted, true);
  expect(() => open(top)).toThrow(/its backing file .* is not allowed/);
});

test("files that are none are errors", () => {
  const path = join(folder, "vdi");
  run("qemu-img", "convert", "-O", "vdi", raw, path);

  expect(() => open(join(folder, "none"))).toThrow(DiskError);
  expect(() => open(folder)).toThrow("neither a file nor a block device");
  expect(() => open(path)).toThrow("a VDI image, which chv does not read");
  expect(() => open(raw).read(content.length - 1, 2)).toThrow(DiskError);
});

test("a broken image is an error in a line, never worse", () => {
  const good = readFileSync(converted("good", "-c"));
  const path = join(folder, "broken");
  fc.assert(
    fc.property(
      // the header, the tables' pages, and data
      fc.array(fc.tuple(fc.oneof(fc.nat(511), fc.nat(good.length - 1)), fc.nat(255)), {
        maxLength: 30,
      }),
      fc.option(fc.nat(good.length)),
      (changes, cut) => {
        const bytes = good.slice(0, cut ?? good.length);
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        writeFileSync(path, bytes);
        const own = new Owned();
        try {
          const medium = openMedium({ path, backing_files: false }, own);
          for (let at = 0; at + 4096 <= Math.min(medium.size, 4 * MiB); at += MiB / 2) {
            medium.read(at, 4096);
          }
        } catch (error) {
          expect(error).toBeInstanceOf(DiskError);
        } finally {
          own.close();
        }
      },
    ),
    { numRuns: 100 },
  );
});
