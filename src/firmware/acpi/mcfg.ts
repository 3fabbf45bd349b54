/**
 * MCFG: where the memory-mapped PCI configuration space is. PCI Firmware Specification 3.3, section
 * 4.1.2: eight reserved bytes, then 16 bytes for each segment.
 */
import { join, littleEndian } from "./aml.ts";
import type { AcpiPciSegment } from "./platform.ts";
import { table } from "./table.ts";

export function buildMcfg(segments: readonly AcpiPciSegment[]): Uint8Array {
  const entries = segments.map(({ segment, startBus, endBus, mmconfig }) =>
    join(littleEndian(mmconfig, 8), littleEndian(segment, 2), startBus, endBus, littleEndian(0, 4)),
  );
  return table("MCFG", 1, join(littleEndian(0, 8), ...entries));
}
