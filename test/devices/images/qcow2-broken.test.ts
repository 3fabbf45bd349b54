/** qcow2 images whose compressed data, header or entries are not what they should be. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import { FakeChores } from "../chores/fake.ts";
import { ImageFile } from "./qcow2-check.ts";
import { calmRig, memoryRig, randomOf } from "./qcow2-memory.ts";
import { Rig } from "./qcow2-rig.ts";
import { makeImage, numbered, testFolder } from "./qcow2-scenarios.ts";

const EIO = 5; // errno.h
const cluster = 4096;
const size = 2 ** 18;

const folder = testFolder();
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);

let [full, packed] = ["", ""];
beforeAll(() => {
  const options = "cluster_size=4k";
  full = makeImage(folder, { name: "full", options, size, filled: true }).path;
  packed = makeImage(folder, {
    ...{ name: "packed", options, size },
    filled: true,
    compressed: true,
  }).path;
});
const content = numbered(size, 0x1000_0000);
const bytes = (length: number, value: number) => new Uint8Array(length).fill(value);

describe("compressed clusters that are broken", () => {
  /** The packed image with the data of guest cluster 0 replaced. */
  const patched = (data: Uint8Array) => {
    const file = new Uint8Array(readFileSync(packed));
    const entry = new ImageFile(file).entry(0);
    const start = Number(entry & ((1n << 58n) - 1n)); // x = 62 - (12 - 8)
    file.set(data.subarray(0, 512 - (start % 512)), start);
    writeFileSync(at("patched"), file);
    return at("patched");
  };

  test.each([
    ["no deflate stream", bytes(200, 0xff)],
    ["one of less than a cluster", new Uint8Array(deflateRawSync(bytes(cluster - 1, 5)))],
    [
      "one of more than a cluster",
      new Uint8Array(deflateRawSync(bytes(2 ** 22, 5))).subarray(0, 400),
    ],
  ])("are errors for those who read them: %s", (_name, data) => {
    using rig = new Rig(patched(data));
    rig.startRead(0, 100 * 512, 512);
    expect(rig.wait(0)).toBe(0);
    rig.startRead(1, 512, 512);
    rig.startWrite(2, 1024, bytes(512, 1));
    expect([rig.wait(1), rig.wait(2)]).toEqual([EIO, EIO]);
    expect(rig.read(50 * cluster, 512)).toEqual(content.subarray(50 * cluster, 50 * cluster + 512));
    expect(rig.write(0, bytes(cluster, 3))).toBe(0); // needs nothing of what is there
    expect(rig.read(0, 512)).toEqual(bytes(512, 3));
  });

  test("wait their turn where the thread for chores has none free", () => {
    const chores = new FakeChores(false);
    const { rig } = memoryRig(packed, randomOf(1), { memory: { calm: true }, chores });
    let full = true;
    const posted: number[] = [];
    const post = chores.decompress.bind(chores);
    chores.decompress = (...chore) => !full && posted.push(chore[0]) > 0 && post(...chore);
    rig.startRead(0, 0, 3 * cluster);
    rig.image.turn();
    expect(posted).toEqual([]);
    full = false;
    for (let i = 0; i < 9; i++) {
      rig.image.turn();
      chores.serve();
    }
    expect(rig.wait(0)).toBe(0);
    expect(rig.memory(0, 3 * cluster)).toEqual(content.subarray(0, 3 * cluster));
    expect(posted.length).toBe(3);
    rig.close();
  });
});

describe("the header", () => {
  /** An image with auto-clear features: docs/interop/qcow2.rst, bytes 88 to 95. */
  const marked = () => {
    const file = new Uint8Array(readFileSync(full));
    file.fill(0xff, 88, 96);
    writeFileSync(at("marked"), file);
    return at("marked");
  };

  test.each([
    ["a write in place", (rig: Rig) => rig.write(0, bytes(512, 1))],
    ["zeroes", (rig: Rig) => rig.zero(0, cluster)],
    ["a discard", (rig: Rig) => rig.discard(0, cluster)],
  ])("loses its auto-clear bits, durably, before %s", (_name, change) => {
    const { rig, ring } = calmRig(marked());
    expect(rig.read(0, 512)).toEqual(content.subarray(0, 512));
    expect(rig.flush()).toBe(0);
    expect(ring.record.filter(({ kind }) => kind !== "sync")).toEqual([]);

    expect(change(rig)).toBe(0);
    const [first, second] = ring.record.slice(1);
    expect([first!.kind, first!.offset, second!.kind]).toEqual(["write", 0, "sync"]);
    const expected = new Uint8Array(readFileSync(at("marked"))).subarray(0, cluster);
    expect(first!.data).toEqual(expected.fill(0, 88, 96));
    expect(change(rig)).toBe(0);
    rig.close();
    expect(ring.record.filter(({ offset, kind }) => kind === "write" && offset === 0).length).toBe(
      1,
    );
  });
});

test("a cluster that holds a table is not given to data, whatever its refcount says", () => {
  const file = new Uint8Array(readFileSync(full));
  const { view } = new ImageFile(file);
  const block = Number(view.getBigUint64(Number(view.getBigUint64(48))));
  const table = Number(view.getBigUint64(40)) / cluster;
  expect(view.getUint16(block + table * 2)).toBe(1);
  view.setUint16(block + table * 2, 0); // the L1 table's
  writeFileSync(at("free"), file);
  const { rig, ring } = calmRig(at("free"));

  expect(rig.discard(0, cluster)).toBe(0);
  expect(rig.write(0, bytes(cluster, 0xff))).toBe(0);
  expect(rig.flush()).toBe(0);

  expect(new ImageFile(ring.image.content).sector(0)).toEqual(bytes(512, 0xff));
  expect(rig.read(cluster, 512)).toEqual(content.subarray(cluster, cluster + 512));
  rig.close();
});

describe("entries that lie", () => {
  /** The full image with the L2 entry of guest cluster 0 replaced. */
  const lying = (entry: bigint) => {
    const file = new Uint8Array(readFileSync(full));
    const image = new ImageFile(file);
    const l1 = Number(image.view.getBigUint64(40));
    const table = Number(image.view.getBigUint64(l1) & 0x00ff_ffff_ffff_fe00n);
    image.view.setBigUint64(table, entry);
    writeFileSync(at("lying"), file);
    return at("lying");
  };
  const copied = 1n << 63n;

  test.each([
    ["the header", copied],
    ["a place behind the file", copied | (1n << 40n)],
    ["a place off its cluster", copied | 0x10_0200n],
    ["reserved bits", copied | (1n << 57n) | 0x10_000n],
    ["compressed data behind the file", (1n << 62n) | (1n << 41n)],
  ])("give I/O errors: %s", (_name, entry) => {
    const { rig, ring } = calmRig(lying(entry));
    rig.startRead(0, 0, 512);
    expect(rig.wait(0)).toBe(EIO);
    expect(rig.write(512, bytes(512, 1))).toBe(EIO);
    expect(rig.write(cluster, bytes(512, 1))).toBe(0);
    rig.close();
    // and refcounts, of a cluster that was taken and given back
    const written = ring.record.filter(({ kind, offset }) => kind === "write" && offset !== 0x2000);
    expect(written.map(({ data }) => data.length)).toEqual([512]);
  });

  test.each([
    ["the refcount table", 0x1000n],
    ["a refcount block", 0x2000n],
    ["the L1 table", 0x3000n],
    ["an L2 table", 0x4000n],
    ["an L2 table that reads as zeroes", 0x4001n],
  ])("do not lead a write to %s", (_name, host) => {
    const { rig, ring } = calmRig(lying(copied | host));
    expect(rig.write(0, bytes(512, 0xff))).toBe(EIO);
    expect(rig.write(cluster, bytes(512, 1))).toBe(0);
    expect(rig.warnings.length).toBe(1);
    expect(rig.warnings[0]).toMatch(/^the image is broken: .*; run qemu-img check -r all$/);
    // given back, it is neither punched nor free
    expect(rig.discard(0, cluster)).toBe(0);
    expect(rig.flush()).toBe(0);
    rig.close();
    const touched = ring.record.filter(({ kind, offset }) => kind === "punch" || offset === 0x1000);
    expect(touched).toEqual([]);
  });
});
