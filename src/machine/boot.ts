/** Puts into guest RAM what the first vCPU will find: firmware tables, kernel, initramfs, command line. */
import { ConfigError } from "../exit-codes.ts";
import { pread } from "../ffi/file.ts";
import type { BootState } from "../firmware/boot-state.ts";
import { hasOption } from "../firmware/cmdline.ts";
import { buildE820, E820Type } from "../firmware/e820.ts";
import { KernelError, loadKernel } from "../firmware/kernel.ts";
import { buildSmbios } from "../firmware/smbios.ts";
import type { BootPlan } from "./boot-plan.ts";
import { MemoryMap, Port, resetValue } from "./memory-map.ts";
import type { RamView } from "./ram-view.ts";
import { acpiTables, mpTables } from "./tables.ts";

/**
 * What stands where a PC's BIOS is entered in real mode: a reset. Linux jumps there to restart a machine with
 * hardware-reduced ACPI and no EFI (reboot_init and machine_real_restart in its arch/x86/kernel/reboot.c).
 */
export const biosEntry = new Uint8Array([
  ...[0xba, Port.reset & 0xff, Port.reset >> 8], // mov dx, Port.reset
  ...[0xb0, resetValue, 0xee], //                   mov al, resetValue; out dx, al
  ...[0xf4, 0xeb, 0xfd], //                         hlt; jmp to the hlt
]);

/** Throws ConfigError when the files cannot be booted. */
export function prepareBoot(plan: BootPlan): BootState {
  try {
    return load(plan);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    const { message } = error;
    throw new ConfigError(
      plan.image === undefined ? inOptions(message, plan) : `--disk ${plan.image}: ${message}`,
    );
  }
}

/**
 * The command line with virtio-mmio devices in Linux's words, for kernels without ACPI: a kernel with it finds the same
 * devices there first, and cannot have their registers a second time (docs/virtio.md). They come first, for what
 * follows "--" is not the kernel's.
 */
const announced = ({ cmdline, virtioMmio = [] }: BootPlan): string =>
  [
    ...virtioMmio.map(
      ({ address, gsi }) => `virtio_mmio.device=4K@0x${address.toString(16)}:${gsi}`,
    ),
    ...(cmdline === "" ? [] : [cmdline]),
  ].join(" ");

/** The loaders know files, the user knows options. */
const inOptions = (message: string, { firmware }: BootPlan): string =>
  message
    .replace(/^Kernel /, firmware ? "--firmware " : "--kernel ")
    .replace(/^Initramfs /, "--initramfs ")
    .replace(/^Command line:/, "--cmdline:");

function load(plan: BootPlan): BootState {
  const { memory, kernel, initramfs, firmware = false } = plan;
  // a firmware's command line is for the kernel that it finds: it needs ACPI itself
  const acpi = firmware || !hasOption(plan.cmdline, "acpi=off");
  const tables = acpi ? acpiTables(plan) : { rsdpAddress: 0, blobs: mpTables(plan) };
  for (const { address, data } of tables.blobs) memory.write(address, data);
  const smbios = smbiosTables(plan);
  memory.write(smbios.address, smbios.data);
  memory.write(MemoryMap.biosEntry, biosEntry);
  return loadKernel(
    {
      kernelFd: kernel.fd,
      kernelSize: kernel.size,
      kernelPath: kernel.path,
      ...(initramfs ? { initramfs } : {}),
      cmdline: firmware ? plan.cmdline : announced(plan),
      ram: memory,
      e820: e820(memory),
      rsdpAddress: tables.rsdpAddress,
      entry: plan.entry,
      firmware,
      random: (bytes) => crypto.getRandomValues(new Uint8Array(bytes)),
    },
    { read: readPart },
  );
}

function readPart(fd: number, offset: number, length: number): Uint8Array {
  const data = new Uint8Array(length);
  if (pread(fd, data, length, offset) === length) return data;
  throw new ConfigError("--kernel: the file shrank while it was read; boot a copy", "--kernel");
}

function smbiosTables({ platform }: BootPlan): ReturnType<typeof buildSmbios> {
  const serialNumber = platform?.serial_number;
  const uuid = platform?.uuid;
  const oemStrings = platform?.oem_strings;
  const { smbios: address, smbiosEnd: end } = MemoryMap;
  try {
    return buildSmbios({ address, end, serialNumber, uuid, oemStrings });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ConfigError(`--platform: ${error.message}; shorten oem_strings`, "--platform");
  }
}

function e820(memory: RamView): ReturnType<typeof buildE820> {
  const reserved = (start: number, length: number) => ({ start, length, type: E820Type.reserved });
  return buildE820(memory.regions, [
    reserved(MemoryMap.lowRamEnd, MemoryMap.highRam - MemoryMap.lowRamEnd),
    reserved(MemoryMap.mmconfig, MemoryMap.mmconfigSize),
    reserved(MemoryMap.kvmIdentityMap, MemoryMap.kvmPagesSize),
  ]);
}
