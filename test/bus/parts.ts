/** What stands on a bus in its tests: a device and a lock that remember. */
import type { AccessSize, BusDevice } from "../../src/bus/device.ts";

/** Bytes that read back as written; every call is noted. */
export class Scratch implements BusDevice {
  readonly calls: [what: "read" | "write", offset: number, size: number, value: number][] = [];
  readonly bytes: DataView;
  constructor(length: number) {
    this.bytes = new DataView(new ArrayBuffer(length));
  }

  read(offset: number, size: AccessSize): number {
    const value = this.#at(offset, size);
    this.calls.push(["read", offset, size, value]);
    return value;
  }

  write(offset: number, size: AccessSize, value: number): void {
    this.calls.push(["write", offset, size, value]);
    if (size === 1) this.bytes.setUint8(offset, value);
    else if (size === 2) this.bytes.setUint16(offset, value, true);
    else this.bytes.setUint32(offset, value, true);
  }

  #at(offset: number, size: AccessSize): number {
    if (size === 1) return this.bytes.getUint8(offset);
    return size === 2 ? this.bytes.getUint16(offset, true) : this.bytes.getUint32(offset, true);
  }
}

/** A device that fails whatever is done to it. */
export const failing: BusDevice = {
  read() {
    throw new Error("broken");
  },
  write() {
    throw new Error("broken");
  },
};

/** A lock that counts. */
export class CountingLock {
  held = 0;
  acquired = 0;
  acquire(): void {
    this.held++;
    this.acquired++;
  }
  release(): void {
    this.held--;
  }
}

/** Ranges that do not overlap, below `end`: gaps and lengths, one after another. */
export function ranges(parts: readonly (readonly [gap: number, length: number])[], end: number) {
  const found: { base: number; length: number }[] = [];
  let at = 0;
  for (const [gap, length] of parts) {
    const base = at + gap;
    if (base + length > end) break;
    found.push({ base, length });
    at = base + length;
  }
  return found;
}
