/** What Debian's own grub-mkconfig generates, booted. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { bootSetupOf } from "../../../src/firmware/disk/boot-disk.ts";
import { disk } from "./trees.ts";

const uuid = "8a7c1f0e-3a0d-4a63-9a5e-1f2b3c4d5e6f";
/** `./dev test` makes it, as root, by `grub-mkconfig.sh`. */
const config = join(import.meta.dir, "../../../.cache/images/grub-mkconfig/grub.cfg");

test.skipIf(!existsSync(config))(
  "every entry of grub-mkconfig's menu loads the kernel that it names",
  () => {
    const versions = ["6.1.0-31-cloud-amd64", "6.1.0-28-cloud-amd64"];
    const files = Object.fromEntries(
      versions.flatMap((version) => [
        [`/boot/vmlinuz-${version}`, "k"],
        [`/boot/initrd.img-${version}`, "i"],
      ]),
    );
    const volumes = disk({
      ...{ number: 1, uuid },
      files: { ...files, "/boot/grub/grub.cfg": readFileSync(config, "utf8") },
    });
    const booted = (entry?: string) => {
      const { title, kernel, initrds, cmdline } = bootSetupOf(volumes, entry);
      return [
        title,
        kernel.path,
        initrds.map(({ path }) => path).join(),
        cmdline.split(" ").at(-1),
      ];
    };
    const advanced = "Advanced options for Debian GNU/Linux";
    const row = (title: string, version: string, last: string) => [
      ...[title, `/boot/vmlinuz-${version}`, `/boot/initrd.img-${version}`, last],
    ];

    expect(booted()).toEqual(row("Debian GNU/Linux", versions[0]!, "quiet"));
    for (const [i, version] of versions.entries()) {
      const title = `${advanced}>Debian GNU/Linux, with Linux ${version}`;
      expect(booted(`1>${i * 2}`)).toEqual(row(title, version, "quiet"));
      expect(booted(`gnulinux-${version}-recovery-${uuid}`)).toEqual(
        row(`${title} (recovery mode)`, version, "console=ttyS0,115200"),
      );
    }
  },
);
