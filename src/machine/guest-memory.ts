/**
 * Guest RAM: mapped, given to KVM slot by slot, and reached by host address. No window on it is opened here, so that
 * the garbage collector of the calling thread does not count it (see ARCHITECTURE.md, memory).
 */

import { pread } from "../ffi/file.ts";
import { setMemorySlot } from "../ffi/kvm.ts";
import { SystemError } from "../ffi/libc.ts";
import { copyFrom, copyTo, Madvise, madvise, zeroAt } from "../ffi/memory.ts";
import type { GuestRam } from "../firmware/guest-ram.ts";
import { MemoryMap } from "./memory-map.ts";
import type { RamBacking } from "./ram-backing.ts";

/** A piece of RAM: guest-physical start, length in bytes, and where it lies in this process. */
export interface RamRegion {
  readonly start: number;
  readonly length: number;
  readonly hostAddress: number;
}

/** RAM of `size` bytes as ranges of guest-physical memory: below the 32-bit hole, and from 4 GiB up. */
export function ramLayout(size: number): { start: number; length: number }[] {
  const low = Math.min(size, MemoryMap.holeStart);
  const ranges = [{ start: 0, length: low }];
  if (size > low) ranges.push({ start: MemoryMap.ramAbove4G, length: size - low });
  return ranges;
}

export class GuestMemory implements GuestRam {
  readonly regions: readonly RamRegion[];

  constructor(
    readonly size: number,
    readonly backing: RamBacking,
  ) {
    let offset = 0;
    this.regions = ramLayout(size).map(({ start, length }) => {
      const hostAddress = backing.address + offset;
      offset += length;
      return { start, length, hostAddress };
    });
  }

  /** Makes the regions the VM's memory slots 0, 1, …. */
  attach(vm: number): void {
    for (const [slot, region] of this.regions.entries()) {
      setMemorySlot(vm, slot, region.start, region.length, region.hostAddress);
    }
  }

  /** Where a range of RAM lies in this process. Throws RangeError unless all of it is in one region. */
  hostAddress(address: number, length: number): number {
    for (const region of this.regions) {
      const offset = address - region.start;
      if (offset >= 0 && length >= 0 && offset + length <= region.length) {
        return region.hostAddress + offset;
      }
    }
    throw new RangeError(
      `guest memory [0x${address.toString(16)}, 0x${(address + length).toString(16)}) is not RAM`,
    );
  }

  write(address: number, data: Uint8Array): void {
    copyTo(this.hostAddress(address, data.length), data);
  }

  read(address: number, length: number): Uint8Array {
    return copyFrom(this.hostAddress(address, length), length);
  }

  zero(address: number, length: number): void {
    zeroAt(this.hostAddress(address, length), length);
  }

  readFile(fd: number, fileOffset: number, address: number, length: number): void {
    const count = pread(fd, this.hostAddress(address, length), length, fileOffset);
    if (count !== length) {
      throw new RangeError(`the file ends ${length - count} bytes early, at ${fileOffset + count}`);
    }
  }

  /**
   * Gives the pages back: RAM reads zero again, as after power-on. Private anonymous memory only; where the kernel
   * keeps its pages (huge ones before 5.18), the guest finds what it left, as in a machine that is reset.
   */
  discard(): void {
    if (this.backing.kind !== "anonymous") return;
    for (const region of this.regions) {
      try {
        madvise(region.hostAddress, region.length, Madvise.dontNeed);
      } catch (error) {
        if (!(error instanceof SystemError && error.code === "EINVAL")) throw error;
      }
    }
  }
}
