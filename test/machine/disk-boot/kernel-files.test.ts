/** Kernel and initramfs of a disk, as files that the loaders take. */
import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "valibot";
import { checkBoot } from "../../../src/machine/config/check.ts";
import { complete, VmConfigSchema } from "../../../src/machine/config/vm.ts";
import { openKernelFiles } from "../../../src/machine/disk-boot/kernel-files.ts";
import { run } from "./images.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-kernel-files-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("initramfs files of more than 512 MiB together are told of, and not read", () => {
  const [tree, image, script] = ["tree", "image", "script"].map((name) => join(folder, name));
  mkdirSync(join(tree!, "boot/grub"), { recursive: true });
  const config = "menuentry x {\nlinux /boot/k\ninitrd /boot/i /boot/i\n}\n";
  for (const [name, content] of [
    ["grub/grub.cfg", config],
    ["k", "a kernel"],
    ["i", "an initramfs"],
  ] as const) {
    writeFileSync(join(tree!, "boot", name), content);
  }
  run("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree!, image!, "8M");
  writeFileSync(script!, "set_inode_field /boot/i size 300000000\n");
  run("debugfs", "-w", "-f", script!, image!);
  const machine = checkBoot(complete(parse(VmConfigSchema, { disks: [{ path: image }] })));

  expect(() => openKernelFiles(machine)).toThrow(
    "/boot/i on the whole disk: ext4: 300000000 bytes, more than the 236870912 looked for; " +
      "repair the image, or give --kernel PATH",
  );
});
