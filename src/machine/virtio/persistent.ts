/** Where persistent memory lies in the guest's view: behind RAM and what RAM may grow into, never in the e820 map. */
import { MemoryMap } from "../memory-map.ts";
import type { RamRegion } from "../ram-view.ts";
import type { VirtioDevice } from "./spec.ts";

const GiB = 2 ** 30;

/**
 * Each region begins at a whole GiB: KVM can map it with the largest pages, and no two share a memory section of Linux,
 * which takes persistent memory in by sections of 128 MiB.
 */
const alignBytes = GiB;

/** Gives places to regions, one after another. */
export class PersistentPlaces {
  #next: number;

  /** RAM of `size` bytes, which may grow by `hotplugSize`; addresses end at 2^`maxPhysBits`. */
  constructor(
    size: number,
    hotplugSize: number,
    readonly maxPhysBits: number,
  ) {
    const above = Math.max(size - MemoryMap.holeStart, 0);
    this.#next = MemoryMap.ramAbove4G + above + hotplugSize;
  }

  /** The guest-physical start of a region of so many bytes; undefined when it does not fit. */
  take(bytes: number): number | undefined {
    const start = Math.ceil(this.#next / alignBytes) * alignBytes;
    if (start + bytes > 2 ** this.maxPhysBits) return undefined;
    this.#next = start + bytes;
    return start;
  }
}

/** The regions of those of the devices that have some. */
export function persistentRegions(devices: readonly VirtioDevice[]): RamRegion[] {
  return devices.flatMap(({ backend }) => {
    if (backend.kind !== "pmem") return [];
    const { start, size, hostAddress } = backend.spec;
    return [{ start, length: size, hostAddress }];
  });
}
