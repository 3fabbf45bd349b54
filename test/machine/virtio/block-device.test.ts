/** A block device of the host as a disk: a loop device, where the tests may make one. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "valibot";
import { parseOptions } from "../../../src/cli/options.ts";
import type { BlockSpec } from "../../../src/devices/virtio/block-config.ts";
import { DiskConfig } from "../../../src/machine/config/devices.ts";
import { type BootConfig, complete, VmConfigSchema } from "../../../src/machine/config/vm.ts";
import { Owned } from "../../../src/machine/owned.ts";
import { openDevices } from "../../../src/machine/virtio/devices.ts";
import { Disk } from "../../devices/virtio/disk.ts";

const sector = 512;
const [IN, OUT, FLUSH, DISCARD, WRITE_ZEROES] = [0, 1, 4, 11, 13];
const none = new Uint8Array(0);
const bytes = 2 ** 20;
const content = Uint8Array.from({ length: bytes }, (_, i) => ((i * 31 + (i >> 8)) % 255) + 1);
const folder = mkdtempSync(join(tmpdir(), "chv-loop-"));
const file = join(folder, "backing");
writeFileSync(file, content);

const losetup = (...words: string[]) => {
  const path = Bun.which("losetup") ?? Bun.which("losetup", { PATH: "/usr/sbin:/sbin" });
  if (!path) return "";
  const { exitCode, stdout } = Bun.spawnSync([path, ...words], { stderr: "ignore" });
  return exitCode === 0 ? stdout.toString().trim() : "";
};
const device = losetup("--find", "--show", file);
afterAll(() => {
  if (device) losetup("--detach", device);
  rmSync(folder, { recursive: true });
});

describe.skipIf(device === "")("a loop device", () => {
  let [owned, spec] = [new Owned(), {} as BlockSpec];
  beforeAll(() => {
    const disks = [parseOptions(DiskConfig, `path=${device}`, "--disk")];
    const config = { ...complete(parse(VmConfigSchema, { rng: undefined })), disks };
    const [disk] = openDevices(config as BootConfig, owned).filter(
      ({ backend }) => backend.kind === "block",
    );
    spec = disk!.backend.spec as BlockSpec;
  });
  afterAll(() => owned.close());

  test.each([
    ["by io_uring", true],
    ["by preadv2 and pwritev2", false],
  ])("is read, written, flushed and punched, %s", (_, uring) => {
    using disk = new Disk({ ...spec, uring, content });
    const data = content
      .subarray(4096, 4096 + 8 * sector)
      .slice()
      .reverse();
    const range = new Uint8Array(16);
    new DataView(range.buffer).setUint32(8, 512, true);
    const room = () => statSync(file).blocks;
    expect(spec.sectors).toBe(bytes / sector);

    expect(disk.request(OUT, 1024, data, 0).status).toBe(0);
    expect(disk.request(IN, 1024, none, data.length).data).toEqual(data);
    expect(disk.request(IN, 2040, none, 8 * sector).data).toEqual(content.subarray(2040 * sector));
    expect(disk.request(FLUSH, 0, none, 0).status).toBe(0);
    const before = room();
    expect(disk.request(DISCARD, 0, range, 0).status).toBe(0);
    range[1] = 4; // from sector 1024 on
    expect(disk.request(WRITE_ZEROES, 0, range, 0).status).toBe(0);
    expect(disk.request(FLUSH, 0, none, 0).status).toBe(0);

    const expected = content
      .slice()
      .fill(0, 0, 512 * sector)
      .fill(0, 1024 * sector, 1536 * sector);
    expect(Buffer.compare(readFileSync(file), expected)).toBe(0);
    expect(room()).toBeLessThanOrEqual(before);
    expect(disk.warnings).toEqual([]);
  });
});
