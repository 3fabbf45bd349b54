import type { AccessSize, BusDevice } from "../../bus/device.ts";

/**
 * A 2 or 4-byte access to 8-bit ports, as an ISA bus controller carries it out: one byte after another, lowest port
 * first (`outw` to 0x70 selects a CMOS register and writes it). `device.read` must serve size 1 itself.
 */
export function readByBytes(device: BusDevice, offset: number, size: AccessSize): number {
  let value = 0;
  for (let lane = 0; lane < size; lane++) value |= device.read(offset + lane, 1) << (8 * lane);
  return value >>> 0;
}

/** The same for a write. */
export function writeByBytes(
  device: BusDevice,
  offset: number,
  size: AccessSize,
  value: number,
): void {
  for (let lane = 0; lane < size; lane++) {
    device.write(offset + lane, 1, (value >>> (8 * lane)) & 0xff);
  }
}
