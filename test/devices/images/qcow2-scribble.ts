/** Random requests to an image on the host's disk, and what qemu-img says of it behind them. */
import { expect } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { randomOf } from "./qcow2-memory.ts";
import { Rig, type RigOptions } from "./qcow2-rig.ts";
import { numbered, qemuImg } from "./qcow2-scenarios.ts";

/** Throws what qemu-img says, should it find anything wrong. */
export function expectSound(folder: string, name: string, content: Uint8Array): void {
  expect(qemuImg(folder, "check", "-f", "qcow2", name)).toContain("No errors were found");
  writeFileSync(join(folder, "expected"), content);
  qemuImg(folder, "compare", "-f", "raw", "-F", "qcow2", "expected", name);
}

/** Requests of all kinds, in pieces of memory of all sizes, done one after another and to a model. */
export function scribble(
  rig: Rig,
  model: Uint8Array,
  seed: number,
  steps: number,
  most: number,
): void {
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

/** One image: its size, options of qemu-img create, most sectors of a request, and how it is driven. */
export type Row = readonly [string, number, string, number, RigOptions];

/** Makes an image, writes it at random, and has it checked. */
export function tryImage(
  folder: string,
  [, size, options, most, rigOptions]: Row,
  steps: number,
): void {
  qemuImg(folder, "create", "-q", "-f", "qcow2", "-o", options, "image", `${size}`);
  const model = new Uint8Array(size);
  const rig = new Rig(join(folder, "image"), rigOptions);
  scribble(rig, model, size + most, steps, most);
  rig.close();
  expect(rig.warnings).toEqual([]);
  expectSound(folder, "image", model);
}

/** What compresses, but not everywhere. */
export function mixed(size: number): Uint8Array {
  const content = new Uint8Array(size);
  const random = randomOf(3);
  for (let i = 0; i < size; i += 512) {
    const noisy = Math.floor(i / 32768) % 3 === 0;
    for (let j = i; j < Math.min(i + 512, size); j++) content[j] = noisy ? random(256) : i >> 12;
  }
  return content;
}

/** Reads an image whose clusters are compressed, writes it at random, and has it checked. */
export function tryPacked(
  folder: string,
  content: Uint8Array,
  options: string,
  rigOptions: RigOptions,
): void {
  writeFileSync(join(folder, "content"), content);
  const convert = ["convert", "-f", "raw", "-O", "qcow2", "-c", "-o", options];
  qemuImg(folder, ...convert, "content", "packed");
  const rig = new Rig(join(folder, "packed"), rigOptions);
  expect(Buffer.compare(rig.content(), content)).toBe(0);
  const model = content.slice();
  scribble(rig, model, 5, 40, 60);
  rig.close();
  expectSound(folder, "packed", model);
}

/** Keeps a snapshot in an image that is written before and behind it. */
export function trySnapshot(folder: string, options: string): void {
  const size = 2 ** 18;
  qemuImg(folder, "create", "-q", "-f", "qcow2", "-o", options, "snapped", `${size}`);
  const model = new Uint8Array(size);
  const path = join(folder, "snapped");
  const first = new Rig(path);
  scribble(first, model, 21, 30, 100);
  first.close();
  const kept = model.slice();
  qemuImg(folder, "snapshot", "-c", "one", "snapped");

  const second = new Rig(path, { ring: "io_uring" });
  scribble(second, model, 22, 40, 60);
  second.close();

  expectSound(folder, "snapped", model);
  qemuImg(folder, "snapshot", "-a", "one", "snapped");
  expectSound(folder, "snapped", kept);
}

/** An image over another file, which is raw or qcow2; that stays as it is. */
export function tryBacking(
  folder: string,
  format: string,
  options: string,
  rigOptions: RigOptions,
): void {
  const size = 2 ** 19;
  const base = numbered(300_032, 1);
  writeFileSync(join(folder, "base"), base);
  const convert = ["convert", "-f", "raw", "-O", format];
  const below = format === "qcow2" ? ["-o", "cluster_size=2k"] : [];
  qemuImg(folder, ...convert, ...below, "base", "below");
  const over = ["-o", options, "-b", "below", "-F", format, "over", `${size}`];
  qemuImg(folder, "create", "-q", "-f", "qcow2", ...over);
  const before = readFileSync(join(folder, "below"));
  const model = new Uint8Array(size);
  model.set(base);
  const rig = new Rig(join(folder, "over"), rigOptions);

  expect(Buffer.compare(rig.content(), model)).toBe(0);
  scribble(rig, model, 11, 60, 60);
  rig.close();

  expectSound(folder, "over", model);
  expect(Buffer.compare(readFileSync(join(folder, "below")), before)).toBe(0);
}
