/** qcow2 images against qemu-img: what it makes is read, what is written it finds sound, and the same. */
import { afterAll, describe, expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Rig } from "./qcow2-rig.ts";
import { makeImage, numbered, qemuImg, testFolder } from "./qcow2-scenarios.ts";
import { mixed, type Row, tryBacking, tryImage, tryPacked, trySnapshot } from "./qcow2-scribble.ts";

const folder = testFolder();
afterAll(() => rmSync(folder, { recursive: true }));

/** More of them are in fuzz/qcow2-qemu.test.ts. */
test.each<Row>([
  ["the defaults", 2 ** 22, "cluster_size=64k", 200, { ring: "io_uring" }],
  ["version 2", 2 ** 21 + 512, "cluster_size=64k,compat=0.10", 200, {}],
  ["the least clusters", 2 ** 19, "cluster_size=512", 200, { cacheBytes: 1024 }],
  ["the largest clusters", 2 ** 22 + 2 ** 20, "cluster_size=2M", 300, { ring: "io_uring" }],
  ["refcounts of 1 bit", 2 ** 19, "cluster_size=512,refcount_bits=1", 100, {}],
])(
  "an image of qemu-img that is written at random is sound: %s",
  (...[name, size, options, most, rig]) => {
    tryImage(folder, [name, size, options, most, rig], 50);
  },
);

test.each([
  ["deflate", "cluster_size=64k"],
  ["zstd", "cluster_size=16k,compression_type=zstd"],
])("compressed clusters are read, and written elsewhere: %s", (_name, options) => {
  tryPacked(folder, mixed(2 ** 18 + 3 * 512), options, { ring: "io_uring" });
});

test("compressed clusters are read by many at once", () => {
  const options = "cluster_size=4k";
  const scenario = { name: "many", options, filled: true, compressed: true, size: 2 ** 18 };
  const { path, content } = makeImage(folder, scenario);
  using rig = new Rig(path, { slots: 32, room: 8192 });
  for (let slot = 0; slot < 32; slot++) rig.startRead(slot, slot * 6144, 8192);
  for (let slot = 0; slot < 32; slot++) expect(rig.wait(slot)).toBe(0);

  for (let slot = 0; slot < 32; slot++) {
    const from = slot * 6144;
    expect(Buffer.compare(rig.memory(slot, 8192), content.subarray(from, from + 8192))).toBe(0);
  }
});

describe("backing files", () => {
  test.each([
    ["raw below version 2", "raw", "cluster_size=4k,compat=0.10"],
    ["qcow2 with other clusters", "qcow2", "cluster_size=32k"],
  ])("show through, and stay as they are: %s", (_name, format, options) => {
    tryBacking(folder, format, options, {});
  });

  test("of several layers show what is on top", () => {
    const at = (name: string) => join(folder, name);
    const base = numbered(300_032, 1);
    const create = (name: string, size: number, options: string, below: string, format: string) => {
      const over = ["-o", options, "-b", below, "-F", format, name, `${size}`];
      qemuImg(folder, "create", "-q", "-f", "qcow2", ...over);
    };
    writeFileSync(at("raw"), base);
    create("one", 2 ** 19, "cluster_size=4k", "raw", "raw");
    create("two", 2 ** 18, "cluster_size=8k", "one", "qcow2"); // shorter than what is below
    create("three", 2 ** 19, "cluster_size=16k", "two", "qcow2");
    const model = new Uint8Array(2 ** 19);
    model.set(base.subarray(0, 2 ** 18));
    const part = new Uint8Array(10_240).fill(0x11);
    for (const [name, offset] of [
      ["one", 4096],
      ["two", 40_960],
      ["three", 2 ** 18],
    ] as const) {
      using layer = new Rig(at(name));
      expect(layer.write(offset, part)).toBe(0);
      expect(layer.zero(offset + 100_352, 9728)).toBe(0);
    }
    model.fill(0x11, 4096, 4096 + part.length).fill(0, 104_448, 114_176);
    model.fill(0x11, 40_960, 40_960 + part.length).fill(0, 141_312, 151_040);
    model.fill(0x11, 2 ** 18, 2 ** 18 + part.length);

    using rig = new Rig(at("three"), { readonly: true });
    expect(rig.spec.layers.length).toBe(4);
    expect(Buffer.compare(rig.content(), model)).toBe(0);
  });
});

test("a snapshot in the image keeps what it holds", () => {
  trySnapshot(folder, "cluster_size=4k");
});
