/** Linux with every virtio device on virtio-mmio: found through ACPI, interrupted by pins, reset by its drivers. */
import { describe, expect } from "bun:test";
import { cache } from "../lab/paths.ts";
import { guestTest, shared } from "./guest.ts";
import { writeInitramfs } from "./initramfs/build.ts";
import { kernelModules, netModules } from "./initramfs/modules.ts";

/** In the order in which they can be inserted; the cloud kernel has the core and PCI built in. */
const modules = [
  ...["virtio_mmio", "virtio_blk", ...netModules, "virtio-rng", "virtio_balloon"],
  ...["libnvdimm", "nd_virtio", "nd_btt", "nd_pmem", "virtio_pmem"],
];

/** More than a command line has room for. */
const script = [
  `load ${modules.join(" ")}`,
  "echo announced $(grep -o 'virtio_mmio.device=[^ ]*' /proc/cmdline)",
  "echo pci $(ls /sys/bus/pci/devices)",
  "for d in /sys/bus/virtio/devices/*; do",
  "  at=$(basename $(dirname $(readlink -f $d)))",
  "  echo device $(cat $d/device) $at $(basename $(readlink $d/driver))",
  "done",
  "yes mmio | head -c 1048576 | dd of=/dev/vda bs=64k 2>/dev/null; sync",
  "echo 3 >/proc/sys/vm/drop_caches",
  "echo read $(head -c 1048576 /dev/vda | md5sum)",
  // each of these resets the device, and the second brings it up anew
  "d=$(basename $(readlink -f /sys/block/vda/device))",
  "echo $d >/sys/bus/virtio/drivers/virtio_blk/unbind",
  "echo unbound $([ -e /dev/vda ] || echo yes)",
  "echo $d >/sys/bus/virtio/drivers/virtio_blk/bind",
  "echo again $(head -c 1048576 /dev/vda | md5sum)",
  "echo second $(head -c 11 /dev/vdb)",
  "ip addr add 10.7.8.2/24 dev eth0; ip link set eth0 up; echo link $(cat /sys/class/net/eth0/address)",
  "echo ping $(ping -c 1 -W 10 10.7.8.1 | grep -c 'bytes from')",
  "echo said by hvc0 >/dev/hvc0",
  "echo said by a port >/dev/$(basename $(dirname $(grep -l '^log$' /sys/class/virtio-ports/*/name)))",
  "until [ -b /dev/pmem0 ]; do sleep 0.1; done",
  "echo pmem $(head -c 17 /dev/pmem0); printf 'from the guest' | dd of=/dev/pmem0 conv=notrunc,fsync 2>/dev/null",
  "echo random $(head -c 64 /dev/hwrng | wc -c)",
  "grep virtio /proc/interrupts",
].join("\n");

function initramfs(): string {
  const file = `${cache}/e2e/mmio.cpio`;
  writeInitramfs(file, { files: { "run.sh": script }, modules: kernelModules(modules) });
  return file;
}

const mebibyte = 1024 * 1024;

const everything = shared("mmio", () => ({
  initramfs: initramfs(),
  before: `
    truncate -s 8M one; printf 'second disk' >two; truncate -s 1M two
    printf 'persistent memory' >memory; truncate -s 16M memory`,
  more: [
    ...["--platform", "virtio=mmio", "--disk", "path=one", "path=two,readonly=on"],
    ...["--net", "ip=10.7.8.1,mask=255.255.255.0,mac=52:54:00:12:34:56", "--balloon", "size=0"],
    ...["--console", "file=hvc", "--port", "log,file=portlog", "--pmem", "file=memory"],
  ],
  after: `
    head -c 1048576 one | md5sum >whole; head -c 14 memory >remembered
    rm one two memory`,
}));

const expectedSum = new Bun.CryptoHasher("md5")
  .update("mmio\n".repeat(mebibyte / 5 + 1).slice(0, mebibyte))
  .digest("hex");

describe("devices on virtio-mmio", () => {
  guestTest("each is a platform device with its driver, and none is on PCI", async () => {
    const { stdout } = await everything();
    const found = [...stdout.matchAll(/^device (0x[0-9a-f]+) (\S+) (\S+)$/gm)].map(
      ([, ...all]) => all,
    );
    expect(found).toEqual([
      ["0x0003", "LNRO0005:00", "virtio_console"],
      ["0x0002", "LNRO0005:01", "virtio_blk"],
      ["0x0002", "LNRO0005:02", "virtio_blk"],
      ["0x0001", "LNRO0005:03", "virtio_net"],
      ["0x0004", "LNRO0005:04", "virtio_rng"],
      ["0x001b", "LNRO0005:05", "virtio_pmem"],
      ["0x0005", "LNRO0005:06", "virtio_balloon"],
      ["0x0003", "LNRO0005:07", "virtio_console"],
    ]);
    expect(stdout).toContain("pci 0000:00:00.0\n");
  });

  guestTest("the command line announces them, too", async () => {
    const { stdout } = await everything();
    const words = [16, 17, 18, 19, 20, 21, 22, 23].map(
      (gsi, index) => `virtio_mmio.device=4K@0xf800${index}000:${gsi}`,
    );
    expect(stdout).toContain(`announced ${words.join(" ")}\n`);
  });

  guestTest("each has its pin of the IOAPIC, level-triggered, and uses it", async () => {
    const lines = (await everything()).stdout.matchAll(
      /^ *\d+: +(\d+) +IO-APIC +(\d+)-fasteoi +(virtio\d+)$/gm,
    );
    const counts = [...lines].map(([, count, pin, name]) => [name, pin, Number(count) > 0]);
    expect(counts).toEqual([
      ["virtio0", "16", true],
      ["virtio1", "17", true],
      ["virtio2", "18", true],
      ["virtio3", "19", true],
      ["virtio4", "20", true],
      ["virtio5", "21", true],
      ["virtio6", "22", expect.any(Boolean)],
      ["virtio7", "23", true],
    ]);
  });

  guestTest("what was written is read back, also by a driver that came anew", async () => {
    const { stdout, files } = await everything();
    expect(stdout).toContain(`read ${expectedSum}`);
    expect(stdout).toContain("unbound yes");
    expect(stdout).toContain(`again ${expectedSum}`);
    expect(stdout).toContain("second second disk");
    expect(files.whole).toStartWith(expectedSum);
  });

  guestTest("the network interface and the entropy source work", async () => {
    const { stdout } = await everything();
    expect(stdout).toContain("link 52:54:00:12:34:56");
    expect(stdout).toContain("ping 1\n");
    expect(stdout).toContain("random 64");
  });

  guestTest("so do the console, a port of its own, and persistent memory", async () => {
    const { stdout, files } = await everything();
    expect(files.hvc!.trimEnd()).toEndWith("said by hvc0");
    expect(files.portlog).toBe("said by a port\n");
    expect(stdout).toContain("pmem persistent memory\n");
    expect(files.remembered).toBe("from the guest");
  });

  guestTest("power-off is exit 0", async () => {
    const { code, events } = await everything();
    expect(code).toBe(0);
    expect(events.slice(-2)).toEqual(["vm/poweroff", "vmm/exit"]);
  });
});
