/**
 * Images that lie: any of their tables changed at random, then requests. An image is refused in one line, or serves what
 * it can; every request ends, nothing is written but the image, and its header stays what it was.
 */
import { expect } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { ImageError } from "../../../src/devices/images/image-error.ts";
import { ImageFile } from "./qcow2-check.ts";
import { memoryRig, randomOf } from "./qcow2-memory.ts";
import { makeImage, type Scenario } from "./qcow2-scenarios.ts";

const size = 2 ** 16;
const victims: readonly Scenario[] = [
  { name: "hostile", options: "cluster_size=512", size, filled: true, snapshot: true },
  { name: "hostile packed", options: "cluster_size=4k", size, filled: true, compressed: true },
  { name: "hostile 2", options: "cluster_size=512,compat=0.10", size, backing: 30_000 },
  { name: "hostile bits", options: "cluster_size=1k,refcount_bits=1", size, filled: true },
];
/** Bytes of the header that an image may change of itself: see docs/interop/qcow2.rst, "Header". */
const changing = [
  [48, 60], // where the refcount table is
  [88, 96], // auto-clear features
] as const;
/** A file never grows beyond what its refcount table reaches, or that of twice its size. */
const mostBytes = 2 ** 26;

interface Target {
  readonly path: string;
  readonly bytes: Uint8Array;
  /** Where tables are: offsets of 8-byte entries. */
  readonly entries: readonly number[];
}

export function makeVictims(folder: string): Target[] {
  return victims.map((scenario) => {
    const { path } = makeImage(folder, scenario);
    const bytes = new Uint8Array(readFileSync(path));
    return { path, bytes, entries: entriesOf(new ImageFile(bytes)) };
  });
}

/** The entries of the refcount table and of its first block, of the L1 table, and of the first L2 table. */
function entriesOf({ view, clusterBytes, file }: ImageFile): number[] {
  const at = (offset: number) => Number(view.getBigUint64(offset) & 0x00ff_ffff_ffff_fe00n);
  const [refcounts, l1] = [at(48), at(40)];
  const tables = [refcounts, at(refcounts), l1, at(l1)].filter((offset) => offset > 0);
  const count = Math.min(clusterBytes / 8, 40);
  const entries = tables.flatMap((table) => Array.from({ length: count }, (_, i) => table + i * 8));
  return entries.filter((offset) => offset + 8 <= file.length);
}

const flags = fc.constantFrom(0n, 1n << 63n, 1n << 62n, 3n << 62n, 1n, (1n << 63n) | 1n, 1n << 57n);
const place = fc.oneof(
  fc.nat(300).map((n) => BigInt(n) << 9n),
  fc.constantFrom(0n, 1n << 20n, 1n << 33n, 1n << 40n, (1n << 56n) - 512n, 0xffff_ffff_ffffn),
);
const value = fc.oneof(
  fc.tuple(flags, place).map(([high, low]) => high | low),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);
const change = fc.oneof(
  { weight: 4, arbitrary: fc.record({ entry: fc.nat(), value }) },
  { weight: 1, arbitrary: fc.record({ byte: fc.nat(111), value: fc.nat(255) }) },
);

/** Tries so many images; `folder` has the victims. */
export function tryHostileImages(folder: string, targets: readonly Target[], runs: number): void {
  const property = fc.property(
    fc.nat(targets.length - 1),
    fc.array(change, { minLength: 1, maxLength: 6 }),
    fc.nat(),
    (index, changes, seed) => {
      const target = targets[index]!;
      const bytes = target.bytes.slice();
      const view = new DataView(bytes.buffer);
      for (const one of changes) {
        if ("byte" in one) bytes[one.byte] = one.value;
        else view.setBigUint64(target.entries[one.entry % target.entries.length]!, one.value);
      }
      const path = join(folder, "hostile");
      writeFileSync(path, bytes);
      tryOne(path, bytes, seed);
    },
  );
  fc.assert(property, { numRuns: runs, endOnFailure: true });
}

function tryOne(path: string, bytes: Uint8Array, seed: number): void {
  const random = randomOf(seed);
  let opened: ReturnType<typeof memoryRig>;
  try {
    const small = { cacheBytes: 1024, refcountCacheBytes: 2048 };
    opened = memoryRig(path, random, { ...(seed % 2 ? small : {}), readonly: seed % 16 === 0 });
  } catch (error) {
    expect(error).toBeInstanceOf(ImageError);
    expect((error as Error).message).toMatch(/^[^\n]+; [^\n]+$/);
    return;
  }
  const { rig, ring } = opened;
  const disk = rig.spec.layers[0]!.bytes;
  const start = ring.image.length;
  const sectors = Math.min(Math.floor(disk / 512), 512);
  for (let round = 0; round < 6 && sectors > 0; round++) {
    for (let slot = 0; slot < rig.slots; slot++) {
      const count = Math.min(1 + random(24), sectors);
      const [offset, length] = [random(sectors - count + 1) * 512, count * 512];
      const kind = random(8);
      if (kind < 3) rig.startWrite(slot, offset, new Uint8Array(length).fill(0xff));
      else if (kind === 3) rig.startZero(slot, offset, length, random(2) === 0);
      else if (kind === 4) rig.startDiscard(slot, offset, length);
      else if (kind === 5) rig.startFlush(slot);
      else rig.startRead(slot, offset, length);
    }
    for (let slot = 0; slot < rig.slots; slot++) rig.wait(slot);
  }
  rig.close();
  const after = ring.image.content;
  for (let i = 0; i < 104; i++) {
    if (changing.some(([from, to]) => i >= from && i < to)) continue;
    if (after[i] !== bytes[i]) throw new Error(`byte ${i} of the header has become ${after[i]}`);
  }
  expect(after.length).toBeLessThanOrEqual(Math.max(start, mostBytes));
}
