/** Guest RAM, as the main thread owns it: mapped, and given back. */

import { MemoryMap } from "./memory-map.ts";
import type { RamBacking } from "./ram-backing.ts";
import { type RamContent, RamView } from "./ram-view.ts";

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

  /** What it holds before a boot. Private pages may be given back; what others map, or a file holds, stays. */
  before(used: boolean): RamContent {
    const { kind } = this.backing;
    if (used) return kind === "anonymous" ? "to discard" : "kept";
    return kind === "file" ? "kept" : "fresh";
  }
}
