/**
 * Puts the initramfs into guest RAM: as high as the kernel can reach, so that it is out of
 * everyone's way.
 */
import type { BootOptions } from "./boot-state.ts";
import { KernelError, mebibytes } from "./kernel-error.ts";
import { highestFit, type Range } from "./ranges.ts";

const pageSize = 4096;

/**
 * Reads the initramfs straight into guest RAM, the highest place below `preferredLimit`, else below
 * `limit`. Returns where it lies, or undefined when none was given.
 */
export function loadInitramfs(
  { initramfs, ram }: BootOptions,
  free: readonly Range[],
  preferredLimit: number,
  limit: number,
): Range | undefined {
  if (initramfs === undefined) return undefined;
  const { fd, size, path } = initramfs;
  if (size <= 0) {
    throw new KernelError(`Initramfs ${path}: the file is empty; give a cpio archive`);
  }
  const start =
    highestFit(free, size, pageSize, Math.min(preferredLimit, limit)) ??
    highestFit(free, size, pageSize, limit);
  if (start === undefined) {
    throw new KernelError(
      `Initramfs ${path}: no ${mebibytes(size)} of free guest RAM that the kernel can reach; ` +
        "give the guest more memory or a smaller initramfs",
    );
  }
  ram.readFile(fd, 0, start, size);
  return { start, end: start + size };
}
