/** Puts into guest RAM what the first vCPU will find: firmware tables, kernel, initramfs, command line. */
import { ConfigError } from "../exit-codes.ts";
import { pread } from "../ffi/file.ts";
import type { BootState } from "../firmware/boot-state.ts";
import { buildE820, E820Type } from "../firmware/e820.ts";
import { KernelError, loadKernel } from "../firmware/kernel.ts";
import { type BootPlan, hasAcpi } from "./boot-plan.ts";
import { MemoryMap } from "./memory-map.ts";
import type { RamView } from "./ram-view.ts";
import { writeTables } from "./tables.ts";

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
  writeTables(plan);
  return loadKernel(
    {
      kernelFd: kernel.fd,
      kernelSize: kernel.size,
      kernelPath: kernel.path,
      ...(initramfs ? { initramfs } : {}),
      cmdline: firmware ? plan.cmdline : announced(plan),
      ram: memory,
      e820: e820(memory),
      rsdpAddress: hasAcpi(plan) ? MemoryMap.acpiTables : 0,
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

function e820(memory: RamView): ReturnType<typeof buildE820> {
  const reserved = (start: number, length: number) => ({ start, length, type: E820Type.reserved });
  return buildE820(memory.regions, [
    reserved(MemoryMap.lowRamEnd, MemoryMap.highRam - MemoryMap.lowRamEnd),
    reserved(MemoryMap.mmconfig, MemoryMap.mmconfigSize),
    reserved(MemoryMap.kvmIdentityMap, MemoryMap.kvmPagesSize),
  ]);
}
