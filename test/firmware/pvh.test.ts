import { expect, test } from "bun:test";
import { MiB } from "./fake-ram.ts";
import { elf, machine, pattern, pvhNote } from "./images.ts";

const kernel = (bits: 32 | 64 = 64) =>
  elf({
    bits,
    machine: bits === 32 ? 3 : 62,
    entry: 0, // nowhere: the note counts
    segments: [{ address: MiB, data: pattern(5000), memorySize: 20_000 }],
    notes: pvhNote(MiB + 0x30),
  });

test.each([32, 64] as const)("an ELF%d kernel with a PVH note starts in protected mode", (bits) => {
  const { ram, load } = machine();

  const state = load(kernel(bits));

  // docs/misc/pvh.pandoc: ebx is the start info, cr0 has PE alone of what can be set, cr4 is 0,
  // eflags 2, segments are flat, 32 bits, and the task register is a 32-bit TSS of 0x67 bytes.
  expect(state).toMatchObject({ mode: "protected32", rip: MiB + 0x30, rflags: 2, cr4: 0, efer: 0 });
  expect(state.cr0 & ~0x10).toBe(1);
  expect(state.segments.code).toMatchObject({
    base: 0,
    limit: 0xffff_ffff,
    type: 0xb,
    db: 1,
    l: 0,
  });
  expect(state.segments.data).toMatchObject({ base: 0, limit: 0xffff_ffff, type: 3, db: 1 });
  expect(state.segments.task).toMatchObject({ base: 0, limit: 0x67, type: 0xb, s: 0 });
  expect(ram.u64(state.gdt.address + state.segments.code.selector)).toBe(0x00cf_9b00_0000_ffffn);
  expect(state.kernelRange).toEqual({ start: MiB, end: MiB + 20_000 });
  expect(ram.read(MiB, 5000)).toEqual(pattern(5000));
  expect(ram.read(MiB + 5000, 15_000)).toEqual(new Uint8Array(15_000));
  expect(state.notes).toEqual(["KASLR is off: the PVH entry has no way to ask for it"]);
});

// Offsets: xen/include/public/arch-x86/hvm/start_info.h.
test("the start info names the command line, the RSDP, the memory map and the initramfs", () => {
  const { ram, load, initramfs } = machine();
  const archive = pattern(5000);

  const { rbx } = load(kernel(), { cmdline: "console=hvc0", initramfs: initramfs(archive) });

  expect(ram.u32(rbx)).toBe(0x336ec578);
  expect(ram.u32(rbx + 4)).toBe(1);
  expect(ram.u32(rbx + 8)).toBe(0);
  expect(ram.u32(rbx + 12)).toBe(1);
  const module = Number(ram.u64(rbx + 16));
  expect(ram.u64(module)).toBe(BigInt(64 * MiB - 8192));
  expect(ram.u64(module + 8)).toBe(5000n);
  expect(ram.read(64 * MiB - 8192, 5000)).toEqual(archive);
  expect(ram.text(Number(ram.u64(rbx + 24)))).toBe("console=hvc0");
  expect(ram.u64(rbx + 32)).toBe(0xe0000n);
  const memmap = Number(ram.u64(rbx + 40));
  expect(ram.u32(rbx + 48)).toBe(3);
  expect([ram.u64(memmap + 24), ram.u64(memmap + 32), ram.u32(memmap + 40)]).toEqual([
    0x9fc00n,
    0x60400n,
    2,
  ]);
});

test("without an initramfs there is no module", () => {
  const { ram, load } = machine();

  const { rbx } = load(kernel());

  expect(ram.u32(rbx + 12)).toBe(0);
  expect(ram.u64(rbx + 16)).toBe(0n);
});

test("a memory map or a command line that does not fit is refused", () => {
  const { load } = machine();
  const e820 = Array.from({ length: 3000 }, (_, i) => ({
    start: i * 64 * MiB,
    length: 64 * MiB,
    type: 1,
  }));

  expect(() => load(kernel(), { e820 })).toThrow("Memory map: its 3000 ranges do not fit");
  expect(() => load(kernel(), { cmdline: "x".repeat(2048) })).toThrow("at most 2047");
});
