/**
 * The PVH entry: Xen's "x86/HVM direct boot ABI" (docs/misc/pvh.pandoc) with the structures of
 * xen/include/public/arch-x86/hvm/start_info.h, version 1. The kernel is entered in 32-bit
 * protected mode with the address of hvm_start_info in ebx. Linux truncates the module's address to
 * 32 bits, so it lies below 4 GiB.
 */
import { addr, struct, u32 } from "../ffi/struct.ts";
import { BootLayout } from "./boot-layout.ts";
import type { BootOptions, BootState } from "./boot-state.ts";
import { defaultCmdlineLimit, encodeCmdline } from "./cmdline.ts";
import { protectedMode } from "./cpu-state.ts";
import { KernelError } from "./kernel-error.ts";
import type { Range } from "./ranges.ts";

export const HvmStartInfo = struct("hvm_start_info", 56, {
  magic: u32,
  version: u32,
  flags: u32,
  nr_modules: u32,
  modlist_paddr: addr,
  cmdline_paddr: addr,
  rsdp_paddr: addr,
  memmap_paddr: addr,
  memmap_entries: u32,
  reserved: u32,
});
export const HvmModlistEntry = struct("hvm_modlist_entry", 32, {
  paddr: addr,
  size: addr,
  cmdline_paddr: addr,
  reserved: addr,
});
/** The types are those of e820 (XEN_HVM_MEMMAP_TYPE_RAM is 1). */
export const HvmMemmapEntry = struct("hvm_memmap_table_entry", 24, {
  addr: addr,
  size: addr,
  type: u32,
  reserved: u32,
});

/** XEN_HVM_START_MAGIC_VALUE: "xEn3" with bit 7 of the E set. */
export const startMagic = 0x336e_c578;

export interface PvhKernel {
  /** Guest-physical entry point, from the note. */
  readonly entry: number;
  readonly range: Range;
  readonly initramfs: Range | undefined;
  readonly notes: readonly string[];
}

/**
 * Writes the start info and all that it points to; the kernel and the initramfs are in place
 * already.
 */
export function bootPvh(options: BootOptions, kernel: PvhKernel): BootState {
  const { ram, e820 } = options;
  ram.write(BootLayout.commandLine, encodeCmdline(options.cmdline, defaultCmdlineLimit));

  const memmap = new HvmMemmapEntry(new ArrayBuffer(e820.length * HvmMemmapEntry.size));
  if (BootLayout.memoryMap + memmap.view.byteLength > BootLayout.memoryMapEnd) {
    throw new KernelError(
      `Memory map: its ${e820.length} ranges do not fit the boot tables; use fewer memory zones`,
    );
  }
  for (const { start, length, type } of e820) {
    memmap.addr = start;
    memmap.size = length;
    memmap.type = type;
    memmap.at += HvmMemmapEntry.size;
  }
  ram.write(BootLayout.memoryMap, new Uint8Array(memmap.view.buffer));

  const info = new HvmStartInfo();
  info.magic = startMagic;
  info.version = 1;
  info.cmdline_paddr = BootLayout.commandLine;
  info.rsdp_paddr = options.rsdpAddress;
  info.memmap_paddr = BootLayout.memoryMap;
  info.memmap_entries = e820.length;
  if (kernel.initramfs !== undefined) {
    const module = new HvmModlistEntry();
    module.paddr = kernel.initramfs.start;
    module.size = kernel.initramfs.end - kernel.initramfs.start;
    ram.write(BootLayout.moduleList, new Uint8Array(module.view.buffer));
    info.nr_modules = 1;
    info.modlist_paddr = BootLayout.moduleList;
  }
  ram.write(BootLayout.startInfo, new Uint8Array(info.view.buffer));
  return protectedMode(ram, {
    rip: kernel.entry,
    rbx: BootLayout.startInfo,
    kernelRange: kernel.range,
    notes: kernel.notes,
  });
}
