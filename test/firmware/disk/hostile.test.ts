/** File systems that would have a reader look for ever, or take all memory: an error in a line, at once. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bootSetupOf } from "../../../src/firmware/disk/boot-disk.ts";
import { Ext4 } from "../../../src/firmware/disk/ext4/ext4.ts";
import { Fat } from "../../../src/firmware/disk/fat.ts";
import { metered } from "../../../src/firmware/disk/medium.ts";
import { Volumes } from "../../../src/firmware/disk/volumes.ts";
import { gptImage, run } from "../../machine/disk-boot/images.ts";
import { fileMedium } from "./media.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-hostile-"));
const tree = join(folder, "tree");
const limit = 2 ** 28;
const blockBytes = 1024;
afterAll(() => rmSync(folder, { recursive: true }));

let images = 0;
const path = (name = `image${images++}`) => join(folder, name);

function ext4(...options: readonly string[]): string {
  const image = path();
  run(
    "mke2fs",
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b",
    `${blockBytes}`,
    ...options,
    "-d",
    tree,
    image,
    "16M",
  );
  return image;
}

function change(image: string, ...commands: readonly string[]): string {
  const copy = path();
  copyFileSync(image, copy);
  const script = path("script");
  writeFileSync(script, `${commands.join("\n")}\n`);
  run("debugfs", "-w", "-f", script, copy);
  return copy;
}

function overwrite(image: string, at: number, bytes: Uint8Array): void {
  const fd = openSync(image, "r+");
  writeSync(fd, bytes, 0, bytes.length, at);
  closeSync(fd);
}

let plain = "";
beforeAll(() => {
  mkdirSync(join(tree, "boot"), { recursive: true });
  writeFileSync(join(tree, "boot/kernel"), "a kernel");
  // islands in a hole: more extents than an inode has room for
  const fd = openSync(join(tree, "islands"), "w");
  for (let i = 0; i < 12; i++)
    writeSync(fd, Buffer.alloc(blockBytes, i + 1), 0, blockBytes, i * 65536);
  ftruncateSync(fd, 12 * 65536);
  closeSync(fd);
  plain = ext4();
});

describe("ext4", () => {
  test("an extent that goes back is a broken tree", () => {
    const leaf = /\(ETB0\):(\d+)/.exec(run("debugfs", "-R", "stat /islands", plain))![1]!;
    const image = change(plain);
    expect(new Ext4(fileMedium(image)).readFile("/islands", limit)).toHaveLength(12 * 65536);
    // the second extent begins where the first does (struct ext4_extent: ee_block is its first word)
    overwrite(image, Number(leaf) * blockBytes + 12 + 12, new Uint8Array(4));

    expect(() => new Ext4(fileMedium(image)).readFile("/islands", limit)).toThrow(
      "ext4: a broken extent tree",
    );
  });

  test("a tree that leads back to itself is a broken tree", () => {
    const leaf = /\(ETB0\):(\d+)/.exec(run("debugfs", "-R", "stat /islands", plain))![1]!;
    const image = change(plain);
    // struct ext4_extent_header with one entry at depth 1, and an index that names the same block
    const node = new DataView(new ArrayBuffer(24));
    for (const [at, value] of [
      [0, 0xf30a],
      [2, 1],
      [4, 84],
      [6, 1],
    ] as const) {
      node.setUint16(at, value, true);
    }
    node.setUint32(16, Number(leaf), true);
    overwrite(image, Number(leaf) * blockBytes, new Uint8Array(node.buffer));

    expect(() => new Ext4(fileMedium(image)).readFile("/islands", limit)).toThrow(
      "ext4: a broken extent tree",
    );
  });

  test("folders of more than 64 MiB in all are not read", () => {
    const image = change(
      plain,
      ...["mkdir /a", "mkdir /b"],
      ...["set_inode_field /a size 50000000", "set_inode_field /b size 50000000"],
    );
    const fs = new Ext4(fileMedium(image));

    expect(fs.list("/a")).toEqual([]);
    expect(fs.list("/a")).toEqual([]); // it is known
    expect(() => fs.list("/b")).toThrow("ext4: folders of more than 67108864 bytes are to be read");
  });

  test("encrypted names are told of, with the place where they were met", () => {
    // EXT4_ENCRYPT_FL and EXT4_EXTENTS_FL
    const image = change(plain, "set_inode_field /boot flags 0x80800");

    expect(() => bootSetupOf(Volumes.of(fileMedium(image)))).toThrow(
      "/boot/grub on the whole disk: ext4: a folder with encrypted names",
    );
  });

  test("paths end, and so does looking for them", () => {
    const fs = new Ext4(fileMedium(plain));

    expect(() => fs.stat("/boot/..".repeat(600))).toThrow(
      "ext4: a path of more than 4096 characters",
    );
    expect(() => {
      for (let i = 0; i < 30_000; i++) fs.stat("/none");
    }).toThrow("ext4: more than 20000 folders are to be looked into");
  });

  test("one that is longer than its partition says so", () => {
    const image = change(plain);
    truncateSync(image, 6 * 2 ** 20);

    expect(() => new Ext4(fileMedium(image))).toThrow(
      "ext4: longer than its partition; is the image cut short?",
    );
  });

  test("inodes that would straddle blocks are refused", () => {
    const image = change(plain, "set_super_value inode_size 200");

    expect(() => new Ext4(fileMedium(image)).list("/")).toThrow("ext4: inodes of 200 bytes");
  });

  test("a journal with fast commits that count is refused, with others it is replayed", () => {
    const image = ext4("-O", "fast_commit,^metadata_csum", "-J", "size=4,fast_commit_size=256");
    const blocks = (of: string) => run("debugfs", "-R", `blocks ${of}`, image).trim().split(/\s+/);
    const data = path("block");
    writeFileSync(data, Buffer.alloc(blockBytes, "x"));
    const unclean = change(image, "jo", `jw -b ${blocks("/boot/kernel").at(-1)} ${data}`, "jc");
    const text = () =>
      `${Buffer.from(new Ext4(fileMedium(unclean)).readFile("/boot/kernel", limit)!)}`;

    // big-endian: s_feature_incompat of the journal's superblock, as a kernel sets it that mounts it
    const journal = blocks("<8>").map((block) => Number(block) * blockBytes);
    const [feature, head] = [Buffer.alloc(4), Buffer.alloc(12)];
    feature.writeUInt32BE(0x20);
    overwrite(unclean, journal[0]! + 0x28, feature);
    expect(text()).toBe("xxxxxxxx");

    // struct ext4_fc_tl and ext4_fc_head (fs/ext4/fast_commit.h): tag 9 of 8 bytes, features, transaction
    const superblock = readFileSync(unclean).subarray(journal[0]);
    const last = superblock.readUInt32BE(0x18);
    const first = superblock.readUInt32BE(0x10) - superblock.readUInt32BE(0x54) + 1;
    head.writeUInt16LE(9, 0);
    head.writeUInt16LE(8, 2);
    head.writeUInt32LE(last, 8);
    overwrite(unclean, journal[first]!, head);
    expect(text()).toBe("xxxxxxxx"); // older than the transaction that was replayed
    head.writeUInt32LE(last + 1, 8);
    overwrite(unclean, journal[first]!, head);

    expect(text).toThrow(
      "ext4: fast commits in the journal, which chv does not replay; run e2fsck",
    );
  });
});

describe("a configuration", () => {
  const script = path("grub.cfg");
  const environment = path("grubenv");
  const entry = path("entry.conf");
  /** What the image's boot set-up is, with this configuration. */
  function boot(config: string) {
    writeFileSync(script, config);
    writeFileSync(environment, `# GRUB Environment Block\n${"#".repeat(2 ** 19)}\n`);
    writeFileSync(entry, "title x\nlinux /boot/kernel\n");
    const image = change(
      plain,
      ...["mkdir /boot/grub", `write ${script} /boot/grub/grub.cfg`],
      ...[`write ${environment} /boot/large`, "mkdir /loader", "mkdir /loader/entries"],
      ...[1, 2, 3].map((i) => `write ${entry} /loader/entries/${i}.conf`),
    );
    return bootSetupOf(Volumes.of(fileMedium(image)));
  }

  test.each([
    ["a path", "while true; do test -e /boot/kernel/none; done", "folders are to be looked into"],
    ["a file", "while true; do load_env -f /boot/large; done", "bytes of configuration are read"],
    ["a size", "while true; do test -s /boot/large; done", "folders are to be looked into"],
    ["entries", "while true; do blscfg; done", "more than 2000 entries"],
    ["a long path", `test -e ${"/boot/..".repeat(600)}`, "a path of more than 4096 characters"],
  ])("that asks without end is ended: for %s", (_, config, message) => {
    expect(() => boot(config)).toThrow(message);
  });

  test("with a title without end is told of in a line", () => {
    expect(boot(`menuentry ${"x".repeat(5000)} { linux /boot/kernel; }`).title).toHaveLength(200);
    expect(() => boot(`menuentry ${"x".repeat(5000)} { true; }`)).toThrow(/^.{900,1100}…$/);
  });
});

test("a FAT whose table would take gigabytes is refused", () => {
  const image = path();
  writeFileSync(image, "");
  truncateSync(image, 2 ** 40);
  run("mkfs.vfat", "-F", "32", "-s", "64", image);

  expect(() => new Fat(fileMedium(image))).toThrow(/^FAT: a table of \d+ bytes$/);
});

test("a disk is read no further than a bound says, in all", () => {
  const medium = metered({ size: 100, read: (_, length) => new Uint8Array(length) }, 150);
  medium.read(0, 100);

  expect(() => medium.read(0, 51)).toThrow("more than 150 bytes are to be read of the disk");
});

describe("an image that is cut short", () => {
  /** Made once: sgdisk sleeps for a second. */
  let whole: string | undefined;
  test.each(["gpt", "mbr"] as const)("says so: %s", (kind) => {
    whole ??= gptImage(path(), [{ number: 1, mebibytes: 8, format: "ext4", label: "root" }]);
    const image = path();
    copyFileSync(whole, image);
    if (kind === "mbr") {
      // one entry: Linux, from where the GPT has it
      const start = new DataView(readFileSync(image).buffer).getUint32(1024 + 32, true);
      const sector = new DataView(new ArrayBuffer(512));
      sector.setUint8(450, 0x83);
      sector.setUint32(454, start, true);
      sector.setUint32(458, 8 * 2048, true);
      sector.setUint16(510, 0xaa55, true);
      overwrite(image, 0, new Uint8Array(sector.buffer));
    }
    truncateSync(image, 4 * 2 ** 20);
    const medium = fileMedium(image);
    // the copy of a GPT is gone with the end: the first counts
    expect(Volumes.of(medium).shown).toBe(
      `${kind.toUpperCase()}: partition 1: ends behind the end of the disk; is the image cut short?`,
    );
  });
});
