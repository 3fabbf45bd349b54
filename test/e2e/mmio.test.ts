/** Linux with every virtio device on virtio-mmio: found through ACPI, interrupted by pins, reset by its drivers. */
import { describe, expect } from "bun:test";
import { readdirSync } from "node:fs";
import { cache } from "../lab/paths.ts";
import { guestTest, shared } from "./guest.ts";
import { writeInitramfs } from "./initramfs/build.ts";

/** In the order in which they can be inserted; the cloud kernel has the core and PCI built in. */
const modules = [
  ...["virtio_mmio", "virtio_blk", "failover", "net_failover", "virtio_net", "virtio-rng"],
  "virtio_balloon",
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
  "ip link set eth0 up; echo link $(cat /sys/class/net/eth0/address)",
  "echo random $(head -c 64 /dev/hwrng | wc -c)",
  "grep virtio /proc/interrupts",
].join("\n");

function withModules(): string {
  const folder = `${cache}/kernels/6.12-cloud/modules`;
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" });
  const wanted = modules.map((module) => names.find((name) => name.endsWith(`/${module}.ko`))!);
  const file = `${cache}/e2e/mmio.cpio`;
  writeInitramfs(file, {
    files: { "run.sh": script },
    modules: wanted.map((name) => `${folder}/${name}`),
  });
  return file;
}

const mebibyte = 1024 * 1024;

const everything = shared("mmio", () => ({
  initramfs: withModules(),
  before: "truncate -s 8M one; printf 'second disk' >two; truncate -s 1M two",
  more: [
    ...["--platform", "virtio=mmio", "--disk", "path=one", "path=two,readonly=on"],
    ...["--net", "mac=52:54:00:12:34:56", "--balloon", "size=0"],
  ],
  after: "head -c 1048576 one | md5sum >whole; rm one two",
}));

const expectedSum = new Bun.CryptoHasher("md5")
  .update("mmio\n".repeat(mebibyte / 5 + 1).slice(0, mebibyte))
  .digest("hex");

describe("devices on virtio-mmio", () => {
  guestTest("each is a platform device with its driver, and none is on PCI", async () => {
    const { stdout } = await everything();
    const found = [...stdout.matchAll(/^device (0x\d+) (\S+) (\S+)$/gm)].map(([, ...all]) => all);
    expect(found).toEqual([
      ["0x0002", "LNRO0005:00", "virtio_blk"],
      ["0x0002", "LNRO0005:01", "virtio_blk"],
      ["0x0001", "LNRO0005:02", "virtio_net"],
      ["0x0004", "LNRO0005:03", "virtio_rng"],
      ["0x0005", "LNRO0005:04", "virtio_balloon"],
    ]);
    expect(stdout).toContain("pci 0000:00:00.0\n");
  });

  guestTest("the command line announces them, too", async () => {
    const { stdout } = await everything();
    const words = [16, 17, 18, 19, 20].map(
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
      ["virtio2", "18", expect.any(Boolean)],
      ["virtio3", "19", true],
      ["virtio4", "20", expect.any(Boolean)],
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

  guestTest("the network interface and the entropy source are there", async () => {
    const { stdout } = await everything();
    expect(stdout).toContain("link 52:54:00:12:34:56");
    expect(stdout).toContain("random 64");
  });

  guestTest("power-off is exit 0", async () => {
    const { code, events } = await everything();
    expect(code).toBe(0);
    expect(events.slice(-2)).toEqual(["vm/poweroff", "vmm/exit"]);
  });
});
