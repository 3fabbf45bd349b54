/** A qcow2 disk driven by a guest: test/guests/virtio-blk, the same as of a raw one. */
import { afterAll, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expectOk, guestTests, guestTimeoutMs, runSuite, type SuiteOptions } from "./harness.ts";

const sectorBytes = 512;
const sectors = 2048;

const folder = mkdtempSync(join(tmpdir(), "chv-qcow2-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const qemuImg = (...args: string[]) =>
  execFileSync("qemu-img", args, { cwd: folder, encoding: "utf8" });

/** Sectors that begin with their number and are full of 0x5a, as disk.h says. */
const filled = new Uint8Array(sectors * sectorBytes).fill(0x5a);
const numbers = new DataView(filled.buffer);
for (let i = 0; i < sectors; i++) numbers.setBigUint64(i * sectorBytes, BigInt(i), true);
writeFileSync(join(folder, "raw"), filled);

const packed = (name: string, options: string) => {
  const convert = ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options];
  qemuImg(...convert, "raw", name);
  return name;
};
const over = (name: string, options: string) => {
  qemuImg("create", "-q", "-f", "qcow2", "-o", options, "-b", "raw", "-F", "raw", name);
  return name;
};

function withDisk(name: string, more = "", words = ""): SuiteOptions {
  return {
    guest: "virtio-blk",
    cmdline: `sectors=${sectors} queues=1 queue_size=128 ${words}`,
    args: ["--disk", `path=${join(folder, name)},serial=guest-disk,backing_files=on${more}`],
  };
}

/** What the guest has done to the disk, as test/guests/virtio-blk/requests.c says. */
function expectDone(name: string): void {
  expect(qemuImg("check", name)).toContain("No errors were found");
  qemuImg("convert", "-O", "raw", name, "after");
  const after = new Uint8Array(readFileSync(join(folder, "after")));
  const sector = (n: number) => after.subarray(n * sectorBytes, (n + 1) * sectorBytes);
  const range = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);
  const zeroes = [1100, 1101, 1102, ...range(1104, 8), ...range(1200, 16)];
  expect(new DataView(after.buffer).getBigUint64(1000 * sectorBytes, true)).toBe(0x1111n);
  for (const n of zeroes) expect(sector(n)).toEqual(new Uint8Array(sectorBytes));
  for (const n of [...range(1000, 8), ...zeroes, 1300]) {
    sector(n).set(filled.subarray(n * sectorBytes, (n + 1) * sectorBytes));
  }
  expect(Buffer.compare(after, filled)).toBe(0);
}

describe.each([
  ["compressed clusters", packed("packed", "cluster_size=4k"), ""],
  ["compressed clusters, zstd", packed("zstd", "cluster_size=8k,compression_type=zstd"), ""],
  ["clusters around the page cache", packed("direct", "cluster_size=4k"), ",direct=on"],
])("a disk of %s", (_name, name, more) => {
  guestTests(
    [
      ...["blk-read", "blk-pieces", "blk-long-chain", "blk-write", "blk-zeroes"],
      ...["blk-discard", "virtio-reset-in-flight"],
    ],
    withDisk(name, more),
  );

  test("has what the guest did, and is sound", () => {
    expectDone(name);
  });
});

describe("a disk over a raw file", () => {
  const name = over("over", "cluster_size=4k");
  guestTests(["blk-read", "blk-write", "blk-zeroes"], withDisk(name));

  test("is sound, and the raw file is as it was", () => {
    expect(qemuImg("check", name)).toContain("No errors were found");
    expect(Buffer.compare(readFileSync(join(folder, "raw")), filled)).toBe(0);
  });
});

test(
  "a qcow2 disk is there again when the machine starts over in the midst of its work",
  async () => {
    const name = packed("reboot", "cluster_size=4k");
    const run = await runSuite("blk-reboot", withDisk(name, "", "boots=6"));
    expectOk("blk-reboot", run);
    expect(qemuImg("check", name)).toContain("No errors were found");
  },
  guestTimeoutMs,
);
