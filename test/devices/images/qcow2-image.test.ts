/** What a qcow2 image does to its file, call by call. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allocatedBytes } from "../virtio/disk.ts";
import { ImageFile } from "./qcow2-check.ts";
import { calmRig, randomOf } from "./qcow2-memory.ts";
import { Rig } from "./qcow2-rig.ts";
import { makeImage, numbered, qemuImg as run } from "./qcow2-scenarios.ts";

// errno.h
const [ENOSPC, EROFS] = [28, 30];
const cluster = 4096;
const size = 2 ** 18;

const folder = mkdtempSync(join(tmpdir(), "chv-qcow2-image-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);
const qemuImg = (...args: string[]) => run(folder, ...args);

let [empty, full, packed] = ["", "", ""];
beforeAll(() => {
  const options = "cluster_size=4k";
  empty = makeImage(folder, { name: "empty", options, size }).path;
  full = makeImage(folder, { name: "full", options, size, filled: true }).path;
  packed = makeImage(folder, {
    ...{ name: "packed", options, size },
    filled: true,
    compressed: true,
  }).path;
});
const content = numbered(size, 0x1000_0000);
const bytes = (length: number, value: number) => new Uint8Array(length).fill(value);

describe("clusters that are given up", () => {
  test("are no one else's while a request that began before reads them", () => {
    const { rig, ring, options } = calmRig(full);
    const held = new ImageFile(ring.image.content).entry(4) & 0xffff_ffffn;
    options.hold = (kind, offset) => kind === "read" && offset === Number(held);
    rig.startRead(1, 4 * cluster, cluster);
    rig.image.turn();

    expect(rig.discard(4 * cluster, cluster)).toBe(0);
    expect(rig.flush()).toBe(0);
    expect(rig.discard(5 * cluster, cluster)).toBe(0);
    expect(rig.write(5 * cluster, bytes(cluster, 1))).toBe(0);
    expect(rig.flush()).toBe(0);
    options.hold = undefined;
    expect(rig.wait(1)).toBe(0);
    expect(rig.memory(1, cluster)).toEqual(content.subarray(4 * cluster, 5 * cluster));

    // now they are free, holes in the file, and taken first
    expect(rig.write(4 * cluster, bytes(cluster, 2))).toBe(0);
    expect(rig.flush()).toBe(0);
    expect(new ImageFile(ring.image.content).entry(4) & 0xffff_ffffn).toBe(held);
    rig.close();
  });

  test("stay where a write that is under way makes use of them", () => {
    const { rig, ring, options } = calmRig(full);
    expect(rig.zero(4 * cluster, cluster, false)).toBe(0); // it keeps its room, and reads as zeroes
    expect(rig.flush()).toBe(0);
    options.hold = (kind) => kind === "write";
    rig.startWrite(1, 4 * cluster, bytes(512, 1));
    rig.image.turn();
    rig.startZero(2, 4 * cluster, cluster, true);
    rig.image.turn();
    options.hold = undefined;
    expect([rig.wait(1), rig.wait(2)]).toEqual([0, 0]);
    rig.close();
    expect(new ImageFile(ring.image.content).check()).toEqual({ corruptions: [], leaks: 0 });
  });

  test("are remembered up to a number; then a commit comes first", () => {
    const large = 2 ** 18;
    const options = "cluster_size=512";
    const { path } = makeImage(folder, { name: "many", options, size: large });
    const { rig, ring, options: memory } = calmRig(path, {}, { freeEntries: 150, room: large });
    for (let offset = 0; offset < large; offset += rig.room) {
      expect(rig.write(offset, bytes(rig.room, 1))).toBe(0);
    }
    let [commits, failures] = [0, 0];
    const syncs = () => ring.record.filter(({ kind }) => kind === "sync").length;
    for (let i = 0; i < large / 1024; i++) {
      const before = syncs();
      // the first commit finds no room on the disk
      if (failures === 0) memory.fail = (kind) => (kind === "write" ? -ENOSPC : undefined);
      const error = rig.discard(i * 1024, 512);
      memory.fail = undefined;
      if (error !== 0) failures++;
      if (syncs() > before) commits++;
    }
    expect([commits, failures]).toEqual([1, 1]);
    rig.close();
    expect(new ImageFile(ring.image.content).check()).toEqual({ corruptions: [], leaks: 0 });
  });

  test("keep a read that waits for its cluster to be unpacked", () => {
    const { rig, options } = calmRig(packed);
    const first = [...Array(64).keys()];
    options.hold = (kind, offset, length) => kind === "read" && offset > 0 && length >= cluster;
    rig.startRead(1, 0, 512);
    rig.image.turn();
    options.hold = undefined;
    for (const i of first) expect(rig.write(i * cluster, bytes(cluster, 7))).toBe(0);
    expect(rig.flush()).toBe(0);
    expect(rig.wait(1)).toBe(0);
    expect([0, 7, 0x1000_0000 & 0xff]).toContain(rig.memory(1)[0]!);
    rig.close();
  });

  test.each([
    ["punched out of the file", true],
    ["left in the file", false],
  ])("are %s, after the commit", (_name, punch) => {
    copyFileSync(full, at("room"));
    const rig = new Rig(at("room"), { punch, ring: "io_uring" });
    const fd = openSync(at("room"), "r");
    const allocated = () => allocatedBytes(fd);
    const before = allocated();
    expect(rig.discard(0, size / 2)).toBe(0);
    expect(allocated()).toBe(before);
    expect(rig.flush()).toBe(0);
    expect(rig.read(0, 512)).toEqual(bytes(512, 0)); // and time to give it back
    rig.close();

    expect(before - allocated()).toBe(punch ? size / 2 : 0);
    closeSync(fd);
    expect(qemuImg("check", "room")).toContain("No errors were found");
  });
});

describe("DISCARD and WRITE_ZEROES", () => {
  type Extent = { start: number; length: number; data: boolean; zero: boolean; present: boolean };
  const map = (name: string) =>
    (JSON.parse(qemuImg("map", "--output=json", name)) as Extent[]).map(
      ({ start, length, data, zero, present }) => ({ start, length, data, zero, present }),
    );
  const base = { data: true, zero: false, present: true };
  const over = (options: string) => {
    writeFileSync(at("base"), content);
    qemuImg("create", "-q", "-f", "qcow2", "-o", options, "-b", "base", "-F", "raw", "over");
    return at("over");
  };

  test("hide what is below, by a flag, with version 3", () => {
    const rig = new Rig(over("cluster_size=4k"));
    expect(rig.write(0, bytes(3 * cluster, 1))).toBe(0);
    expect(rig.discard(0, cluster)).toBe(0);
    expect(rig.zero(cluster, cluster, true)).toBe(0);
    expect(rig.zero(2 * cluster, cluster, false)).toBe(0);
    expect(rig.zero(3 * cluster, 2 * cluster, true)).toBe(0);
    expect(rig.discard(8 * cluster, cluster)).toBe(0); // a hint: what is below stays
    expect(rig.flush()).toBe(0);

    expect(rig.read(8 * cluster, 512)).toEqual(content.subarray(8 * cluster, 8 * cluster + 512));
    expect(rig.read(0, 5 * cluster)).toEqual(bytes(5 * cluster, 0));
    rig.close();
    const zero = { data: false, zero: true, present: true };
    expect(map("over")).toEqual([
      { start: 0, length: 2 * cluster, ...zero },
      { start: 2 * cluster, length: cluster, ...zero },
      { start: 3 * cluster, length: 2 * cluster, ...zero },
      { start: 5 * cluster, length: size - 5 * cluster, ...base },
    ]);
    const image = new ImageFile(new Uint8Array(readFileSync(at("over"))));
    expect([0, 1, 2, 3, 8].map((i) => image.entry(i) & 1n)).toEqual([1n, 1n, 1n, 1n, 0n]);
    // without unmap the room is kept
    expect([0, 1, 2, 3].map((i) => image.entry(i) >> 9n > 0n)).toEqual([false, false, true, false]);
  });

  test("are written, with version 2 and something below", () => {
    using rig = new Rig(over("cluster_size=4k,compat=0.10"));
    expect(rig.zero(512, 2 * cluster, true)).toBe(0);
    expect(rig.discard(4 * cluster, cluster)).toBe(0);
    expect(rig.write(6 * cluster, bytes(cluster, 1))).toBe(0);
    expect(rig.discard(6 * cluster, cluster)).toBe(0);
    expect(rig.flush()).toBe(0);

    const expected = content.slice().fill(0, 512, 512 + 2 * cluster);
    expected.fill(1, 6 * cluster, 7 * cluster);
    expect(rig.content()).toEqual(expected);
    const image = new ImageFile(new Uint8Array(readFileSync(at("over"))));
    expect([0, 1, 2, 3, 4].map((i) => image.entry(i) >> 63n)).toEqual([1n, 1n, 1n, 0n, 0n]);
  });

  test.each(["1.1", "0.10"])(
    "make clusters go away where nothing is below: compat=%s",
    (compat) => {
      const { path } = makeImage(folder, {
        ...{ name: `gone ${compat}`, size, filled: true },
        options: `cluster_size=4k,compat=${compat}`,
      });
      using rig = new Rig(path);
      expect(rig.discard(512, 3 * cluster)).toBe(0);
      expect(rig.zero(5 * cluster, cluster, true)).toBe(0);
      expect(rig.zero(7 * cluster, cluster, false)).toBe(0);
      expect(rig.flush()).toBe(0);

      const image = new ImageFile(new Uint8Array(readFileSync(path)));
      // parts of clusters are left alone by a discard
      const entries = [0, 1, 2, 3, 5].map((i) => image.entry(i) === 0n);
      expect(entries).toEqual([false, true, true, false, true]);
      expect(image.entry(7) >> 63n).toBe(1n); // keeps its room
      const expected = content
        .slice()
        .fill(0, cluster, 3 * cluster)
        .fill(0, 5 * cluster, 6 * cluster);
      expect(rig.content()).toEqual(expected.fill(0, 7 * cluster, 8 * cluster));
    },
  );

  test("of what is zero already touch nothing", () => {
    const { rig, ring } = calmRig(empty);
    for (const unmap of [true, false]) expect(rig.zero(512, size - 1024, unmap)).toBe(0);
    expect(rig.discard(0, size)).toBe(0);
    expect(rig.flush()).toBe(0);
    expect(ring.record.map(({ kind }) => kind)).toEqual(["sync"]);
    rig.close();
  });
});

test("a durable write is a synchronous one in place, and a commit elsewhere", () => {
  const { rig, ring } = calmRig(full);
  const since = (from: number) =>
    ring.record.slice(from).map(({ kind, durable }) => [kind, durable]);
  expect(rig.write(512, bytes(512, 1), true)).toBe(0);
  expect(since(0)).toEqual([["write", true]]);
  expect(rig.zero(cluster, 512, false, true)).toBe(0);
  expect(since(1)).toEqual([["write", true]]);
  expect(rig.write(512, bytes(512, 1))).toBe(0);
  expect(since(2)).toEqual([["write", false]]);

  expect(rig.zero(4 * cluster, cluster, true, true)).toBe(0);
  expect(new ImageFile(ring.image.content).entry(4)).toBe(0n);
  expect(rig.write(4 * cluster, bytes(512, 2), true)).toBe(0);
  expect(new ImageFile(ring.image.content).sector(32)).toEqual(bytes(512, 2));
  expect(ring.record.at(-1)!.kind).toBe("sync");
  rig.close();
});

test("an image that is only read takes no changes, and its flush is nothing", () => {
  using rig = new Rig(full, { readonly: true });
  expect(rig.write(0, bytes(512, 1))).toBe(EROFS);
  expect(rig.zero(0, cluster)).toBe(EROFS);
  expect(rig.discard(0, cluster)).toBe(EROFS);
  expect(rig.flush()).toBe(0);
  expect(rig.read(512, 512)).toEqual(content.subarray(512, 1024));
});

test.each(["io_uring", "calls"] as const)(
  "memory off O_DIRECT's alignment is no obstacle: %s",
  (ring) => {
    qemuImg("create", "-q", "-f", "qcow2", "-o", "cluster_size=64k", "direct", "1M");
    const model = new Uint8Array(2 ** 20);
    const rig = new Rig(at("direct"), { direct: true, ring });
    const random = randomOf(4);
    for (let i = 0; i < 12; i++) {
      const [offset, length] = [random(200) * 4096, (1 + random(56)) * 4096];
      const data = numbered(length, i * 1000);
      expect(rig.write(offset, data, i % 3 === 0, i % 2 ? [500, 1000] : [])).toBe(0);
      model.set(data, offset);
      expect(rig.read(offset, length, [512, 77])).toEqual(data);
    }
    expect(rig.content()).toEqual(model);
    rig.close();
    expect(qemuImg("check", "direct")).toContain("No errors were found");
  },
);

test.each([512, 4096])("memory off an alignment of %d goes by way of a buffer", (alignment) => {
  const more = { direct: true };
  const { rig, ring } = calmRig(full, { alignment }, more);
  const model = content.slice();
  const write = (offset: number, length: number, cuts: number[]) => {
    const data = numbered(length, 0x3000_0000 + offset);
    model.set(data, offset);
    expect(rig.write(offset, data, false, cuts)).toBe(0);
  };
  write(cluster, 3 * cluster, [500, 1000]); // in place
  expect(rig.zero(20 * cluster, 4 * cluster, true)).toBe(0);
  model.fill(0, 20 * cluster, 24 * cluster);
  write(20 * cluster, 2 * cluster, [77]); // to new clusters
  expect(rig.read(0, 30 * cluster, [1, 5000])).toEqual(model.subarray(0, 30 * cluster));
  rig.close();
  expect(new ImageFile(ring.image.content).check()).toEqual({ corruptions: [], leaks: 0 });
});

test("a device that is full takes no more clusters, and keeps those that it has", () => {
  const end = readFileSync(empty).length;
  const limit = Math.ceil(end / cluster) * cluster + 4 * cluster;
  const { rig, ring } = calmRig(empty, {}, { limit });
  let taken = 0;
  while (rig.write(taken * cluster, bytes(512, 5)) === 0) taken++;
  expect(rig.write(0, bytes(cluster, 6))).toBe(0);
  expect(rig.write(taken * cluster, bytes(512, 5))).toBe(ENOSPC);

  expect(taken).toBe(3); // and an L2 table
  expect(rig.discard(0, cluster)).toBe(0);
  expect(rig.flush()).toBe(0);
  expect(rig.write(taken * cluster, bytes(512, 7))).toBe(0);
  rig.close();
  expect(ring.image.length).toBeLessThanOrEqual(limit);
  expect(new ImageFile(ring.image.content).check()).toEqual({ corruptions: [], leaks: 0 });
});

test("a flush does not wait for all who change tables", () => {
  // an L2 table of 512 bytes has 64 entries: each write needs a table of its own
  const { path } = makeImage(folder, { name: "turns", options: "cluster_size=512", size: 2 ** 19 });
  const { rig, options } = calmRig(path, {}, { slots: 9 });
  options.hold = (kind) => kind !== "read";
  for (let slot = 0; slot < 8; slot++) rig.startWrite(slot, slot * 65_536, bytes(512, slot));
  rig.startFlush(8);
  rig.image.turn();
  options.hold = undefined;
  rig.wait(7);

  const order = [...rig.ended.keys(), 7];
  expect(order.indexOf(8)).toBeLessThan(4);
  rig.close();
});

test("what lies behind the end of the disk in its last cluster is zero", () => {
  const base = numbered(3 * cluster, 9);
  writeFileSync(at("tail-base"), base);
  const size = 2 * cluster + 512;
  const below = ["-b", "tail-base", "-F", "raw"];
  qemuImg("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", ...below, "tail", `${size}`);
  const { rig, ring } = calmRig(at("tail"));
  for (const offset of [512, cluster + 512]) expect(rig.write(offset, bytes(512, 1))).toBe(0);
  expect(rig.write(2 * cluster, bytes(512, 2))).toBe(0);
  rig.close();

  const entry = new ImageFile(ring.image.content).entry(2);
  const last = ring.image.content.subarray(Number(entry & 0xffff_fe00n));
  expect(last.subarray(0, 512)).toEqual(bytes(512, 2));
  expect(last.subarray(512, cluster).every((byte) => byte === 0)).toBe(true);
});

test("a refcount block in a place that was in use before begins empty", () => {
  // 1024 refcounts a block, so the second is 8 MiB into the file; half of it is in another slice
  const options = "cluster_size=8k,refcount_bits=64";
  const large = 9 * 2 ** 20;
  const { path } = makeImage(folder, { name: "used", options, size: large });
  writeFileSync(path, new Uint8Array(9 * 2 ** 20).fill(0xa5), { flag: "a" });
  const { rig, ring } = calmRig(path);
  for (let offset = 0; offset < large; offset += rig.room) {
    expect(rig.write(offset, bytes(rig.room, 1))).toBe(0);
  }
  rig.close();
  const image = new ImageFile(ring.image.content);
  expect(image.check()).toEqual({ corruptions: [], leaks: 0 });
  expect([1025, 1600, 2047].map((number) => image.refcount(number))).toEqual([1, 0, 0]);
});

test("requests that have not ended do not keep an image open", () => {
  const { rig, ring, options } = calmRig(full);
  expect(rig.write(0, bytes(cluster, 1))).toBe(0);
  expect(rig.zero(cluster, cluster, true)).toBe(0);
  options.hold = (kind, offset) => kind === "read" && offset > 0x8000;
  rig.startRead(1, 30 * cluster, 512);
  rig.startRead(2, 31 * cluster, cluster);
  rig.image.turn();
  options.hold = undefined;
  rig.close();
  expect([...rig.ended.keys()]).toEqual([]);
  expect(new ImageFile(ring.image.content).entry(1)).toBe(0n);
});

test("tables are written behind what they name, and refcount blocks before the table that names them", () => {
  // a refcount block of 512 bytes reaches 128 KiB: the file soon needs its second
  const options = "cluster_size=512";
  const { path } = makeImage(folder, { name: "order", options, size });
  const { rig, ring } = calmRig(path);
  const image = new ImageFile(ring.image.content.slice());
  const [refcounts, l1] = [image.view.getBigUint64(48), image.view.getBigUint64(40)].map(Number);
  expect(rig.write(0, bytes(size / 2, 1))).toBe(0);
  const before = ring.record.length;
  expect(rig.flush()).toBe(0);

  const steps = ring.record.slice(before);
  const syncs = [...steps.keys()].filter((i) => steps[i]!.kind === "sync");
  expect(syncs.length).toBe(3);
  const stage = (from: number) => {
    const within = [...steps.keys()].filter((i) => steps[i]!.offset === from);
    return within.map((i) => syncs.filter((sync) => sync < i).length);
  };
  const block = Number(new ImageFile(ring.image.content).view.getBigUint64(refcounts! + 8));
  expect(stage(block)).toEqual([0]);
  expect(stage(refcounts!)).toEqual([1]);
  expect(stage(l1!)).toEqual([2]);
  const table = Number(new ImageFile(ring.image.content).view.getBigUint64(l1!) & 0xffff_fe00n);
  expect(stage(table)).toEqual([2]);
  rig.close();
});
