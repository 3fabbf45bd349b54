import { describe, expect } from "bun:test";
import { bzImage, large, noMsi, older, olderElf, ownDecompressor, pty, socket } from "./boots.ts";
import { guestTest } from "./guest.ts";

/** The lines of the console that begin so, in order. */
const lines = (console: string, start: string) =>
  console.split("\n").filter((line) => line.startsWith(start));

/** Numbers of a line of /proc/meminfo, in MiB. */
const memTotal = (console: string) => Number(/MemTotal: +(\d+) kB/.exec(console)?.[1]) / 1024;

describe("--cpus", () => {
  guestTest("boot=2,max=4: two run, four are allowed, two of them to be plugged in", async () => {
    const { stdout } = await bzImage();
    expect(stdout).toContain("cpus 2\n");
    expect(stdout).toContain("CPU topo: Allowing 2 present CPUs plus 2 hotplug CPUs");
  });

  guestTest("topology=2:2:1:1: 6.12 sees two threads in each core", async () => {
    expect(lines((await bzImage()).stdout, "cpu0 threads")).toEqual([
      "cpu0 threads 0-1 core 0 package 0",
    ]);
  });

  guestTest("topology=2:2:1:1: 6.1 sees two cores of two threads in one package", async () => {
    const { stdout } = await olderElf();
    expect(stdout).toContain("cpus 4\n");
    expect(lines(stdout, "cpu").filter((line) => line.includes(" threads "))).toEqual([
      "cpu0 threads 0-1 core 0 package 0",
      "cpu1 threads 0-1 core 0 package 0",
      "cpu2 threads 2-3 core 1 package 0",
      "cpu3 threads 2-3 core 1 package 0",
    ]);
  });

  guestTest("each vCPU takes timer interrupts of its own local APIC", async () => {
    const [line] = lines((await olderElf()).stdout, "LOC:");
    const counts = line!.split(/ +/).slice(1, 5).map(Number);
    expect(counts).toHaveLength(4);
    expect(Math.min(...counts)).toBeGreaterThan(0);
  });
});

describe("interrupts", () => {
  guestTest(
    "the serial port, the RTC and the event device have lines of the IO-APIC, no timer or cascade does",
    async () => {
      for (const { stdout } of [await bzImage(), await olderElf()]) {
        const pins = stdout.split("\n").filter((line) => line.includes("IO-APIC"));
        const names = pins.map((line) => line.trim().split(/ +/).at(-1));
        expect(names.sort()).toEqual(["ACPI:Ged", "rtc0", "ttyS0"]);
      }
    },
  );
});

describe("PCI", () => {
  guestTest("one bus is told of: Linux looks for devices on no others", async () => {
    const { stdout } = await bzImage();
    expect(stdout).toContain("for domain 0000 [bus 00-00]");
  });
});

describe("pci=nomsi", () => {
  guestTest("disk, network and console have pins of the IOAPIC, and use them", async () => {
    const text = (await noMsi()).files.hvc!.replaceAll("\r\n", "\n");
    const lines = [...text.matchAll(/^ *\d+: +(\d+) +IO-APIC +\d+-fasteoi +(virtio\d.*)$/gm)];
    const devices = lines.flatMap(([, , names]) => names!.split(/, */)).sort();
    expect(devices).toEqual(["virtio0", "virtio1", "virtio2"]);
    for (const [, count] of lines) expect(Number(count)).toBeGreaterThan(0);
    expect(text).toContain("msi 0\n");
  });

  guestTest("what was written is read back, and the host answers", async () => {
    const written = "by pin\n".repeat(65536 / 7 + 1).slice(0, 65536);
    const sum = new Bun.CryptoHasher("md5").update(written).digest("hex");
    const { code, files } = await noMsi();
    expect(files.hvc).toContain(`disk ${sum}`);
    expect(files.hvc).toContain("ping 3");
    expect(code).toBe(0);
  });
});

describe("--memory", () => {
  guestTest("5 GiB lie on both sides of the hole", async () => {
    const { stdout } = await olderElf();
    expect(stdout).toContain("[mem 0x0000000000100000-0x00000000bfffffff] usable");
    expect(stdout).toContain("[mem 0x0000000100000000-0x000000017fffffff] usable");
    expect(memTotal(stdout)).toBeGreaterThan(4800);
    expect(memTotal(stdout)).toBeLessThanOrEqual(5120);
  });

  guestTest("128 GiB: the whole map, of which mem=2G takes two", async () => {
    const { stdout } = await large();
    expect(stdout).toContain("[mem 0x0000000000100000-0x00000000bfffffff] usable");
    expect(stdout).toContain("[mem 0x0000000100000000-0x000000203fffffff] usable");
    expect(stdout).toContain("[mem 0x00000000e8000000-0x00000000f7ffffff] reserved");
    expect(memTotal(stdout)).toBeLessThanOrEqual(2048);
  });

  guestTest("file=FILE,shared=on: RAM is that file, of that size", async () => {
    const { files } = await ownDecompressor();
    const [size, blocks] = files.ram!.split(" ").map(Number);
    expect(size).toBe(256 * 2 ** 20);
    expect(blocks! * 512).toBeGreaterThan(32 * 2 ** 20); // the kernel and its initramfs at least
    expect(files.maps).toMatch(/rw-s .* \/dev\/shm\/chv-e2e-\d+$/m);
  });

  guestTest("file=DIR: RAM is a file there that has no name any more", async () => {
    expect((await socket()).files.maps).toMatch(/rw-p .* \/dev\/shm\/\S+ \(deleted\)$/m);
  });

  guestTest("shared=on: RAM is a memfd", async () => {
    expect((await pty()).files.maps).toMatch(/rw-s .* \/memfd:\S+ \(deleted\)$/m);
  });

  guestTest("hugepages=on: RAM is of the host's pool of huge pages", async () => {
    const { files } = await older();
    const free = Number(/HugePages_Free: +(\d+)/.exec(files.pool!)?.[1]);
    const total = Number(/HugePages_Total: +(\d+)/.exec(files.pool!)?.[1]);
    expect(total - free).toBeGreaterThan(16); // 32 MiB touched: the kernel and its initramfs at least
  });
});
