/** Linux from the disk alone, on each layout of Ubuntu's: its GRUB names kernel and initramfs, which mount its root. */
import { describe, expect } from "bun:test";
import type { ImageFormat } from "../images/disk.ts";
import { ids, type LayoutName, layoutNames } from "../images/layouts.ts";
import { smallVersion, writeSmall } from "../images/small.ts";
import { cache, kernelFile } from "../lab/paths.ts";
import { type GuestRun, guestTest, shared } from "./guest.ts";
import { writeInitramfs } from "./initramfs/build.ts";
import { kernelModules } from "./initramfs/modules.ts";

const modules = [
  "virtio_blk",
  "fat",
  "vfat",
  "nls_cp437",
  "nls_ascii",
  "nls_ucs2_utils",
  "nls_utf8",
];

/** What an initramfs does: the root of the command line, and all that its fstab names. */
const mountRoot = `
  load ${modules.join(" ")}
  part_uuid() { # as a GPT of the disk has it: entries of 128 bytes from sector 2 on, a GUID at their byte 16
    dd if=/dev/vda bs=16 skip=$((64 + ($1 - 1) * 8 + 1)) count=1 2>/dev/null | hexdump -v -e '/1 "%02x "' |
      awk '{ print $4$3$2$1"-"$6$5"-"$8$7"-"$9$10"-"$11$12$13$14$15$16 }'
  }
  device_of() {
    case $1 in
    PARTUUID=*)
      for number in $(cat /sys/class/block/vda*/partition); do
        [ $(part_uuid $number) != \${1#*=} ] || device=/dev/vda$number
      done
      ;;
    *) device=$(findfs $1) ;;
    esac
  }
  for word in $(cat /proc/cmdline); do
    case $word in root=*) device_of \${word#root=} ;; esac
  done
  mount -t ext4 -o ro $device /mnt
  while read spec folder type options; do
    [ $folder = / ] || { device_of $spec; mount -t $type -o ro $device /mnt$folder; }
  done </mnt/etc/fstab
  echo "layout $(cat /mnt/etc/layout)"
  grep -o '^/dev/vd[^ ]* [^ ]* [^ ]*' /proc/mounts | sed 's/^/mounted /'
  echo "folder $(ls /mnt/boot | tr '\\n' ' ')"
  echo "esp $(ls /mnt/boot/efi/EFI | tr '\\n' ' ')"
  echo "words $(cat /proc/cmdline)"
  poweroff -f
`;

function initramfsFile(): string {
  const file = `${cache}/e2e/layouts.cpio`;
  writeInitramfs(file, { files: { "run.sh": mountRoot }, modules: kernelModules(modules) });
  return file;
}

const boot = (name: LayoutName, format: ImageFormat) =>
  shared(`layout-${name}`, () => {
    const image = `${cache}/e2e/layout-${name}.img`;
    writeSmall(image, name, {
      ...{ kernel: kernelFile("6.12-cloud", "vmlinuz"), initramfs: initramfsFile(), format },
      files: { "etc/layout": `${name}\n` },
    });
    return { image, words: "quiet" };
  });

/** Ubuntu's are qcow2, by zlib, which an emulated processor is slow at: one of each kind will do. */
const boots: Record<LayoutName, () => Promise<GuestRun>> = {
  "18.04": boot("18.04", "raw"),
  "19.10": boot("19.10", "zstd"),
  "22.04": boot("22.04", "zlib"),
  "24.04": boot("24.04", "zstd"),
};

const oneRoot = ["/dev/vda1 /mnt ext4", "/dev/vda15 /mnt/boot/efi vfat"];
const expected: Record<LayoutName, { mounted: string[]; kernel: string; root: string }> = {
  "18.04": { mounted: oneRoot, kernel: "/boot", root: "LABEL=cloudimg-rootfs" },
  "19.10": { mounted: oneRoot, kernel: "/boot", root: `PARTUUID=${ids.rootPartUuid}` },
  "22.04": { mounted: oneRoot, kernel: "/boot", root: "LABEL=cloudimg-rootfs" },
  "24.04": {
    mounted: [oneRoot[0]!, "/dev/vda16 /mnt/boot ext4", oneRoot[1]!],
    ...{ kernel: "", root: "LABEL=cloudimg-rootfs" },
  },
};

describe.each(layoutNames)("the layout of Ubuntu %s", (name) => {
  const { mounted, kernel, root } = expected[name];
  const said = async (what: string) =>
    [...(await boots[name]()).stdout.matchAll(new RegExp(`^${what} (.*)$`, "gm"))].map(
      ([, text = ""]) => text.trim(),
    );

  guestTest("boots its newest kernel with the words of its own menu", async () => {
    const [words = ""] = await said("words");
    expect(words).toStartWith(
      `BOOT_IMAGE=${kernel}/vmlinuz-${smallVersion} root=${root} ro console=tty1 console=ttyS0 vt.handoff=7 `,
    );
    expect(words).toEndWith(" quiet");
    expect(words).not.toContain("panic"); // of the try without an initramfs
  });

  guestTest("its root is there, and all that its fstab names", async () => {
    expect(await said("mounted")).toEqual(mounted);
    expect(await said("layout")).toEqual([name]);
    expect((await said("folder"))[0]).toStartWith("efi grub initrd.img-");
    expect(await said("esp")).toEqual(["BOOT ubuntu"]);
  });

  guestTest("power-off is exit 0, and chv has no complaint", async () => {
    const { code, events, stderr } = await boots[name]();
    expect([code, stderr]).toEqual([0, ""]);
    expect(events.slice(-2)).toEqual(["vm/poweroff", "vmm/exit"]);
  });
});
