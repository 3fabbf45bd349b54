/** The volume as others see it: blkid, mtools, fsck.fat and chv's own reader. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fat } from "../../../src/firmware/disk/fat.ts";
import { fatVolume, type SeedFile } from "../../../src/machine/cloud-init/fat-writer.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-fat-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const bytesOf = (length: number, seed: number) =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);
const sets: Record<string, readonly SeedFile[]> = {
  "a seed": [
    { name: "meta-data", content: new TextEncoder().encode("instance-id: a\n") },
    { name: "user-data", content: bytesOf(3000, 1) },
    { name: "vendor-data", content: new Uint8Array(0) },
    { name: "network-config", content: bytesOf(512, 2) },
  ],
  megabytes: [
    { name: "user-data", content: bytesOf(2_300_001, 3) },
    { name: "meta-data", content: bytesOf(70_000, 4) },
  ],
};

const run = (...command: string[]) => {
  const { stdout, stderr, exitCode } = Bun.spawnSync(command, {
    env: { ...process.env, MTOOLS_SKIP_CHECK: "0" },
  });
  return { out: Buffer.from(stdout), err: stderr.toString(), exitCode };
};

test("whatever the size, the volume is FAT12, and its table holds all of it", () => {
  const path = join(folder, "sizes.img");
  // where clusters of a sector, and of two, are as many as FAT12 has; and where a table's last sector is full
  for (const sectors of [340, 2035, 2042, 2045, 2046, 4020, 4050, 4068, 4075, 4083, 4084, 8160]) {
    const content = new Uint8Array(sectors * 512);
    writeFileSync(path, fatVolume("cidata", 1, [{ name: "user-data", content }]));

    expect(run("fsck.fat", "-n", path)).toMatchObject({ err: "", exitCode: 0 });
    expect(run("mtype", "-i", path, "::user-data").out.length).toBe(content.length);
    expect(run("blkid", "-p", "-o", "export", path).out.toString()).toContain("VERSION=FAT12");
  }
});

describe.each(Object.entries(sets))("%s", (name, files) => {
  const path = join(folder, `${name.replace(" ", "-")}.img`);
  const volume = fatVolume("cidata", 0x1234abcd, files);
  writeFileSync(path, volume);

  test("blkid finds type, label and serial number", () => {
    const { out } = run("blkid", "-p", "-o", "export", path);
    const words = out.toString().split("\n");

    expect(words).toContain("TYPE=vfat");
    expect(words).toContain("LABEL=cidata");
    expect(words).toContain("UUID=1234-ABCD");
    expect(words).toContain("VERSION=FAT12");
  });

  test("mtools reads each file by its long name", () => {
    for (const { name: file, content } of files) {
      const { out, err, exitCode } = run("mtype", "-i", path, `::${file}`);

      expect([err, exitCode]).toEqual(["", 0]);
      expect(out.equals(content)).toBe(true);
    }
  });

  test("fsck.fat finds nothing to repair", () => {
    expect(run("fsck.fat", "-n", path)).toMatchObject({ err: "", exitCode: 0 });
  });

  test("chv's own reader finds the same", () => {
    const fat = new Fat({
      size: volume.length,
      read: (offset, length) => volume.subarray(offset, offset + length),
    });

    expect([fat.label, fat.uuid]).toEqual(["cidata", "1234-ABCD"]);
    expect(fat.list("/")).toEqual(files.map((file) => file.name));
    for (const { name: file, content } of files) {
      expect(Buffer.from(fat.readFile(`/${file}`, 2 ** 30)!).equals(content)).toBe(true);
    }
  });
});

test("what is too much for it is refused", () => {
  const content = { length: 300 * 2 ** 20 } as Uint8Array;
  expect(() => fatVolume("cidata", 1, [{ name: "big", content }])).toThrow(RangeError);
});
