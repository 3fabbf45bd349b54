/** A root filesystem on persistent memory, with DAX, and a balloon, in one guest. */
import { describe, expect } from "bun:test";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { cache } from "../lab/paths.ts";
import { guestTest, quote, shared } from "./guest.ts";
import { busybox, writeInitramfs } from "./initramfs/build.ts";

const modules = ["libnvdimm", "nd_virtio", "nd_btt", "nd_pmem", "virtio_pmem", "virtio_balloon"];
const imageMiB = 64;
const balloonMiB = 64;
const filledMiB = 80;

/** The first process of the initramfs: it goes over to the root on persistent memory. */
const goOver = `#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
export PATH=/bin total=$(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo)
printf '\\140' | debug-port
load ${modules.join(" ")} || poweroff -f
until [ -b /dev/pmem0 ]; do sleep 0.1; done
mount -t ext4 -o dax /dev/pmem0 /mnt || poweroff -f
mount -o move /dev /mnt/dev
umount /sys
umount /proc
exec switch_root /mnt /init
`;

/** The first process of that root. */
const onPmem = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
echo "root $(grep ' / ext4' /proc/mounts)"
echo "sectors $(cat /sys/block/pmem0/size) dax $(cat /sys/block/pmem0/queue/dax)"
echo "in e820 $(dmesg | grep -c 'BIOS-e820: .mem 0x0000000100000000')"
cat /greeting
echo 'from the guest' >/answer
sync
now() { sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo; }
while [ $((total - $(now))) -lt ${balloonMiB * 1024} ]; do sleep 0.1; done
echo "balloon $((total - $(now)))"
head -c ${filledMiB * 2 ** 20} /dev/zero >/tmp/big
echo filled
while [ ! -e /measured ]; do read -r _ && touch /measured; done
rm /tmp/big
echo freed
while :; do sleep 60; done
`;

function kernelModules(names: readonly string[]): string[] {
  const folder = `${cache}/kernels/6.12-cloud/modules`;
  const all = readdirSync(folder, { recursive: true, encoding: "utf8" });
  return names.map((name) => `${folder}/${all.find((file) => file.endsWith(`/${name}.ko`))}`);
}

function initramfs(): string {
  const file = `${cache}/e2e/pmem.cpio`;
  writeInitramfs(file, { modules: kernelModules(modules), files: { "go-over": goOver } });
  return file;
}

/** What the root's file system is made of. */
function rootFolder(): string {
  const folder = `${cache}/e2e/pmem-root`;
  for (const name of ["bin", "dev", "proc", "sys", "tmp"]) {
    mkdirSync(`${folder}/${name}`, { recursive: true });
  }
  writeFileSync(`${folder}/bin/busybox`, busybox(), { mode: 0o755 });
  writeFileSync(`${folder}/init`, onPmem, { mode: 0o755 });
  writeFileSync(`${folder}/greeting`, "from the host\n");
  return folder;
}

const guest = shared("memory", () => ({
  initramfs: initramfs(),
  words: "rdinit=/go-over",
  before: `mke2fs -q -t ext4 -b 4096 -d ${quote(rootFolder())} root ${imageMiB}M`,
  more: [
    ...["--memory", "512M", "--pmem", "file=root,id=root"],
    ...["--balloon", `size=${balloonMiB}M,free_page_reporting=on`],
  ],
  // the guest reads a line when it has filled its memory: it is measured before that
  input: "await_text full ''; echo; await_text stdout freed",
  drive: `
    await_text stdout filled && resident >full || return
    await_text stdout freed || return
    for ((tries = 0; tries < 600; tries++)); do
      resident >empty
      [ $(<empty) -gt $(($(<full) - ${filledMiB - 20} * 1024)) ] || break
      pause 0.2
    done
    kill -TERM $chv`,
  after: "debugfs -R 'cat /answer' root >answer 2>/dev/null; rm -f root",
}));

describe("a root filesystem on persistent memory", () => {
  guestTest("is mounted with DAX", async () => {
    const { stdout } = await guest();
    expect(stdout).toMatch(/^root \/dev\/pmem0 \/ ext4 \S*dax/m);
    expect(stdout).toContain(`sectors ${imageMiB * 2048} dax 1`);
  });

  guestTest("is no RAM: the e820 map does not have it", async () => {
    expect((await guest()).stdout).toContain("in e820 0");
  });

  guestTest("is the file, both ways", async () => {
    const { stdout, files } = await guest();
    expect(stdout).toContain("from the host");
    expect(files.answer).toBe("from the guest\n");
  });
});

describe("the balloon", () => {
  guestTest("takes what it was asked for from the guest", async () => {
    const [, taken] = /^balloon (\d+)$/m.exec((await guest()).stdout) ?? [];
    expect(Number(taken)).toBe(balloonMiB * 1024);
  });

  guestTest("gives free pages that are reported back to the host", async () => {
    const { files } = await guest();
    expect(Number(files.full) - Number(files.empty)).toBeGreaterThan((filledMiB - 20) * 1024);
  });
});
