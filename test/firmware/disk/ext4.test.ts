/** ext2, ext3 and ext4 as e2fsprogs makes them: every file of a folder comes back, whatever the features. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { crc32c } from "../../../src/firmware/disk/ext4/crc32c.ts";
import { Ext4 } from "../../../src/firmware/disk/ext4/ext4.ts";
import { DiskError, type Medium } from "../../../src/firmware/disk/medium.ts";
import { fileMedium } from "./media.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-ext4-"));
const tree = join(folder, "tree");
afterAll(() => rmSync(folder, { recursive: true }));

const pattern = (length: number, factor: number) =>
  Uint8Array.from({ length }, (_, i) => (i * factor) >> 3);
const files: Record<string, Uint8Array> = {
  "boot/vmlinuz-1": pattern(3_000_017, 7),
  "boot/initrd.img-1": pattern(777_777, 13),
  "etc/tiny": new TextEncoder().encode("inside the inode"),
  "etc/small": pattern(100, 3),
  "etc/empty": new Uint8Array(0),
};

beforeAll(() => {
  for (const name of ["boot/grub", "etc", "many"]) mkdirSync(join(tree, name), { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(tree, name), content);
  symlinkSync("vmlinuz-1", join(tree, "boot/vmlinuz"));
  symlinkSync("/boot/../boot/./vmlinuz", join(tree, "boot/absolute"));
  symlinkSync(`${"../boot/".repeat(20)}vmlinuz`, join(tree, "boot/long"));
  symlinkSync("loop", join(tree, "boot/loop"));
  symlinkSync("boot", join(tree, "start"));
  for (let i = 0; i < 400; i++) writeFileSync(join(tree, `many/${"n".repeat(60)}${i}`), `${i}`);
});

let images = 0;
function image(options: string[], source = tree): string {
  const path = join(folder, `image${images++}`);
  const made = Bun.spawnSync(
    ["mke2fs", "-q", "-F", "-d", source, "-L", "a label", ...options, path, "20M"],
    { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` } },
  );
  if (made.exitCode !== 0) throw new Error(made.stderr.toString());
  return path;
}

function run(...command: string[]): string {
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  return Bun.spawnSync(command, { env }).stdout.toString();
}

const open = (path: string) => new Ext4(fileMedium(path));
const limit = 2 ** 28;

describe.each([
  ["ext4 of today", ["-t", "ext4"]],
  ["1 KiB blocks", ["-t", "ext4", "-b", "1024"]],
  [
    "2 KiB blocks, no flex_bg, meta_bg",
    ["-t", "ext4", "-b", "2048", "-O", "^flex_bg,meta_bg,^resize_inode"],
  ],
  ["inline data, large inodes", ["-t", "ext4", "-O", "inline_data", "-I", "512"]],
  ["32 bit, no checksums", ["-t", "ext4", "-O", "^64bit,^metadata_csum"]],
  ["checksum seed, orphan file", ["-t", "ext4", "-O", "metadata_csum_seed,orphan_file"]],
  [
    "small groups, sparse_super2",
    ["-t", "ext4", "-g", "2048", "-O", "sparse_super2,^resize_inode"],
  ],
  ["no directory index", ["-t", "ext4", "-O", "^dir_index"]],
  ["casefold", ["-t", "ext4", "-O", "casefold"]],
  ["bigalloc", ["-t", "ext4", "-O", "bigalloc", "-C", "16384"]],
  ["ext3", ["-t", "ext3"]],
  ["ext2", ["-t", "ext2", "-b", "1024"]],
  ["ext2, small inodes", ["-t", "ext2", "-I", "128"]],
])("%s", (_, options) => {
  let fs: Ext4;
  beforeAll(() => {
    fs = open(image(options));
  });

  test("files hold what was put in", () => {
    for (const [name, content] of Object.entries(files)) {
      expect(fs.readFile(`/${name}`, limit)?.toHex()).toBe(content.toHex());
    }
  });

  test("links lead where they say", () => {
    for (const name of ["boot/vmlinuz", "boot/absolute", "boot/long", "start/vmlinuz"]) {
      expect(fs.readFile(`/${name}`, limit)?.length).toBe(files["boot/vmlinuz-1"]!.length);
    }
    expect(() => fs.readFile("/boot/loop", limit)).toThrow("too many links");
    expect(fs.stat("/boot/loop")).toBeUndefined(); // who only asks is told that there is nothing
    expect(fs.stat("/boot/long")).toEqual({ folder: false, size: 3_000_017 });
    expect(fs.stat("/start")?.folder).toBe(true);
  });

  test("folders list their names, large ones too", () => {
    expect(fs.list("/")?.toSorted()).toEqual(["boot", "etc", "lost+found", "many", "start"]);
    expect(fs.list("/many")).toHaveLength(400);
    expect(fs.list("/boot/grub")).toEqual([]);
    expect(new TextDecoder().decode(fs.readFile(`/many/${"n".repeat(60)}234`, limit))).toBe("234");
  });

  test("what is not there is not there", () => {
    expect(fs.readFile("/boot/none", limit)).toBeUndefined();
    expect(fs.readFile("/boot", limit)).toBeUndefined();
    expect(fs.readFile("/etc/tiny/more", limit)).toBeUndefined();
    expect(fs.list("/etc/tiny")).toBeUndefined();
    expect(() => fs.readFile("/boot/vmlinuz", 1000)).toThrow("more than the 1000 looked for");
  });
});

test("label and UUID are those that blkid tells", () => {
  const path = image(["-t", "ext4"]);
  const told = run("blkid", "-p", path);
  const { label, uuid } = open(path);

  expect(told).toContain(`LABEL="${label}"`);
  expect(told).toContain(`UUID="${uuid}"`);
});

test("only what is needed is read", () => {
  const path = image(["-t", "ext4"]);
  const counted = fileMedium(path);
  new Ext4(counted).readFile("/etc/small", limit);

  expect(counted.reads).toBeLessThan(200_000);
});

describe("an unclean journal", () => {
  /** `debugfs` writes transactions into the journal and leaves the blocks as they were. */
  function unclean(features: string, journal: string): { path: string; block: number } {
    const path = image(["-t", "ext4", "-b", "4096", "-O", features, "-J", "size=4"]);
    const [block] = run("debugfs", "-R", "blocks /etc/small", path)
      .trim()
      .split("\n")
      .at(-1)!
      .split(" ");
    const data = join(folder, "block");
    writeFileSync(data, pattern(4096, 11));
    const script = join(folder, "script");
    writeFileSync(script, `${journal}\njw -b ${block} ${data}\njc\n`);
    run("debugfs", "-w", "-f", script, path);
    return { path, block: Number(block) };
  }

  test.each([
    ["64 bit, checksums of version 3", "64bit,metadata_csum", "jo -c"],
    ["64 bit, without checksums", "64bit,^metadata_csum", "jo"],
    ["32 bit, without checksums", "^64bit,^metadata_csum", "jo"],
    ["a journal by block map", "^64bit,^metadata_csum,^extents", "jo"],
  ])("is replayed in memory as e2fsck replays it: %s", (_, features, journal) => {
    const { path } = unclean(features, journal);
    const repaired = `${path}-repaired`;
    copyFileSync(path, repaired);
    run("e2fsck", "-fy", repaired);
    const before = readFileSync(path);

    const fs = open(path);
    const content = fs.readFile("/etc/small", limit)!;

    expect(fs.replayedBlocks).toBeGreaterThan(0);
    expect(content.toHex()).toBe(pattern(4096, 11).slice(0, 100).toHex());
    expect(content.toHex()).toBe(open(repaired).readFile("/etc/small", limit)!.toHex());
    expect(open(repaired).replayedBlocks).toBe(0);
    expect(before.equals(readFileSync(path))).toBe(true);
  });

  test("a block that begins as the journal's own do is what it was", () => {
    const { path, block } = unclean("64bit,metadata_csum", "jo -c");
    const data = join(folder, "escaped");
    const content = Buffer.from(pattern(4096, 11));
    content.writeUInt32BE(0xc03b3998);
    writeFileSync(data, content);
    const script = join(folder, "escape");
    writeFileSync(script, `jo -c\njw -b ${block} ${data}\njc\n`);
    run("debugfs", "-w", "-f", script, path);

    expect(open(path).readFile("/etc/small", limit)!.toHex()).toBe(
      content.subarray(0, 100).toString("hex"),
    );
  });

  test("a revoked block stays as it is", () => {
    const { path, block } = unclean("64bit,metadata_csum", "jo -c");
    const script = join(folder, "revoke");
    writeFileSync(script, `jo -c\njw -r ${block}\njc\n`);
    run("debugfs", "-w", "-f", script, path);
    const repaired = `${path}-repaired`;
    copyFileSync(path, repaired);
    run("e2fsck", "-fy", repaired);

    expect(open(path).readFile("/etc/small", limit)!.toHex()).toBe(
      open(repaired).readFile("/etc/small", limit)!.toHex(),
    );
  });
});

test("CRC-32C of the check value (RFC 3720, B.4)", () => {
  expect((~crc32c(0xffff_ffff, new TextEncoder().encode("123456789")) >>> 0).toString(16)).toBe(
    "e3069283",
  );
});

test("a broken image is an error in a line, never worse", () => {
  const small = join(folder, "small");
  mkdirSync(join(small, "boot"), { recursive: true });
  writeFileSync(join(small, "boot/kernel"), pattern(30_000, 5));
  symlinkSync("kernel", join(small, "boot/link"));
  const path = image(["-t", "ext4", "-b", "1024", "-O", "inline_data"], small);
  truncateSync(path, 8 * 2 ** 20);
  const good = readFileSync(path).subarray(0, 2 ** 20);

  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(2 ** 20 - 1), fc.integer({ min: 0, max: 255 })), { maxLength: 60 }),
      fc.integer({ min: 1024, max: 2 ** 20 }),
      (changes, length) => {
        const bytes = new Uint8Array(good.subarray(0, length));
        for (const [at, value] of changes) bytes[at % length] = value;
        const broken: Medium = {
          size: length,
          read(offset, count) {
            if (offset < 0 || offset + count > length) throw new DiskError("beyond");
            return bytes.slice(offset, offset + count);
          },
        };
        try {
          const fs = new Ext4(broken);
          fs.list("/");
          fs.readFile("/boot/link", 2 ** 20);
        } catch (error) {
          expect(error).toBeInstanceOf(DiskError);
        }
      },
    ),
    { numRuns: Number(process.env.CHV_FUZZ_RUNS ?? 300) },
  );
});
