/** The block device's layouts and numbers against linux/virtio_blk.h by the C compiler, and what it offers. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as block from "../../../src/devices/virtio/block-config.ts";

const spec: block.BlockSpec = {
  ...{ fd: -1, sectors: 0x1_2345_6789, readonly: false, direct: false, serial: "s" },
  ...{ queues: 1, queueSize: 128, writeback: true, blockSize: 512, physicalBlockSize: 4096 },
  ...{ discard: true, uring: true },
};
const has = (features: number, name: keyof typeof block.BlockFeature) =>
  (features & (1 << block.BlockFeature[name])) !== 0;
const configOf = (change: Partial<block.BlockSpec> = {}) =>
  new block.VirtioBlkConfig(block.blockConfig({ ...spec, ...change }).buffer);

test("layouts and numbers are the header's", () => {
  const claims = new Map<string, number>();
  for (const type of [block.VirtioBlkOuthdr, block.VirtioBlkDiscardWriteZeroes]) {
    claims.set(`sizeof(struct ${type.structName})`, type.size);
  }
  const layouts = {
    virtio_blk_outhdr: block.VirtioBlkOuthdr.offsets,
    virtio_blk_discard_write_zeroes: block.VirtioBlkDiscardWriteZeroes.offsets,
    virtio_blk_config: block.VirtioBlkConfig.offsets,
  };
  for (const [name, offsets] of Object.entries(layouts)) {
    for (const [field, offset] of Object.entries(offsets)) {
      const spelled = /^(?:cylinders|heads|sectors)$/.test(field) ? `geometry.${field}` : field;
      const member = spelled.replace(/^unused1_(\d)$/, "unused1[$1]");
      claims.set(`offsetof(struct ${name}, ${member})`, offset);
    }
  }
  const config = "offsetof(struct virtio_blk_config, max_secure_erase_sectors)";
  claims.set(config, block.VirtioBlkConfig.size);
  for (const [name, bit] of Object.entries(block.BlockFeature)) {
    claims.set(`VIRTIO_BLK_F_${name}`, bit);
  }
  for (const [name, type] of Object.entries(block.BlockRequest)) {
    claims.set(`VIRTIO_BLK_T_${name}`, type);
  }
  for (const [name, status] of Object.entries(block.BlockStatus)) {
    claims.set(`VIRTIO_BLK_S_${name}`, status);
  }
  claims.set("VIRTIO_BLK_ID_BYTES", block.idBytes);
  claims.set("VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP", block.unmapFlag);

  const folder = mkdtempSync(join(tmpdir(), "chv-block-"));
  const lines = [...claims.keys()].map((text) => `printf("%lld\\n", (long long)(${text}));`);
  const headers = ["stddef", "stdio", "linux/virtio_blk"].map((name) => `#include <${name}.h>`);
  const [source, binary] = [join(folder, "block.c"), join(folder, "block")];
  writeFileSync(source, [...headers, "int main(void) {", ...lines, "}"].join("\n"));
  const built = Bun.spawnSync(["gcc", "-w", "-o", binary, source]);
  expect(built.stderr.toString()).toBe("");
  const numbers = Bun.spawnSync([binary]).stdout.toString().trim().split("\n").map(Number);
  rmSync(folder, { recursive: true });

  expect([...claims.values()]).toEqual(numbers);
});

test("a plain disk offers what it does", () => {
  const features = block.blockFeatures(spec);

  // SEG_MAX, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, DISCARD, WRITE_ZEROES
  const bits = [2, 6, 9, 10, 11, 13, 14];
  expect(features).toBe(bits.reduce((sum, bit) => sum + 2 ** bit, 0));
  expect(features >>> 0).toBe(features);
});

test("features follow from what the disk is", () => {
  expect(has(block.blockFeatures({ ...spec, queues: 4 }), "MQ")).toBe(true);
  const readonly = block.blockFeatures({ ...spec, readonly: true });
  expect(has(readonly, "RO")).toBe(true);
  for (const name of ["CONFIG_WCE", "DISCARD", "WRITE_ZEROES"] as const) {
    expect(has(readonly, name)).toBe(false);
  }
  const dense = block.blockFeatures({ ...spec, discard: false });
  expect(has(dense, "DISCARD")).toBe(false);
  expect(has(dense, "WRITE_ZEROES")).toBe(true);
});

test("configuration space says size, blocks, queues and limits", () => {
  const config = configOf({ queues: 4 });

  expect(config.capacity).toBe(0x1_2345_6789);
  expect(config.seg_max).toBe(126);
  expect([config.blk_size, config.physical_block_exp, config.min_io_size]).toEqual([512, 3, 8]);
  expect(config.num_queues).toBe(4);
  expect(config.wce).toBe(1);
  expect([config.max_discard_seg, config.max_write_zeroes_seg]).toEqual([1, 1]);
  const most = 4_194_303; // in bytes it is below 2^31
  expect([config.max_discard_sectors, config.max_write_zeroes_sectors]).toEqual([most, most]);
  expect(config.discard_sector_alignment).toBe(8);
  expect(config.write_zeroes_may_unmap).toBe(1);
});

test.each([
  [4, 2],
  [2, 1],
  [256, 254],
  [1024, 254],
])("a queue of %d entries takes %d segments a request", (queueSize, segments) => {
  expect(configOf({ queueSize }).seg_max).toBe(segments);
});

test("blocks of 4 KiB have no smaller physical ones", () => {
  const config = configOf({ blockSize: 4096, physicalBlockSize: 4096 });

  expect([config.blk_size, config.physical_block_exp, config.min_io_size]).toEqual([4096, 0, 1]);
});

test("the write cache's switch is all that a driver may write", () => {
  const writable = block.blockConfigWritable(spec);

  expect([...writable.entries()].filter(([, may]) => may === 1)).toEqual([[32, 1]]);
  expect(block.blockConfigWritable({ ...spec, readonly: true }).includes(1)).toBe(false);
  expect(configOf({ writeback: false }).wce).toBe(0);
});
