/**
 * Memory-mapped registers: ranges sorted by address, found by binary search behind a cache of the last hit (each thread
 * has a bus object of its own, so the cache is the thread's). Unmapped and straddling accesses as on the port bus.
 * An access of 8 bytes reaches a device as two of 4, low half first.
 */
import type { BusDevice } from "./device.ts";
import { BusConflict, type DeviceLock, Mapping } from "./mapping.ts";

const nobody = new Mapping("nobody", 0, 0, { read: () => 0, write() {} });

/** Ranges that move while the machine runs: every thread looks them up anew when the generation has changed. */
export interface Topology {
  /** One word in shared memory: a new number whenever a range has moved, appeared or gone. */
  readonly generation: Int32Array<SharedArrayBuffer>;
  /** The ranges as they are now. */
  ranges(): readonly Mapping[];
}

export class MmioBus {
  /** Sorted: those that stay, and those that are served now. */
  readonly #fixed: Mapping[] = [];
  #mappings: readonly Mapping[] = this.#fixed;
  #last = nobody;
  /** The generation that `#mappings` is of; NaN when it is of none. */
  #seen = Number.NaN;

  constructor(readonly topology?: Topology) {}

  /** Gives guest-physical [address, address + length) to a device. Throws BusConflict when any of it is taken. */
  map(name: string, address: number, length: number, device: BusDevice, lock?: DeviceLock): void {
    if (address < 0 || length < 1 || !Number.isSafeInteger(address + length)) {
      throw new RangeError(`mmio: ${name}: no range of ${length} bytes at ${address}`);
    }
    const mapping = new Mapping(name, address, length, device, lock);
    let index = 0;
    while (index < this.#fixed.length && this.#fixed[index]!.base < address) index++;
    for (const neighbour of [this.#fixed[index - 1], this.#fixed[index]]) {
      if (neighbour && neighbour.base < mapping.end && address < neighbour.end) {
        throw new BusConflict("mmio", mapping, neighbour);
      }
    }
    this.#fixed.splice(index, 0, mapping);
    this.#seen = Number.NaN;
  }

  /** Serves a read into `data`, little-endian, `size` of 1 to 8 bytes. */
  read(address: number, size: number, data: DataView, at: number): void {
    const mapping = this.#find(address);
    const offset = address - mapping.base;
    if (offset + size > mapping.length) {
      for (let i = 0; i < size; i++) data.setUint8(at + i, 0xff);
      return;
    }
    mapping.lock.acquire();
    try {
      const device = mapping.device;
      if (size === 4) data.setUint32(at, device.read(offset, 4), true);
      else if (size === 1) data.setUint8(at, device.read(offset, 1));
      else if (size === 2) data.setUint16(at, device.read(offset, 2), true);
      else if (size === 8) {
        data.setUint32(at, device.read(offset, 4), true);
        data.setUint32(at + 4, device.read(offset + 4, 4), true);
      } else {
        for (let i = 0; i < size; i++) data.setUint8(at + i, device.read(offset + i, 1));
      }
    } finally {
      mapping.lock.release();
    }
  }

  /** Serves a write of `size` bytes that lie in `data`. */
  write(address: number, size: number, data: DataView, at: number): void {
    const mapping = this.#find(address);
    const offset = address - mapping.base;
    if (offset + size > mapping.length) return;
    mapping.lock.acquire();
    try {
      const device = mapping.device;
      if (size === 4) device.write(offset, 4, data.getUint32(at, true));
      else if (size === 1) device.write(offset, 1, data.getUint8(at));
      else if (size === 2) device.write(offset, 2, data.getUint16(at, true));
      else if (size === 8) {
        device.write(offset, 4, data.getUint32(at, true));
        device.write(offset + 4, 4, data.getUint32(at + 4, true));
      } else {
        for (let i = 0; i < size; i++) device.write(offset + i, 1, data.getUint8(at + i));
      }
    } finally {
      mapping.lock.release();
    }
  }

  /** The mapping that holds `address`; `nobody` when there is none. */
  #find(address: number): Mapping {
    const { topology } = this;
    if (topology && Atomics.load(topology.generation, 0) !== this.#seen) this.#rebuild(topology);
    const last = this.#last;
    if (address >= last.base && address - last.base < last.length) return last;
    let low = 0;
    let high = this.#mappings.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const mapping = this.#mappings[middle]!;
      if (address < mapping.base) high = middle - 1;
      else if (address - mapping.base >= mapping.length) low = middle + 1;
      else {
        this.#last = mapping;
        return mapping;
      }
    }
    return nobody;
  }

  /** A range that a guest has put over another's is not served: fixed ones come first, then those listed first. */
  #rebuild(topology: Topology): void {
    this.#seen = Atomics.load(topology.generation, 0);
    const served = [...this.#fixed];
    for (const range of topology.ranges()) {
      if (!served.some((other) => other.base < range.end && range.base < other.end)) {
        served.push(range);
      }
    }
    this.#mappings = served.sort((a, b) => a.base - b.base);
    this.#last = nobody;
  }
}
