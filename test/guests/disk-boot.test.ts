/** chv boots what an image names: guests of this folder as kernels, on the layouts of clouds' images. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stub, ubuntuConfig } from "../firmware/disk/ubuntu.ts";
import { gptImage, type PartitionOf, run } from "../machine/disk-boot/images.ts";
import { ApiProcess } from "./api.ts";
import { buildGuest } from "./build.ts";
import { chvCommand, guestTimeoutMs } from "./harness.ts";
import { type Ended, Follower } from "./process.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-disk-boot-"));
afterAll(() => rmSync(folder, { recursive: true }));

const [newest, older] = ["6.8.0-31-generic", "6.8.0-22-generic"];
const title = (version: string) => `Ubuntu, with Linux ${version}`;
const guests = (name: string, run: () => Promise<void>) => test(name, run, guestTimeoutMs);

async function chv(...args: string[]): Promise<Ended> {
  const running = new Follower(
    [...(await chvCommand()), "--memory", "size=64M", ...args],
    guestTimeoutMs,
  );
  await running.endInput();
  return running.ended();
}

/** The lines that the guest said. */
const said = ({ stdout }: Ended) => stdout.trim().split(/\r?\n/);
const cmdline = (boot: string, root: string, more = "") =>
  `cmdline BOOT_IMAGE=${boot}/vmlinuz-${newest} root=${root} ro console=tty1 console=ttyS0${more}`;

/** UUIDs are those of mke2fs: GRUB's configuration is written when they are known. */
const bios: PartitionOf = { number: 14, type: "ef02", mebibytes: 4 };
const esp = (files: PartitionOf["files"] = {}): PartitionOf => ({
  ...{ number: 15, type: "ef00", mebibytes: 2, format: "vfat", label: "UEFI" },
  files: { "/EFI/BOOT/BOOTX64.EFI": "MZ", ...files },
});
const byLabel = (config: string, label: string) =>
  config.replace(
    /search --no-floppy --fs-uuid .*/g,
    `search --no-floppy --label --set=root ${label}`,
  );

let files: Record<string, Uint8Array | string>;
let oneRoot: string;
let ownBoot: string;

beforeAll(async () => {
  const kernel = readFileSync(await buildGuest("loaded"));
  files = Object.fromEntries(
    [newest, older].flatMap((version) => [
      [`/vmlinuz-${version}`, kernel],
      [`/initrd.img-${version}`, `of ${version}`],
    ]),
  );
  const under = (top: string) =>
    Object.fromEntries(Object.entries(files).map(([path, content]) => [top + path, content]));
  const options = { kernels: [newest!, older!], uuid: "none" };
  oneRoot = gptImage(join(folder, "one-root"), [
    bios,
    esp(),
    {
      ...{ number: 1, mebibytes: 4, format: "ext4", label: "cloudimg-rootfs" },
      files: {
        ...under("/boot"),
        "/boot/grub/grub.cfg": byLabel(
          ubuntuConfig({ ...options, boot: "/boot" }),
          "cloudimg-rootfs",
        ),
      },
    },
  ]);
  const boot: PartitionOf = {
    ...{ number: 16, type: "ea00", mebibytes: 4, format: "ext4", label: "BOOT" },
    files: {
      ...files,
      "/grub/grub.cfg": byLabel(ubuntuConfig({ ...options, boot: "" }), "BOOT"),
    },
  };
  const root: PartitionOf = {
    ...{ number: 1, mebibytes: 2, format: "ext4", label: "cloudimg-rootfs" },
    files: { "/etc/fstab": "LABEL=BOOT /boot ext4 defaults 0 2\n" },
  };
  const lead = stub("none", "/grub").replace("search.fs_uuid none", "search.fs_label BOOT");
  ownBoot = gptImage(join(folder, "own-boot"), [
    bios,
    esp({ "/EFI/ubuntu/grub.cfg": lead }),
    boot,
    root,
  ]);
}, guestTimeoutMs);

describe("layouts", () => {
  guests(
    "one root (18.04 to 22.04): its default entry, on the console that it names last",
    async () => {
      const before = readFileSync(oneRoot);
      const run = await chv("--disk", `path=${oneRoot}`);

      expect(said(run)).toEqual([
        cmdline("/boot", "LABEL=cloudimg-rootfs", " vt.handoff=7"),
        `initramfs of ${newest}`,
        "done",
      ]);
      expect([run.stderr, run.exitCode]).toEqual(["", 0]);
      expect(before.equals(readFileSync(oneRoot))).toBe(true);
    },
  );

  guests("/boot on a partition of its own (24.04), by way of the ESP", async () => {
    const run = await chv("--disk", `path=${ownBoot},readonly=on`, "-v");

    expect(said(run)[0]).toBe(cmdline("", "LABEL=cloudimg-rootfs", " vt.handoff=7"));
    expect(run.stderr).toContain(
      `boots "Ubuntu" of --disk ${ownBoot} (GPT: partition 1 (ext4 "cloudimg-rootfs"), partition 14 ` +
        '(nothing that chv knows), partition 15 (vfat "UEFI"), partition 16 (ext4 "BOOT")), by GRUB: ' +
        '/grub/grub.cfg of partition 16 (ext4 "BOOT")',
    );
  });

  guests("compressed, under an overlay, behind a disk that has nothing", async () => {
    const [packed, top, data] = ["packed", "top", "data"].map((name) => join(folder, name));
    run("qemu-img", "convert", "-c", "-O", "qcow2", oneRoot, packed!);
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", packed!, "-F", "qcow2", top!);
    writeFileSync(data!, new Uint8Array(2 ** 20));
    const disks = [`path=${data}`, `path=${top},backing_files=on`];

    expect(said(await chv("--disk", ...disks))).toContain(`initramfs of ${newest}`);
  });
});

describe("options", () => {
  guests("--boot-entry, --cmdline-append", async () => {
    const more = ["--boot-entry", `${title(older!)}`, "--cmdline-append", "a=1 b"];
    const [line, initramfs] = said(await chv("--disk", `path=${oneRoot}`, ...more));

    expect(line).toEndWith("console=ttyS0 vt.handoff=7 a=1 b");
    expect([line!.includes(older!), initramfs]).toEqual([true, `initramfs of ${older}`]);
  });

  guests("--cmdline and --initramfs in place of the image's", async () => {
    const initramfs = join(folder, "initramfs");
    writeFileSync(initramfs, "my own");
    const more = ["--cmdline", "console=ttyS0 mine", "--initramfs", initramfs];
    expect(said(await chv("--disk", `path=${oneRoot}`, ...more)).slice(0, 2)).toEqual([
      "cmdline console=ttyS0 mine",
      "initramfs my own",
    ]);
  });

  guests("--kernel keeps the image's root, in words that need no initramfs", async () => {
    const kernel = await buildGuest("loaded");
    const more = ["--kernel", kernel, "--disk", `path=${oneRoot}`, "--cmdline-append", "x"];
    const [line] = said(await chv(...more));

    expect(line).toMatch(
      /^cmdline root=PARTUUID=[0-9a-f-]{36} ro console=tty1 console=ttyS0 \S+ x$/,
    );
  });

  guests("a console that the command line does not name gives a warning", async () => {
    const disk = ["--disk", `path=${oneRoot}`, "--serial", "tty", "--console", "off"];
    const quiet = await chv(...disk);
    const loud = await chv(...disk, "--cmdline", "console=hvc0");

    expect(quiet.stderr).toBe("");
    expect(loud.stderr.trim().split("\n")).toHaveLength(1);
    expect(loud.stderr).toContain("--serial: the command line names no console=ttyS0");
    expect(said(loud)[0]).toBe("cmdline console=hvc0");
  });
});

describe("what cannot be booted is one line, and exit code 242", () => {
  const failure = async (path: string, ...more: string[]) => {
    const { stdout, stderr, exitCode } = await chv("--disk", `path=${path}`, ...more);
    expect([stdout, exitCode, stderr.trim().split("\n").length]).toEqual(["", 242, 1]);
    return stderr;
  };
  const withConfig = (name: string, config: string, more: PartitionOf["files"] = {}) =>
    gptImage(join(folder, name), [
      {
        ...{ number: 1, mebibytes: 2, format: "ext4", label: "r" },
        files: { "/boot/grub/grub.cfg": config, ...more },
      },
    ]);

  guests("nothing on it", async () => {
    const path = join(folder, "empty");
    writeFileSync(path, new Uint8Array(2 ** 20));
    expect(await failure(path)).toContain(`--disk ${path}: no boot set-up on the whole disk`);
  });

  guests(
    "no kernel, an unknown command, an entry that there is not, a kernel that is none",
    async () => {
      const missing = withConfig("missing", "menuentry x {\nlinux /boot/vmlinuz\n}\n");
      expect(await failure(missing)).toContain('no /boot/vmlinuz on partition 1 (ext4 "r")');
      const unknown = withConfig("unknown", "\nfrobnicate\n");
      expect(await failure(unknown)).toContain(
        '/boot/grub/grub.cfg:2: chv does not know the command "frobnicate"',
      );
      expect(await failure(oneRoot, "--boot-entry", "none")).toContain(
        'no entry "none"; there are',
      );
      const none = withConfig("none", "menuentry x {\nlinux /k root=LABEL=gone\n}\n", {
        "/k": "no kernel",
      });
      const stderr = (await chv("--disk", `path=${none}`)).stderr;
      expect(stderr).toContain("root device LABEL=gone is not on this disk");
      expect(stderr).toContain(`--disk ${none}: Kernel /k (partition 1): it is neither`);
    },
  );

  guests("--boot-entry with a kernel", async () => {
    expect(await failure(oneRoot, "--kernel", "/k", "--boot-entry", "x")).toContain(
      "--boot-entry: chooses from a disk's menu",
    );
  });
});

/** An image that boots a guest of this folder. */
const image = async (name: string, guest: string): Promise<string> =>
  gptImage(join(folder, name), [
    {
      ...{ number: 1, mebibytes: 2, format: "ext4", label: "r" },
      files: {
        "/boot/vmlinuz": readFileSync(await buildGuest(guest)),
        "/boot/grub/grub.cfg": "menuentry x {\nlinux /boot/vmlinuz console=ttyS0\n}\n",
      },
    },
  ]);

guests("through the API, without a payload: vm.info tells what was chosen", async () => {
  const path = await image("api", "talk");
  await using api = await ApiProcess.start();
  const config = { memory: { size: 64 * 2 ** 20 }, disks: [{ path }], console: { mode: "Null" } };

  expect(await api.put("vm.create", config)).toBe(204);
  expect(await api.put("vm.boot")).toBe(204);

  expect(JSON.parse((await api.ask("GET", "vm.info")).body).boot).toEqual({
    ...{ disk: path, loader: "GRUB", entry: "x", kernel: "/boot/vmlinuz (partition 1)" },
    ...{ config: '/boot/grub/grub.cfg of partition 1 (ext4 "r")', initramfs: [] },
    cmdline: "BOOT_IMAGE=/boot/vmlinuz console=ttyS0",
  });
});

guests("after a reset the disk is read anew: the guest may have a new kernel", async () => {
  const path = await image("first", "talk");
  const next = await image("next", "loaded");
  await using guest = new Follower(
    [...(await chvCommand()), "--memory", "size=64M", "--disk", `path=${path}`],
    guestTimeoutMs,
  );

  await guest.until("login:");
  writeFileSync(path, readFileSync(next));
  await guest.input("again\n");

  expect(said(await guest.ended())).toContain("cmdline BOOT_IMAGE=/boot/vmlinuz console=ttyS0");
});
