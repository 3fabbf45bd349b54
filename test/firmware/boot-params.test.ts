import { expect, test } from "bun:test";
import {
  BootE820Entry,
  BootParams,
  bootFlag,
  e820MaxEntriesZeropage,
  headerMagic,
  LoadFlags,
  SETUP_E820_EXT,
  SetupData,
  SetupHeader,
  setupHeaderLimit,
  setupHeaderOffset,
  XLoadFlags,
} from "../../src/firmware/boot-params.ts";
import {
  HvmMemmapEntry,
  HvmModlistEntry,
  HvmStartInfo,
  startMagic,
} from "../../src/firmware/pvh.ts";

/** The values of C expressions, as the compiler sees the kernel's header. */
function compiled(expressions: readonly string[]): number[] {
  const print = (e: string) => `printf("%llu\\n", (unsigned long long)(${e}));`;
  const program = `#include <asm/bootparam.h>
    #include <stddef.h>
    #include <stdio.h>
    int main(void) { ${expressions.map(print).join("\n")} }`;
  const path = `/tmp/chv-bootparam-${process.pid}`;
  const gcc = Bun.spawnSync(["gcc", "-x", "c", "-o", path, "-"], { stdin: Buffer.from(program) });
  expect(gcc.stderr.toString()).toBe("");
  const run = Bun.spawnSync([path]);
  Bun.spawnSync(["rm", "-f", path]);
  return run.stdout.toString().trim().split("\n").map(Number);
}

const ours = (
  prefix: string,
  offsets: Readonly<Record<string, number>>,
  only?: readonly string[],
) =>
  Object.entries(offsets)
    .filter(([name]) => only === undefined || only.includes(name))
    .map(([name, offset]) => [`offsetof(struct ${prefix}, ${name})`, offset] as const);

test("layouts and constants are those of asm/bootparam.h", () => {
  const table: (readonly [string, number])[] = [
    ["sizeof(struct boot_params)", BootParams.size],
    ["sizeof(struct setup_header)", SetupHeader.size],
    ["sizeof(struct boot_e820_entry)", BootE820Entry.size],
    ["sizeof(struct setup_data)", SetupData.size],
    ...ours("setup_header", SetupHeader.offsets),
    ...ours("boot_e820_entry", BootE820Entry.offsets),
    ...ours("setup_data", SetupData.offsets),
    ...ours("boot_params", BootParams.offsets, [
      "acpi_rsdp_addr",
      "ext_ramdisk_image",
      "ext_ramdisk_size",
      "ext_cmd_line_ptr",
      "e820_entries",
      "hdr",
      "e820_table",
    ]),
    ["offsetof(struct boot_params, hdr)", setupHeaderOffset],
    ["offsetof(struct boot_params, edd_mbr_sig_buffer)", setupHeaderLimit],
    ["E820_MAX_ENTRIES_ZEROPAGE", e820MaxEntriesZeropage],
    ["SETUP_E820_EXT", SETUP_E820_EXT],
    ["LOADED_HIGH", LoadFlags.loadedHigh],
    ["KASLR_FLAG", LoadFlags.kaslr],
    ["CAN_USE_HEAP", LoadFlags.canUseHeap],
    ["XLF_KERNEL_64", XLoadFlags.kernel64],
    ["XLF_CAN_BE_LOADED_ABOVE_4G", XLoadFlags.above4G],
  ];

  const values = compiled(table.map(([expression]) => expression));

  expect(table.map(([expression], i) => [expression, values[i]])).toEqual(
    table.map(([expression, value]) => [expression, value]),
  );
});

test("the magic numbers are those of boot.rst", () => {
  expect(bootFlag).toBe(0xaa55);
  expect(String.fromCharCode(...new Uint8Array(new Uint32Array([headerMagic]).buffer))).toBe(
    "HdrS",
  );
});

// xen/include/public/arch-x86/hvm/start_info.h draws its structures with these offsets.
test("the PVH structures are laid out as in Xen's start_info.h", () => {
  expect(HvmStartInfo.offsets).toEqual({
    magic: 0,
    version: 4,
    flags: 8,
    nr_modules: 12,
    modlist_paddr: 16,
    cmdline_paddr: 24,
    rsdp_paddr: 32,
    memmap_paddr: 40,
    memmap_entries: 48,
    reserved: 52,
  });
  expect(HvmModlistEntry.offsets).toEqual({ paddr: 0, size: 8, cmdline_paddr: 16, reserved: 24 });
  expect(HvmMemmapEntry.offsets).toEqual({ addr: 0, size: 8, type: 16, reserved: 20 });
  expect(startMagic).toBe(0x336ec578);
});
