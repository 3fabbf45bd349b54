/** How a guest is told of virtio-mmio devices: by ACPI, and on the kernel's command line. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { close } from "../../../src/ffi/file.ts";
import { prepareBoot } from "../../../src/machine/boot.ts";
import { GuestMemory } from "../../../src/machine/guest-memory.ts";
import { openInput } from "../../../src/machine/input-file.ts";
import { createBacking } from "../../../src/machine/ram-backing.ts";
import { elf, pattern, pvhNote } from "../../firmware/images.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-announced-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const devices = [
  { address: 0xf800_0000, gsi: 16 },
  { address: 0xf800_1000, gsi: 17 },
];
const words = "virtio_mmio.device=4K@0xf8000000:16 virtio_mmio.device=4K@0xf8001000:17";

/** What a guest finds, where docs/memory-map.md says: the command line, the ACPI tables, the MP table. */
function booted(
  cmdline: string,
  virtioMmio = devices,
): { cmdline: string; acpi: Buffer; mp: Buffer } {
  const [ram, kernelPath] = [join(folder, "ram"), join(folder, "kernel")];
  const segments = [{ address: 0x10_0000, data: pattern(16) }];
  writeFileSync(kernelPath, elf({ entry: 0x10_0000, segments, notes: pvhNote(0x10_0000) }));
  const size = 16 * 2 ** 20;
  const backing = createBacking({
    ...{ size, file: ram, shared: true, hugepages: false, mergeable: false },
    ...{ prefault: false, thp: false },
  });
  const kernel = openInput("--kernel", kernelPath);
  prepareBoot({
    ...{ kernel, initramfs: undefined, cmdline, entry: "auto", serial: true, virtioMmio },
    ...{ memory: new GuestMemory(size, backing), cpus: [{ apicId: 0, enabled: true }] },
  });
  close(kernel.fd);
  backing.close();
  const bytes = readFileSync(ram);
  rmSync(ram);
  const line = bytes.subarray(0x2_0000, bytes.indexOf(0, 0x2_0000));
  const [acpi, mp] = [bytes.subarray(0xe_0000, 0xf_0000), bytes.subarray(0xf_4000, 0x10_0000)];
  return { cmdline: line.toString(), acpi, mp };
}

test("the command line begins with them, before a -- of the user's", () => {
  expect(booted("root=/dev/vda -- single").cmdline).toBe(`${words} root=/dev/vda -- single`);
  expect(booted("").cmdline).toBe(words);
  expect(booted("quiet", []).cmdline).toBe("quiet");
});

test("ACPI has a device for each, and none without; with acpi=off the command line is all", () => {
  const count = (acpi: Buffer) => acpi.toString("latin1").split("LNRO0005").length - 1;
  expect([devices, []].map((list) => count(booted("", list).acpi))).toEqual([2, 0]);
  // Memory32Fixed (ACPI 6.5 section 6.4.3.4): read-write, base, length; then the interrupt, level, low, shared, 17
  const second = "86090001" + "001000f8" + "00100000" + "890600" + "0d0111000000";
  expect(booted("").acpi.toHex()).toContain(second);
  const { cmdline, acpi } = booted("acpi=off");
  expect([cmdline, count(acpi)]).toEqual([`${words} acpi=off`, 0]);
});

// MP 1.4 section 4.3.4: type 3, INT, active low and level, bus 0, device << 2, I/O APIC 0, pin
test("with acpi=off the MP table names the pins that virtio-mmio and PCI's INTA have", () => {
  const { mp } = booted("acpi=off");
  const at = 16 + 44; // behind pointer and header
  const entries = mp.subarray(at, 16 + mp.readUInt16LE(16 + 4)).toHex();
  for (let slot = 1; slot < 32; slot++) {
    const entry = [3, 0, 0x0f, 0, 0, slot << 2, 0, 16 + (slot % 8)];
    expect(entries).toContain(Buffer.from(entry).toHex());
  }
  expect(entries).toContain(Buffer.from("\x01\x00PCI   ").toHex());
});
