/** FAT of all three kinds, as mkfs.vfat and mtools make it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { Fat } from "../../../src/firmware/disk/fat.ts";
import { DiskError, type Medium } from "../../../src/firmware/disk/medium.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-fat-"));
afterAll(() => rmSync(folder, { recursive: true }));

const MiB = 2 ** 20;
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin`, MTOOLS_SKIP_CHECK: "1" };
const pattern = Uint8Array.from({ length: 100_001 }, (_, i) => (i * 7) >> 4);

function run(...command: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { env });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
  return stdout.toString();
}

function image(name: string, size: number, options: string[]): string {
  const path = join(folder, name);
  writeFileSync(path, "");
  truncateSync(path, size);
  run("mkfs.vfat", "-n", "UEFI", ...options, path);
  const data = join(folder, "data");
  writeFileSync(data, pattern);
  run("mmd", "-i", path, "::/EFI", "::/EFI/ubuntu", "::/loader");
  run("mcopy", "-i", path, data, "::/EFI/ubuntu/grub.cfg");
  run("mcopy", "-i", path, data, "::/loader/a name that is long and Mixed.conf");
  run("mcopy", "-i", path, data, "::/KERNEL.IMG");
  return path;
}

function medium(bytes: Uint8Array): Medium {
  return {
    size: bytes.length,
    read(offset, length) {
      if (offset < 0 || offset + length > bytes.length) throw new DiskError("beyond the end");
      return bytes.slice(offset, offset + length);
    },
  };
}

describe.each([
  ["FAT12", 2 * MiB, ["-F", "12"]],
  ["FAT16", 16 * MiB, ["-F", "16"]],
  ["FAT32", 40 * MiB, ["-F", "32", "-s", "1"]],
])("%s", (name, size, options) => {
  let path: string;
  let fat: Fat;
  beforeAll(() => {
    path = image(name, size, options);
    fat = new Fat(medium(readFileSync(path)));
  });

  test("files hold what was put in, whatever the case of their names", () => {
    for (const file of [
      "/EFI/ubuntu/grub.cfg",
      "/efi/UBUNTU/GRUB.CFG",
      "/loader/a name that is long and Mixed.conf",
      "/Kernel.img",
    ]) {
      expect(fat.readFile(file, MiB)?.toHex()).toBe(pattern.toHex());
    }
  });

  test("folders list their names", () => {
    expect(fat.list("/")?.toSorted()).toEqual(["EFI", "KERNEL.IMG", "loader"]);
    expect(fat.list("/loader")).toEqual(["a name that is long and Mixed.conf"]);
    expect(fat.list("/EFI/ubuntu")).toEqual(["grub.cfg"]);
  });

  test("what is not there is not there, what is too long is told", () => {
    expect(fat.readFile("/EFI", MiB)).toBeUndefined();
    expect(fat.readFile("/none", MiB)).toBeUndefined();
    expect(fat.list("/KERNEL.IMG")).toBeUndefined();
    expect(() => fat.readFile("/kernel.img", 1000)).toThrow("more than the 1000 looked for");
  });

  test("label and UUID are those that blkid tells", () => {
    const told = run("blkid", "-p", path);
    expect(told).toContain(`LABEL="${fat.label}"`);
    expect(told).toContain(` UUID="${fat.uuid}"`);
    expect(fat.label).toBe("UEFI");
  });
});

test("a broken file system is an error in a line, never worse", () => {
  const good = readFileSync(image("broken", 2 * MiB, ["-F", "12"]));
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(16_383), fc.integer({ min: 0, max: 255 })), { maxLength: 40 }),
      fc.integer({ min: 512, max: 2 * MiB }),
      (changes, length) => {
        const bytes = new Uint8Array(good.subarray(0, length));
        for (const [at, value] of changes) if (at < length) bytes[at] = value;
        try {
          const fat = new Fat(medium(bytes));
          fat.list("/");
          fat.readFile("/EFI/ubuntu/grub.cfg", MiB);
        } catch (error) {
          expect(error).toBeInstanceOf(DiskError);
        }
      },
    ),
    { numRuns: 60 },
  );
});
