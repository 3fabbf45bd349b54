import { describe, expect } from "bun:test";
import { readdirSync } from "node:fs";
import { cache } from "../lab/paths.ts";
import { guestTest, shared } from "./guest.ts";
import { writeInitramfs } from "./initramfs/build.ts";

/** What the cloud kernel has as a module and a disk needs. */
function withDiskModules(): string {
  const modules = `${cache}/kernels/6.12-cloud/modules`;
  const names = readdirSync(modules, { recursive: true, encoding: "utf8" });
  const wanted = names.filter((name) => /\/virtio_blk\.ko$/.test(name));
  const file = `${cache}/e2e/disk.cpio`;
  writeInitramfs(file, { modules: wanted.map((name) => `${modules}/${name}`) });
  return file;
}

const mebibyte = 1024 * 1024;
/** Four MiB that both sides can make: the same 32 bytes over and over. */
const pattern = "yes 0123456789abcdef0123456789abcde | head -c 4194304";

/** Two disks and a reboot in between: the guest writes, boots again, and reads. */
const disks = shared("disks", () => ({
  initramfs: withDiskModules(),
  run: [
    "load virtio_blk",
    "boot=$(dd if=/dev/vda bs=512 skip=16383 count=1 2>/dev/null | head -c 6)",
    'if [ "$boot" != second ]; then',
    `  ${pattern} | dd of=/dev/vda bs=64k 2>/dev/null`,
    "  printf second | dd of=/dev/vda bs=512 seek=16383 conv=notrunc 2>/dev/null",
    "  sync; reboot -f",
    "fi",
    "echo size $(cat /sys/block/vda/size) serial $(cat /sys/block/vda/serial)",
    "echo readonly $(cat /sys/block/vda/ro) $(cat /sys/block/vdb/ro)",
    "echo written $(head -c 4194304 /dev/vda | sha256sum)",
    "echo first $(head -c 11 /dev/vdb)",
    "echo refused $(dd if=/dev/zero of=/dev/vdb bs=512 count=1 2>&1 | grep -ci 'not permitted')",
    "grep virtio /proc/interrupts",
    "dd if=/dev/zero of=/dev/vda bs=512 seek=16384 count=1 2>&1 | grep -o 'No space left'",
  ].join("\n"),
  before: "truncate -s 8M one; printf 'second disk' >two; truncate -s 1M two",
  more: ["--disk", "path=one,serial=first,id=root", "path=two,readonly=on"],
  after:
    "sha256sum one >sum; tail -c 512 one | head -c 6 >mark; head -c 4194304 one | sha256sum >whole; rm one two",
}));

const expectedPattern = (() => {
  const line = "0123456789abcdef0123456789abcde\n";
  const text = line.repeat((4 * mebibyte) / line.length);
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
})();

describe("disks on virtio-blk", () => {
  guestTest("size and serial are those given", async () => {
    expect((await disks()).stdout).toContain(`size ${(8 * mebibyte) / 512} serial first`);
  });

  guestTest("what was written is there after a reboot, and in the file", async () => {
    const { stdout, events, files } = await disks();
    expect(events).toContain("vm/reset");
    expect(stdout).toContain(`written ${expectedPattern}`);
    expect(files.whole).toStartWith(expectedPattern);
    expect(files.mark).toBe("second");
  });

  guestTest("the second disk is the second, and read-only", async () => {
    const { stdout } = await disks();
    expect(stdout).toContain("readonly 0 1");
    expect(stdout).toContain("first second disk");
    expect(stdout).toContain("refused 1");
  });

  guestTest("each has its vectors, by MSI-X", async () => {
    const lines = (await disks()).stdout.match(/PCI-MSIX?-\S+ +\d-edge +virtio\d-\S+/g) ?? [];
    expect(lines.map((line) => line.split(/\s+/).at(-1))).toEqual([
      "virtio0-config",
      "virtio0-req.0",
      "virtio1-config",
      "virtio1-req.0",
    ]);
  });

  guestTest("the end of the disk is the end", async () => {
    expect((await disks()).stdout).toContain("No space left");
  });

  guestTest("power-off is exit 0", async () => {
    const { code, events } = await disks();
    expect(code).toBe(0);
    expect(events.slice(-2)).toEqual(["vm/poweroff", "vmm/exit"]);
  });
});
