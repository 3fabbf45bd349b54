/**
 * The 64-bit Linux boot protocol (Linux Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"):
 * fills boot_params, the "zero page", and returns the state in which the kernel is entered.
 */
import { BootLayout } from "./boot-layout.ts";
import {
  BootE820Entry,
  BootParams,
  bootFlag,
  e820MaxEntriesZeropage,
  headerMagic,
  LoadFlags,
  SETUP_E820_EXT,
  SetupData,
  setupHeaderOffset,
  undefinedLoader,
} from "./boot-params.ts";
import type { BootOptions, BootState } from "./boot-state.ts";
import { encodeCmdline } from "./cmdline.ts";
import { longMode } from "./cpu-state.ts";
import type { E820Entry } from "./e820.ts";
import { KernelError } from "./kernel-error.ts";
import type { Range } from "./ranges.ts";

const high = (value: number): number => Math.floor(value / 0x1_0000_0000);

/** What differs from kernel to kernel. */
export interface LinuxKernel {
  readonly rip: number;
  readonly range: Range;
  /**
   * The setup header as it is in the file, to be copied; a kernel without one gets a minimal
   * header.
   */
  readonly header?: Uint8Array;
  readonly cmdlineLimit: number;
  readonly initramfs: Range | undefined;
  /** Whether the loader moved the kernel: asks it to randomize its memory regions as well. */
  readonly kaslr: boolean;
  readonly notes: readonly string[];
}

/**
 * Writes the boot parameters and all that they point to; the kernel and the initramfs are in place
 * already.
 */
export function bootLinux(options: BootOptions, kernel: LinuxKernel): BootState {
  const { ram } = options;
  const params = new BootParams();
  const page = new Uint8Array(params.view.buffer);
  const { hdr } = params;
  if (kernel.header === undefined) {
    hdr.boot_flag = bootFlag;
    hdr.header = headerMagic;
    hdr.version = 0x020c;
    hdr.kernel_alignment = 0x20_0000;
  } else page.set(kernel.header, setupHeaderOffset);
  hdr.type_of_loader = undefinedLoader;
  hdr.loadflags = (hdr.loadflags & ~LoadFlags.kaslr) | LoadFlags.loadedHigh;
  if (kernel.kaslr) hdr.loadflags |= LoadFlags.kaslr;

  ram.write(BootLayout.commandLine, encodeCmdline(options.cmdline, kernel.cmdlineLimit));
  hdr.cmd_line_ptr = BootLayout.commandLine;

  const { start, end } = kernel.initramfs ?? { start: 0, end: 0 };
  hdr.ramdisk_image = start % 0x1_0000_0000;
  hdr.ramdisk_size = (end - start) % 0x1_0000_0000;
  params.ext_ramdisk_image = high(start);
  params.ext_ramdisk_size = high(end - start);

  params.acpi_rsdp_addr = options.rsdpAddress;
  params.e820_entries = Math.min(options.e820.length, e820MaxEntriesZeropage);
  page.set(
    encodeE820(options.e820.slice(0, e820MaxEntriesZeropage)),
    BootParams.offsets.e820_table,
  );
  hdr.setup_data = writeMoreE820(options);
  ram.write(BootLayout.bootParams, page);
  return longMode(ram, {
    rip: kernel.rip,
    rsi: BootLayout.bootParams,
    kernelRange: kernel.range,
    notes: kernel.notes,
  });
}

function encodeE820(entries: readonly E820Entry[]): Uint8Array {
  const table = new BootE820Entry(new ArrayBuffer(entries.length * BootE820Entry.size));
  for (const { start, length, type } of entries) {
    table.addr = start;
    table.size = length;
    table.type = type;
    table.at += BootE820Entry.size;
  }
  return new Uint8Array(table.view.buffer);
}

/**
 * The entries that boot_params has no room for, as a setup_data node: its address, or 0 when all
 * fit.
 */
function writeMoreE820({ e820, ram }: BootOptions): number {
  if (e820.length <= e820MaxEntriesZeropage) return 0;
  const table = encodeE820(e820.slice(e820MaxEntriesZeropage));
  const node = new Uint8Array(SetupData.size + table.length);
  if (BootLayout.memoryMap + node.length > BootLayout.memoryMapEnd) {
    throw new KernelError(
      `Memory map: its ${e820.length} ranges do not fit the boot tables; use fewer memory zones`,
    );
  }
  const setup = new SetupData(node.buffer);
  setup.type = SETUP_E820_EXT;
  setup.len = table.length;
  node.set(table, SetupData.size);
  ram.write(BootLayout.memoryMap, node);
  return BootLayout.memoryMap;
}
