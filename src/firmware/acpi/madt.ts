/**
 * MADT: processors and interrupt controllers, ACPI 6.5 section 5.2.12.
 *
 * A processor's UID is its place in the list, as in the DSDT. PCAT_COMPAT is clear (there is no
 * 8259), and no interrupt source is overridden: ISA interrupts are the pins of the same number,
 * edge-triggered and active high.
 */
import { join, littleEndian } from "./aml.ts";
import type { AcpiCpu, AcpiPlatform } from "./platform.ts";
import { table } from "./table.ts";

/** Local APIC flags (table 5.22). A spare is not enabled, but may be enabled later by the OS. */
const cpuFlags = (cpu: AcpiCpu) => littleEndian(cpu.enabled ? 1 : 2, 4);

/**
 * APIC ids up to 254 have to be local APIC entries, those above local x2APIC entries (section
 * 5.2.12.12).
 */
const isX2apic = (cpu: AcpiCpu) => cpu.apicId >= 255;

/** Sections 5.2.12.2 (8 bytes) and 5.2.12.12 (16 bytes). */
function processor(cpu: AcpiCpu, uid: number): Uint8Array {
  return isX2apic(cpu)
    ? join(9, 16, 0, 0, littleEndian(cpu.apicId, 4), cpuFlags(cpu), littleEndian(uid, 4))
    : join(0, 8, uid, cpu.apicId, cpuFlags(cpu));
}

export function buildMadt({ cpus, localApicAddress, ioapic }: AcpiPlatform): Uint8Array {
  const noFlags = littleEndian(0, 4);
  const conforms = littleEndian(0, 2); // polarity and trigger mode as the bus has them
  const nmiPin = 1; // LINT1
  return table(
    "APIC",
    6,
    join(
      littleEndian(localApicAddress, 4),
      noFlags,
      ...cpus.map(processor),
      // I/O APIC, section 5.2.12.3
      ...[1, 12, ioapic.id, 0, littleEndian(ioapic.address, 4), littleEndian(ioapic.gsiBase, 4)],
      // Local APIC NMI of all processors, section 5.2.12.7
      ...[4, 6, 0xff, conforms, nmiPin],
      // Local x2APIC NMI of all processors, section 5.2.12.13
      ...(cpus.some(isX2apic)
        ? [10, 12, conforms, littleEndian(0xffff_ffff, 4), nmiPin, 0, 0, 0]
        : []),
    ),
  );
}
