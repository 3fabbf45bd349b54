/** Disks of qcow2 images: what is opened, what the guest is told, and what is refused. */
import { afterAll, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseOptions } from "../../../src/cli/options.ts";
import type { BlockSpec } from "../../../src/devices/virtio/block-config.ts";
import { ConfigError } from "../../../src/exit-codes.ts";
import { DiskConfig } from "../../../src/machine/config/devices.ts";
import { Owned } from "../../../src/machine/owned.ts";
import { openDisk } from "../../../src/machine/virtio/disks.ts";
import { openFiles } from "../proc.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-disk-images-"));
afterAll(() => rmSync(folder, { recursive: true }));

const at = (name: string) => join(folder, name);
const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { cwd: folder });
const create = (name: string, size: string, ...options: string[]) => {
  qemuImg("create", "-f", "qcow2", ...options, name, size);
  return at(name);
};
const raw = (name: string, bytes: number, start = "") => {
  writeFileSync(at(name), start, "latin1");
  truncateSync(at(name), bytes);
  return at(name);
};
/** Descriptors of images. */
const descriptors = () => openFiles().filter((file) => file.startsWith(folder)).length;

function open(text: string) {
  const owned = new Owned();
  try {
    const disk = openDisk(parseOptions(DiskConfig, text, "--disk"), 0, owned);
    return { disk, owned, spec: disk.backend.spec as BlockSpec };
  } catch (error) {
    owned.close();
    throw error;
  }
}

/** The message of the ConfigError; nothing more may be open than before. */
function refusal(text: string): string {
  const before = descriptors();
  try {
    open(text).owned.close();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    expect(descriptors()).toBe(before);
    return (error as Error).message;
  }
  throw new Error("it was opened");
}

/** struct virtio_blk_config: discard_sector_alignment is at 44, capacity at 0. */
const alignmentAt = 44;

describe("a qcow2 image", () => {
  const base = raw("base", 2 ** 20);
  const path = create("image", "3M", "-o", "cluster_size=128k", "-b", "base", "-F", "raw");

  test("is found by its first bytes, and by name", () => {
    for (const type of ["", ",image_type=qcow2", ",image_type=unknown"]) {
      const { owned, spec, disk } = open(`path=${path},backing_files=on${type}`);
      const config = new DataView(disk.config.buffer, disk.config.byteOffset);
      expect(Number(config.getBigUint64(0, true)) * 512).toBe(3 * 2 ** 20);
      expect(config.getUint32(alignmentAt, true) * 512).toBe(2 ** 17);
      expect(spec.qcow2?.layers.map(({ bytes }) => bytes)).toEqual([3 * 2 ** 20, 2 ** 20]);
      expect(spec.guarded).toBe(false);
      owned.close();
    }
  });

  test("asked for as raw is its file", () => {
    const { owned, spec } = open(`path=${path},image_type=raw`);
    expect(spec.qcow2).toBeUndefined();
    expect(spec.guarded).toBe(false);
    owned.close();
  });

  test("has its backing files opened only when that is allowed", () => {
    expect(refusal(`path=${path}`)).toBe(
      `--disk ${path}: its backing file base is not allowed; allow it with backing_files=on`,
    );
  });

  test("is locked for its writer; a backing file, for readers", () => {
    const one = open(`path=${path},backing_files=on`);
    expect(refusal(`path=${path},backing_files=on,readonly=on`)).toContain("in use by process");
    expect(refusal(`path=${base}`)).toContain("in use by process");
    open(`path=${base},readonly=on`).owned.close();
    one.owned.close();

    const writer = open(`path=${base}`);
    expect(refusal(`path=${path},backing_files=on`)).toContain(
      `its backing file ${base}: in use by process ${process.pid}; end it first`,
    );
    writer.owned.close();
  });

  test("has one worker", () => {
    expect(refusal(`path=${path},backing_files=on,num_queues=2,io_threads=2`)).toContain(
      "io_threads=2 and a qcow2 image exclude each other; lower it to 1",
    );
  });

  test("keeps its room with sparse=off", () => {
    const { owned, spec } = open(`path=${path},backing_files=on,sparse=off`);
    expect([spec.discard, spec.qcow2?.write?.punch]).toEqual([false, false]);
    owned.close();
  });

  test("can be read around the page cache where its clusters are pages", () => {
    const small = create("small", "1M", "-o", "cluster_size=2k");
    expect(refusal(`path=${small},direct=on`)).toContain(
      "direct=on needs clusters of 4096 bytes or more; leave it out",
    );
    const odd = create("odd", "1048064", "-o", "cluster_size=4k");
    expect(refusal(`path=${odd},direct=on`)).toContain("whole blocks of 4096 bytes");
    const { owned, spec } = open(`path=${create("direct", "1M")},direct=on`);
    expect(spec.blockSize).toBe(4096);
    expect(spec.qcow2!.layers[0]!.direct).toBe(true);
    owned.close();
  });
});

test.each([
  ["vhd", "conectix", "a VHD image"],
  ["vhdx", "vhdxfile", "a VHDX image"],
  ["vmdk", "KDMV", "a VMDK image"],
  ["qed", "QED\0", "a QED image"],
  ["vdi", `${"\0".repeat(64)}\x7f\x10\xda\xbe`, "a VDI image"],
  ["qcow", "QFI\xfb\0\0\0\x01", "a qcow (version 1) image"],
])("a %s image is refused by name, unless raw was asked for", (name, start, what) => {
  const path = raw(name, 65536, start);
  expect(refusal(`path=${path}`)).toBe(
    `--disk ${path}: ${what}, which chv does not serve; convert it with qemu-img convert`,
  );
  open(`path=${path},image_type=raw`).owned.close();
});

test("a disk that its guest encrypts is raw", () => {
  const { owned, spec } = open(`path=${raw("luks", 65536, "LUKS\xba\xbe\0\x01")}`);
  expect([spec.qcow2, spec.guarded]).toEqual([undefined, true]);
  owned.close();
});

test("what is no qcow2 image is not taken for one", () => {
  expect(refusal(`path=${raw("none", 65536)},image_type=qcow2`)).toContain(
    "no qcow2 image; leave image_type= out, or name the right one",
  );
});
