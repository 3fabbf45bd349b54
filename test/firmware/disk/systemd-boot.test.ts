/** Entries of the Boot Loader Specification, systemd-boot's choice among them, and unified kernel images. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { readBlsEntry, sortBlsEntries } from "../../../src/firmware/disk/bls.ts";
import { bootSetupOf, rootOf } from "../../../src/firmware/disk/boot-disk.ts";
import { joined, NoBootSetup } from "../../../src/firmware/disk/boot-setup.ts";
import { DiskError } from "../../../src/firmware/disk/medium.ts";
import { peSections } from "../../../src/firmware/disk/pe.ts";
import { matches } from "../../../src/firmware/disk/systemd-boot.ts";
import { compareVersions } from "../../../src/firmware/disk/versions.ts";
import { disk, esp, xbootldr } from "./trees.ts";

const utf8 = (text: string) => new TextEncoder().encode(text);
const text = (file: { read(): Uint8Array }) => new TextDecoder().decode(file.read());

/** Rows of UAPI.10, "Examples", and of what it says in words. */
test.each<[string, "<" | ">" | "=", string]>([
  ["11", "=", "11"],
  ["systemd-123", "=", "systemd-123"],
  ["bar-123", "<", "foo-123"],
  ["123a", ">", "123"],
  ["123.a", ">", "123"],
  ["123.a", "<", "123.b"],
  ["123a", ">", "123.a"],
  ["11\u03b1", "=", "11\u03b2"],
  ["A", "<", "a"],
  ["", "<", "0"],
  ["0.", ">", "0"],
  ["0.0", ">", "0"],
  ["0", ">", "~"],
  ["", ">", "~"],
  ["1_2_3", "=", "1_2_3"],
  ["6.10.0", ">", "6.9.12"],
  ["6.1.0~rc1", "<", "6.1.0"],
  ["007", "=", "7"],
])("%s %s %s", (a, sign, b) => {
  const order = { "<": -1, "=": 0, ">": 1 }[sign];
  expect(Math.sign(compareVersions(a, b))).toBe(order);
  expect(Math.sign(compareVersions(b, a))).toBe(order === 0 ? 0 : -order);
});

test("versions of any letters are ordered, in the end", () => {
  const version = fc.stringMatching(/^[a1.~^_-]{0,8}$/);
  fc.assert(
    fc.property(version, version, (a, b) => {
      expect(Math.sign(compareVersions(a, b)) + Math.sign(compareVersions(b, a))).toBe(0);
    }),
    { numRuns: 500 },
  );
});

test("an entry's keys, comments and counters", () => {
  const entry = readBlsEntry(
    "arch+0-3.conf",
    "# a comment\ntitle  Arch Linux \nversion 6.9\nsort-key arch\nmachine-id m\nlinux /vmlinuz\n" +
      "initrd /ucode.img\ninitrd /initrd.img\noptions root=LABEL=r\noptions quiet\n",
  );

  expect(entry).toEqual({
    ...{ id: "arch", title: "Arch Linux", version: "6.9", sortKey: "arch", machineId: "m" },
    ...{ linux: "/vmlinuz", efi: undefined, initrds: ["/ucode.img", "/initrd.img"] },
    ...{ options: "root=LABEL=r quiet", failed: true },
  });
});

test("sort keys, then newest versions; names where there are no keys; what has failed is last", () => {
  const entry = (name: string, lines = "") => readBlsEntry(`${name}.conf`, lines);
  const sorted = sortBlsEntries([
    entry("a-1"),
    entry("a-2"),
    entry("z", "sort-key b\nversion 1"),
    entry("y", "sort-key b\nversion 10"),
    entry("f+0", "sort-key a"),
    entry("x", "sort-key a\nversion 3"),
  ]);

  expect(sorted.map(({ id }) => id)).toEqual(["x", "y", "z", "a-2", "a-1", "f"]);
});

test.each<[string, string, boolean]>([
  ["arch-6.9.conf", "arch-*", true],
  ["arch-6.9.conf", "ARCH-?.9.conf", true],
  ["arch-6.9.conf", "*.efi", false],
  ["arch-6.9.conf", "arch-6.9.conf", true],
  ["a".repeat(50), `${"a*".repeat(25)}b`, false],
])("%s matches %s: %p", (name, pattern, result) => {
  expect(matches(name, pattern)).toBe(result);
});

/** A PE file with these sections: header at 64, no optional header, each section at a multiple of 512. */
function pe(sections: Record<string, string>): Uint8Array {
  const names = Object.keys(sections);
  const size = 512 * (1 + names.length * 2);
  const file = new Uint8Array(size);
  const view = new DataView(file.buffer);
  file.set(utf8("MZ"));
  view.setUint32(0x3c, 64, true);
  file.set(utf8("PE\0\0"), 64);
  view.setUint16(70, names.length, true);
  for (const [i, name] of names.entries()) {
    const at = 88 + i * 40;
    const content = utf8(sections[name]!);
    file.set(utf8(name), at);
    view.setUint32(at + 8, content.length, true);
    view.setUint32(at + 16, 512, true);
    view.setUint32(at + 20, 512 * (1 + i), true);
    file.set(content, 512 * (1 + i));
  }
  return file;
}

const uki = pe({
  ".osrel": 'ID=x\nPRETTY_NAME="Some Linux 1"\n',
  ".cmdline": "root=PARTUUID=p quiet\0",
  ".ucode": "UC",
  ".initrd": "INITRD",
  ".linux": "KERNEL",
});

const entries = {
  "/loader/loader.conf": "timeout 3\ndefault old*\n",
  "/loader/entries/new.conf":
    "title New\nversion 2\nsort-key x\nlinux /v2\ninitrd /i2\noptions a=2",
  "/loader/entries/old.conf": "title Old\nversion 1\nsort-key x\nlinux /V1\noptions a=1",
  "/v2": "K2",
  "/v1": "K1",
  "/i2": "I2",
};
const uefi = (files: Record<string, string | Uint8Array>) =>
  ({ number: 1, type: "vfat", uuid: "A", gptType: esp, files }) as const;

describe("systemd-boot", () => {
  test("the default of loader.conf, a pattern", () => {
    expect(bootSetupOf(disk(uefi(entries)))).toMatchObject({
      ...{ loader: "systemd-boot", title: "Old", cmdline: "a=1", initrds: [], notes: [] },
      config: "/loader/entries/old.conf of partition 1 (vfat)",
    });
  });

  test("without one, or with one that is not there, the first", () => {
    const { "/loader/loader.conf": _, ...rest } = entries;
    expect(bootSetupOf(disk(uefi(rest))).title).toBe("New");
    const gone = { ...rest, "/loader/loader.conf": "default gone" };
    const setup = bootSetupOf(disk(uefi(gone)));
    expect(setup.title).toBe("New");
    expect(setup.notes[0]).toContain("loader.conf names the default gone");
  });

  test.each(["new", "new.conf", "New", "0"])("another by %s", (wanted) => {
    const setup = bootSetupOf(disk(uefi(entries)), wanted);
    expect([setup.title, text(setup.kernel), setup.initrds.map(text)]).toEqual([
      "New",
      "K2",
      ["I2"],
    ]);
    expect(() => bootSetupOf(disk(uefi(entries)), "none")).toThrow(
      'no boot entry "none"; there are new.conf, old.conf',
    );
  });

  test("entries on the extended boot loader partition, by the ESP's loader.conf", () => {
    const { "/loader/loader.conf": loader, ...rest } = entries;
    // not a FAT: the case of names counts
    const files = { ...rest, "/V1": "K1" };
    const boot = { number: 2, gptType: xbootldr, uuid: "B", files } as const;
    const setup = bootSetupOf(disk(uefi({ "/loader/loader.conf": loader }), boot));
    expect([setup.title, setup.kernel.place]).toEqual(["Old", "partition 2"]);
  });

  test("a kernel or an initramfs that is not there is an error that says where it was looked for", () => {
    const broken = { "/loader/entries/a.conf": "linux /none" };
    expect(() => bootSetupOf(disk(uefi(broken)))).toThrow(
      "/loader/entries/a.conf of partition 1 (vfat): no /none on partition 1 (vfat)",
    );
  });
});

describe("a unified kernel image", () => {
  test.each(["/EFI/Linux/some.efi", "/EFI/BOOT/BOOTX64.EFI"])("%s", (path) => {
    const setup = bootSetupOf(disk(uefi({ [path]: uki })));
    expect(setup).toMatchObject({
      ...{ loader: "UKI", title: "Some Linux 1", cmdline: "root=PARTUUID=p quiet" },
    });
    expect(text(setup.kernel)).toBe("KERNEL");
    // each archive begins at a multiple of four bytes
    const archive = joined(setup.initrds.map((file) => file.read()));
    expect(new TextDecoder().decode(archive)).toBe("UC\0\0INITRD\0\0");
  });

  test("named by an entry, whose options count", () => {
    const files = { "/loader/entries/u.conf": "efi /u.efi\noptions b=2", "/u.efi": uki };
    expect(bootSetupOf(disk(uefi(files))).cmdline).toBe("b=2");
  });

  test("broken ones are errors", () => {
    expect(() => bootSetupOf(disk(uefi({ "/EFI/Linux/a.efi": uki.subarray(0, 1000) })))).toThrow(
      DiskError,
    );
    expect(() => bootSetupOf(disk(uefi({ "/EFI/Linux/a.efi": "no PE" })))).toThrow(
      "no unified kernel image",
    );
    fc.assert(
      fc.property(fc.nat(199), fc.nat(255), fc.nat(uki.length), (at, value, length) => {
        const bytes = uki.slice(0, length);
        if (at < length) bytes[at] = value;
        try {
          peSections(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(DiskError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

test("a disk without any says what is on it and what was looked for", () => {
  const empty = disk({ number: 1, label: "data", files: { "/etc/passwd": "" } });
  expect(() => bootSetupOf(empty)).toThrow(
    new NoBootSetup(
      'no boot set-up on GPT: partition 1 (ext4 "data"): looked for /boot/grub/grub.cfg, ' +
        "/boot/grub2/grub.cfg, /grub/grub.cfg, /grub2/grub.cfg, /loader/entries, /EFI/*/grub.cfg, /EFI/Linux",
    ),
  );
});

test.each<[string, string | undefined]>([
  ["root=/dev/vda1 ro", "/dev/vda1"],
  ["a root=LABEL=x root=UUID=y", "UUID=y"],
  ['root="LABEL=a b" c', "LABEL=a b"],
  ["noroot=1 -- root=2", undefined],
])("the root of %j is %p", (cmdline, root) => {
  expect(rootOf(cmdline)).toBe(root);
});
