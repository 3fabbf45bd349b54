/** Puts ELF segments into guest RAM, from a file or from memory. */
import type { Segment } from "./elf.ts";
import type { KernelFile } from "./file-reader.ts";
import type { GuestRam } from "./guest-ram.ts";
import { hex } from "./kernel-error.ts";
import { holds, type Range } from "./ranges.ts";

/** Fails unless every segment, moved by `distance`, lies in free guest RAM. */
export function checkSegments(
  file: KernelFile,
  segments: readonly Segment[],
  free: readonly Range[],
): void {
  for (const { address, memorySize } of segments) {
    if (!holds(free, address, address + memorySize)) {
      file.refuse(
        `its segment at ${hex(address)}, ${memorySize} bytes long, does not lie in free guest RAM`,
        "give the guest more memory, or link it at 1 MiB or above",
      );
    }
  }
}

/** Straight from the file; what the file does not hold is zeroed. */
export function loadFromFile(file: KernelFile, segments: readonly Segment[], ram: GuestRam): void {
  for (const { offset, address, fileSize, memorySize } of segments) {
    if (fileSize > 0) ram.readFile(file.fd, offset, address, fileSize);
    if (memorySize > fileSize) ram.zero(address + fileSize, memorySize - fileSize);
  }
}

/** From an unpacked file in memory, `distance` above where it was linked. */
export function loadFromMemory(
  image: Uint8Array,
  segments: readonly Segment[],
  ram: GuestRam,
  distance: number,
): void {
  for (const { offset, address, fileSize, memorySize } of segments) {
    const filled = trimZeros(image.subarray(offset, offset + fileSize));
    if (filled > 0) ram.write(address + distance, image.subarray(offset, offset + filled));
    if (memorySize > filled) ram.zero(address + distance + filled, memorySize - filled);
  }
}

const zeros = new Uint8Array(0x1_0000);

/**
 * The length of `data` without zeros at its end, counted in 64 KiB. Linux's last segment carries
 * its whole BSS in the file, 10 MiB of zeros that need not become resident in guest RAM. Compared
 * by memcmp: a loop takes 40 times as long.
 */
function trimZeros(data: Uint8Array): number {
  let end = data.length;
  while (end > 0) {
    const start = Math.max(0, end - zeros.length);
    if (Buffer.compare(data.subarray(start, end), zeros.subarray(0, end - start)) !== 0) return end;
    end = start;
  }
  return 0;
}
