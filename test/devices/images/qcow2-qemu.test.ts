/** qcow2 images against qemu-img: what it makes is read, what is written it finds sound, and the same. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomOf } from "./qcow2-memory.ts";
import { Rig, type RigOptions } from "./qcow2-rig.ts";
import { numbered, qemuImg as run } from "./qcow2-scenarios.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-qcow2-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);
const qemuImg = (...args: string[]) => run(folder, ...args);

function create(name: string, size: number, options: string, ...more: string[]): string {
  qemuImg("create", "-q", "-f", "qcow2", "-o", options, ...more, name, `${size}`);
  return at(name);
}

/** Throws what qemu-img says, should it find anything wrong. */
function expectSound(name: string, content: Uint8Array): void {
  expect(qemuImg("check", "-f", "qcow2", name)).toContain("No errors were found");
  writeFileSync(at("expected"), content);
  qemuImg("compare", "-f", "raw", "-F", "qcow2", "expected", name);
}

/** Requests of all kinds, in pieces of memory of all sizes, done one after another and to a model. */
function scribble(rig: Rig, model: Uint8Array, seed: number, steps: number, most: number): void {
  const random = randomOf(seed);
  const sectors = model.length / 512;
  for (let step = 0; step < steps; step++) {
    const count = 1 + random(Math.min(most, sectors));
    const offset = random(sectors - count + 1) * 512;
    const length = count * 512;
    const cuts = Array.from({ length: random(4) }, () => 1 + random(length));
    const kind = random(12);
    if (kind < 7) {
      const data = new Uint8Array(length);
      for (let i = 0; i < length; i += 512) data.fill(1 + random(255), i, i + 512);
      expect(rig.write(offset, data, kind === 0, cuts)).toBe(0);
      model.set(data, offset);
    } else if (kind < 9) {
      expect(rig.zero(offset, length, kind === 7, random(4) === 0)).toBe(0);
      model.fill(0, offset, offset + length);
    } else if (kind < 11) {
      const found = rig.read(offset, length, cuts);
      expect(Buffer.compare(found, model.subarray(offset, offset + length))).toBe(0);
    } else {
      expect(rig.flush()).toBe(0);
    }
  }
  expect(Buffer.compare(rig.content(), model)).toBe(0);
}

describe("an image of qemu-img that is written at random", () => {
  test.each<[string, number, string, number, RigOptions]>([
    ["the defaults", 2 ** 23, "cluster_size=64k", 300, { ring: "io_uring" }],
    ["version 2", 2 ** 22 + 512, "cluster_size=64k,compat=0.10", 300, {}],
    ["the least clusters", 2 ** 21, "cluster_size=512", 400, { cacheBytes: 4096 }],
    ["the largest clusters", 2 ** 23 + 2 ** 20, "cluster_size=2M", 300, { ring: "io_uring" }],
    ["refcounts of 1 bit", 2 ** 20, "cluster_size=512,refcount_bits=1", 100, {}],
    ["refcounts of 2 bits", 2 ** 20, "cluster_size=1k,refcount_bits=2", 100, {}],
    ["refcounts of 4 bits", 2 ** 20, "cluster_size=1k,refcount_bits=4", 100, {}],
    ["refcounts of 8 bits", 2 ** 20, "cluster_size=1k,refcount_bits=8", 100, {}],
    ["refcounts of 32 bits", 2 ** 20, "cluster_size=512,refcount_bits=32", 100, {}],
    [
      // the refcount table has to grow: its cluster reaches 2 MiB
      ...(["refcounts of 64 bits", 2 ** 22, "cluster_size=512,refcount_bits=64", 1000] as const),
      { refcountCacheBytes: 4096, ring: "io_uring" },
    ],
    ["lazy refcounts", 2 ** 20, "cluster_size=4k,lazy_refcounts=on", 100, {}],
    ["preallocated metadata", 2 ** 20, "cluster_size=4k,preallocation=metadata", 100, {}],
  ])("is sound: %s", (_name, size, options, most, rigOptions) => {
    const path = create("image", size, options);
    const model = new Uint8Array(size);
    const rig = new Rig(path, rigOptions);

    scribble(rig, model, size + most, 120, most);
    rig.close();

    expect(rig.warnings).toEqual([]);
    expectSound("image", model);
  });
});

describe("compressed clusters", () => {
  const size = 2 ** 20 + 3 * 512;
  /** Compresses, but not everywhere. */
  const content = new Uint8Array(size);
  const random = randomOf(3);
  for (let i = 0; i < size; i += 512) {
    const noisy = Math.floor(i / 32768) % 3 === 0;
    for (let j = i; j < Math.min(i + 512, size); j++) content[j] = noisy ? random(256) : i >> 12;
  }
  writeFileSync(at("content"), content);
  const convert = (name: string, options: string) => {
    qemuImg("convert", "-f", "raw", "-O", "qcow2", "-c", "-o", options, "content", name);
    return at(name);
  };

  test.each<[string, string, RigOptions]>([
    ["deflate", "cluster_size=64k", { ring: "io_uring" }],
    ["deflate, version 2", "cluster_size=4k,compat=0.10", {}],
    ["deflate, the least clusters", "cluster_size=512", {}],
    ["zstd", "cluster_size=64k,compression_type=zstd", {}],
    ["zstd, large clusters", "cluster_size=1M,compression_type=zstd", { ring: "io_uring" }],
  ])("are read, and written elsewhere: %s", (_name, options, rigOptions) => {
    const path = convert("packed", options);
    const rig = new Rig(path, rigOptions);

    expect(Buffer.compare(rig.content(), content)).toBe(0);
    const model = content.slice();
    scribble(rig, model, 5, 60, 100);
    rig.close();

    expectSound("packed", model);
  });

  test("are read by many at once", () => {
    using rig = new Rig(convert("many", "cluster_size=4k"), { slots: 32, room: 8192 });
    for (let slot = 0; slot < 32; slot++) rig.startRead(slot, slot * 6144, 8192);
    for (let slot = 0; slot < 32; slot++) expect(rig.wait(slot)).toBe(0);

    for (let slot = 0; slot < 32; slot++) {
      const from = slot * 6144;
      expect(Buffer.compare(rig.memory(slot, 8192), content.subarray(from, from + 8192))).toBe(0);
    }
  });
});

describe("backing files", () => {
  const base = numbered(300_032, 1);
  writeFileSync(at("base"), base);

  test.each<[string, string, string, RigOptions]>([
    ["raw below version 3", "raw", "cluster_size=64k", { ring: "io_uring" }],
    ["raw below version 2", "raw", "cluster_size=4k,compat=0.10", {}],
    ["qcow2 with other clusters", "qcow2", "cluster_size=32k", {}],
  ])("show through, and stay as they are: %s", (_name, format, options, rigOptions) => {
    const size = 2 ** 19;
    if (format === "qcow2") {
      qemuImg("convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=2k", "base", "below");
    } else writeFileSync(at("below"), base);
    const path = create("over", size, options, "-b", "below", "-F", format);
    const before = statSync(at("below")).mtimeMs;
    const model = new Uint8Array(size);
    model.set(base);
    const rig = new Rig(path, rigOptions);

    expect(Buffer.compare(rig.content(), model)).toBe(0);
    scribble(rig, model, 11, 100, 60);
    rig.close();

    expectSound("over", model);
    expect(statSync(at("below")).mtimeMs).toBe(before);
  });

  test("of several layers show what is on top", () => {
    writeFileSync(at("raw"), base);
    create("one", 2 ** 19, "cluster_size=4k", "-b", "raw", "-F", "raw");
    create("two", 2 ** 18, "cluster_size=8k", "-b", "one", "-F", "qcow2"); // shorter than what is below
    create("three", 2 ** 19, "cluster_size=16k", "-b", "two", "-F", "qcow2");
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

describe("snapshots in the image", () => {
  test.each([
    ["version 3", "cluster_size=4k"],
    ["version 2", "cluster_size=512,compat=0.10"],
  ])("keep what they hold: %s", (_name, options) => {
    const path = create("snapped", 2 ** 19, options);
    const model = new Uint8Array(2 ** 19);
    const first = new Rig(path);
    scribble(first, model, 21, 40, 200);
    first.close();
    const kept = model.slice();
    qemuImg("snapshot", "-c", "one", "snapped");

    const second = new Rig(path, { ring: "io_uring" });
    scribble(second, model, 22, 60, 100);
    second.close();

    expectSound("snapped", model);
    qemuImg("snapshot", "-a", "one", "snapped");
    expectSound("snapped", kept);
  });
});
