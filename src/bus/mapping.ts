/** A range of a bus that belongs to a device, and what happens when two want the same. */
import type { BusDevice } from "./device.ts";
import { noLock } from "./lock.ts";

export interface DeviceLock {
  acquire(): void;
  release(): void;
}

export class Mapping {
  constructor(
    readonly name: string,
    readonly base: number,
    readonly length: number,
    readonly device: BusDevice,
    readonly lock: DeviceLock = noLock,
  ) {}

  get end(): number {
    return this.base + this.length;
  }

  toString(): string {
    return `${this.name} [${hex(this.base)}, ${hex(this.end)})`;
  }
}

/** Two devices were given the same addresses: the board's own fault. */
export class BusConflict extends Error {
  constructor(bus: string, wanted: Mapping, owner: Mapping) {
    super(`${bus}: ${wanted} overlaps ${owner}`);
    this.name = "BusConflict";
  }
}

export const hex = (value: number): string => `0x${value.toString(16)}`;
