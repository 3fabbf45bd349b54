/** What is refused when a qcow2 image is opened, and which files are opened below it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { ImageError } from "../../../src/devices/images/image-error.ts";
import { readHeader } from "../../../src/devices/images/qcow2/header.ts";
import { Rig, type RigOptions } from "./qcow2-rig.ts";
import { qemuImg as run } from "./qcow2-scenarios.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-qcow2-open-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);
const qemuImg = (...args: string[]) => run(folder, ...args);

/** Opens an image, and says how that ends. */
function opening(path: string, options: RigOptions = {}): string {
  try {
    new Rig(path, options).close();
    return "opened";
  } catch (error) {
    expect(error).toBeInstanceOf(ImageError);
    expect((error as Error).message).toMatch(/^[\x20-\x7e]+; [a-z=A-Z\x20-\x7e]+$/);
    return (error as Error).message;
  }
}

let plain: Uint8Array;
beforeAll(() => {
  qemuImg("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "plain", "1M");
  plain = new Uint8Array(readFileSync(at("plain")));
});

/** The plain image with some of its bytes changed: offset, width in bytes, value. */
function changed(...changes: readonly (readonly [number, number, number | bigint])[]): string {
  const bytes = plain.slice();
  const view = new DataView(bytes.buffer);
  for (const [offset, width, value] of changes) {
    if (width === 8) view.setBigUint64(offset, BigInt(value));
    else if (width === 4) view.setUint32(offset, Number(value));
    else view.setUint8(offset, Number(value));
  }
  writeFileSync(at("changed"), bytes);
  return at("changed");
}

// offsets: docs/interop/qcow2.rst, "Header"; the plain image has its refcount table at 0x1000, its L1 table at 0x3000
const repair = "repair it with qemu-img check -r all";
const convert = "which chv does not serve; convert it with qemu-img convert";
test.each<[string, (readonly [number, number, number | bigint])[], string]>([
  ["version 4", [[4, 4, 4]], `a qcow2 image of version 4, ${convert}`],
  ["clusters of 256 bytes", [[20, 4, 8]], "cluster_bits is 8, not 9 to 21"],
  ["clusters of 4 MiB", [[20, 4, 22]], "cluster_bits is 22, not 9 to 21"],
  ["AES", [[32, 4, 1]], `an encrypted qcow2 image (AES), ${convert}`],
  ["LUKS", [[32, 4, 2]], `an encrypted qcow2 image (LUKS), ${convert}`],
  ["another cipher", [[32, 4, 9]], "an encrypted qcow2 image (method 9)"],
  ["a data file", [[80 - 1, 1, 4]], `a qcow2 image with an external data file, ${convert}`],
  ["subclusters", [[80 - 1, 1, 16]], "with extended L2 entries (subclusters)"],
  [
    "a feature that has a name",
    [
      [80 - 1, 1, 32],
      [112, 4, 0x6803f857],
      [116, 4, 48],
      [121, 1, 5],
      [122, 1, 0x4e],
    ],
    'with "N"',
  ],
  ["a feature without one", [[72, 8, 1n << 63n]], "with incompatible feature 63"],
  ["a compression without its bit", [[104, 1, 1]], "compression type 1 and its feature bit"],
  ["a bit without a compression", [[80 - 1, 1, 8]], "compression type 0 and its feature bit"],
  [
    "an unknown compression",
    [
      [80 - 1, 1, 8],
      [104, 1, 7],
    ],
    "with compression type 7",
  ],
  ["an odd header length", [[100, 4, 108]], "header_length is 108"],
  ["a short header length", [[100, 4, 96]], "header_length is 96"],
  ["refcounts of 128 bits", [[96, 4, 7]], "refcount_order is 7"],
  ["8 EiB", [[24, 8, 1n << 63n]], "a disk of more than 4 PiB"],
  ["too few L1 entries", [[36, 4, 0]], "its L1 table is too small"],
  ["too many L1 entries", [[36, 4, 0x40_0001]], "an L1 table of 4194305 entries"],
  ["an L1 table off its cluster", [[40, 8, 0x3200]], "its L1 table lies outside"],
  ["an L1 table behind the end", [[40, 8, 1n << 40n]], "its L1 table lies outside"],
  ["an L1 table on the header", [[40, 8, 0]], "its L1 table lies outside"],
  ["no refcount table", [[56, 4, 0]], "it has no refcount table"],
  ["a huge refcount table", [[56, 4, 0x801]], "a refcount table of 2049 clusters"],
  ["a refcount table behind the end", [[48, 8, 1n << 50n]], "its refcount table lies outside"],
  ["an extension without an end", [[112, 8, 0x1234_ffff_0000n]], "a header extension ends outside"],
  [
    "a far backing name",
    [
      [8, 8, 4000],
      [16, 4, 200],
    ],
    "its backing file's name lies outside",
  ],
  [
    "a long backing name",
    [
      [8, 8, 600],
      [16, 4, 1024],
    ],
    "its backing file's name lies outside",
  ],
  ["tables on each other", [[40, 8, 0x1000]], `its tables lie on each other; ${repair}`],
  ["an L2 table on the header's", [[0x3000, 8, (1n << 63n) + 0x1000n]], "lie on each other"],
  ["an L2 table behind the end", [[0x3000, 8, (1n << 63n) + 0x10_0000n]], "lie on each other"],
  ["a reserved bit in L1", [[0x3000, 8, (1n << 56n) + 0x2000n]], "lie on each other"],
  ["a dirty image", [[80 - 1, 1, 1]], `that was not closed, so refcounts may be wrong; ${repair}`],
  ["a corrupt image", [[80 - 1, 1, 2]], `a qcow2 image that is marked corrupt; ${repair}`],
])("%s is refused in one line", (_name, changes, why) => {
  expect(opening(changed(...changes))).toContain(why);
});

test("a file that ends within its header, or is none, is refused", () => {
  writeFileSync(at("short"), plain.subarray(0, 71));
  expect(opening(at("short"))).toContain("it ends within its header");
  writeFileSync(at("none"), "#!/bin/sh\n".repeat(20));
  expect(opening(at("none"))).toContain("no qcow2 image");
});

test("what is dirty or marked corrupt can still be read", () => {
  expect(opening(changed([80 - 1, 1, 3]), { readonly: true })).toBe("opened");
  using rig = new Rig(changed([80 - 1, 1, 3]), { readonly: true });
  expect(rig.spec.write).toBeUndefined();
});

test("compatible and auto-clear features do not matter, nor do extensions that nobody knows", () => {
  const path = changed([80, 8, -1n & 0xffff_ffff_ffff_ffffn], [88, 8, 1n << 62n], [112, 4, 0x1234]);
  expect(opening(path)).toBe("opened");
});

test("any header is read or refused", () => {
  const bytes = fc.tuple(fc.nat(127), fc.constantFrom(0, 1, 2, 9, 12, 21, 63, 127, 128, 255));
  fc.assert(
    fc.property(fc.array(bytes, { minLength: 1, maxLength: 12 }), (changes) => {
      const image = plain.slice();
      for (const [offset, value] of changes) image[offset] = value;
      const read = (offset: number, length: number) => {
        const part = new Uint8Array(length);
        part.set(image.subarray(offset, offset + length));
        return part;
      };
      try {
        const header = readHeader(read, image.length);
        expect(header.clusterBits).toBeGreaterThanOrEqual(9);
        expect(header.l1Offset + header.l1Entries * 8).toBeLessThanOrEqual(image.length);
      } catch (error) {
        expect(error).toBeInstanceOf(ImageError);
      }
    }),
    { numRuns: 300 },
  );
});

describe("backing files", () => {
  const home = process.cwd();
  beforeAll(() => {
    mkdirSync(at("inner"));
    writeFileSync(at("inner/base"), new Uint8Array(65536).fill(7));
    qemuImg("create", "-q", "-f", "qcow2", "-b", "inner/base", "-F", "raw", "over", "64k");
    // from elsewhere the name is found all the same: it is relative to the image
    process.chdir(tmpdir());
  });
  afterAll(() => process.chdir(home)); // files that are tested next have names relative to it
  const over = (name: string, format: string | undefined, file = "named") => {
    const bytes = new Uint8Array(readFileSync(at("over")));
    const view = new DataView(bytes.buffer);
    // the format is the first extension, at 112; another type is an extension that nobody knows
    expect(view.getUint32(112)).toBe(0xe2792aca);
    if (format === undefined) view.setUint32(112, 0x5555_5555);
    else {
      view.setUint32(116, format.length);
      bytes.set(new TextEncoder().encode(format.padEnd(8, "\0")), 120);
    }
    const text = new TextEncoder().encode(name);
    view.setBigUint64(8, 2000n);
    view.setUint32(16, text.length);
    bytes.set(text, 2000);
    writeFileSync(at(file), bytes);
    return at(file);
  };

  test("are opened by name, relative to the image, or absolute", () => {
    for (const name of ["inner/base", at("inner/base"), `file:${at("inner/base")}`]) {
      using rig = new Rig(over(name, "raw"));
      expect(rig.read(512, 512)).toEqual(new Uint8Array(512).fill(7));
    }
  });

  test("have the format that the image says, or is found", () => {
    copyFileSync(at("plain"), at("inner/plain"));
    const layers = (path: string) => {
      using rig = new Rig(path);
      return rig.spec.layers.map(({ tables }) => (tables ? "qcow2" : "raw"));
    };
    expect(layers(over("inner/plain", "qcow2"))).toEqual(["qcow2", "qcow2"]);
    expect(layers(over("inner/plain", "raw"))).toEqual(["qcow2", "raw"]);
    expect(layers(over("inner/plain", undefined))).toEqual(["qcow2", "qcow2"]);
    expect(layers(over("inner/base", undefined))).toEqual(["qcow2", "raw"]);
    expect(opening(over("inner/base", "vmdk"))).toContain("inner/base: vmdk, which chv does not");
  });

  test.each([
    ["not allowed", "inner/base", "its backing file inner/base is not allowed; allow it with"],
    ["not there", "nowhere", "/nowhere: no such file or directory; put it there, readable"],
    ["a folder", "inner", "inner: neither a file nor a block device"],
    ["a device", "/dev/null", "/dev/null: neither a file nor a block device"],
    ["behind a protocol", "nbd://host/disk", "its backing file nbd://host/disk is no file"],
    ["an option list", 'json:{"driver":"raw"}', 'json:{"driver":"raw"} is no file'],
    ["cut short", "inner/b\0ase", "its backing file inner/b?ase is no file"],
    ["the image itself", "named", "named: it is part of the chain already"],
  ])("are refused where they are %s", (why, name, text) => {
    expect(opening(over(name, "raw"), { backing: why !== "not allowed" })).toContain(text);
  });

  test("that come round in a circle are refused", () => {
    over("two", "qcow2", "one");
    over("three", "qcow2", "two");
    over("one", "qcow2", "three");
    expect(opening(at("one"))).toContain("one: it is part of the chain already");
    over("one", "qcow2", "above"); // a circle that it is not in
    expect(opening(at("above"))).toContain("one: it is part of the chain already");
  });

  test("are named from where the image is that names them", () => {
    const middle = over("base", "raw");
    copyFileSync(middle, at("inner/middle"));
    using rig = new Rig(over("inner/middle", "qcow2"));
    expect(rig.read(512, 512)).toEqual(new Uint8Array(512).fill(7));
  });

  test("are 31 at most", () => {
    for (let i = 0; i < 33; i++)
      over(i === 0 ? "inner/base" : `n${i - 1}`, i ? "qcow2" : "raw", `n${i}`);
    expect(opening(at("n30"))).toBe("opened");
    expect(opening(at("n31"))).toContain("more than 31 backing files; join them with");
  });

  test("that are broken are named", () => {
    writeFileSync(at("inner/broken"), "QFI\xfb\0\0\0\x05", "latin1");
    expect(opening(over("inner/broken", "qcow2"))).toContain("inner/broken: a broken qcow2 image");
  });
});
