/** Guest RAM, as the main thread owns it: mapped, and given back. */

import { SystemError } from "../ffi/libc.ts";
import { Madvise, madvise } from "../ffi/memory.ts";
import { MemoryMap } from "./memory-map.ts";
import type { RamBacking } from "./ram-backing.ts";
import { RamView } from "./ram-view.ts";

/** RAM of `size` bytes as ranges of guest-physical memory: below the 32-bit hole, and from 4 GiB up. */
export function ramLayout(size: number): { start: number; length: number }[] {
  const low = Math.min(size, MemoryMap.holeStart);
  const ranges = [{ start: 0, length: low }];
  if (size > low) ranges.push({ start: MemoryMap.ramAbove4G, length: size - low });
  return ranges;
}

export class GuestMemory extends RamView {
  constructor(
    readonly size: number,
    readonly backing: RamBacking,
  ) {
    let offset = 0;
    const regions = ramLayout(size).map(({ start, length }) => {
      const hostAddress = backing.address + offset;
      offset += length;
      return { start, length, hostAddress };
    });
    super(regions);
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
