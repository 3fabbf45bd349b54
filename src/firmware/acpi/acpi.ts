/**
 * The ACPI tables of a machine, ready to be written to guest RAM. Hardware-reduced ACPI, ACPI 6.5
 * chapters 4 and 5.
 */
import { addr, bytes, struct, u8, u32 } from "../../ffi/struct.ts";
import { ascii, type Term } from "./aml.ts";
import { buildDsdt, buildXsdt, encodeBoard, portDevice } from "./dsdt.ts";
import { buildFadt, withDsdt } from "./fadt.ts";
import { buildMadt } from "./madt.ts";
import { buildMcfg } from "./mcfg.ts";
import type { AcpiBoard, AcpiPlatform } from "./platform.ts";
import { checksum, oemId } from "./table.ts";
import { buildWdat } from "./wdat.ts";

/** Root system description pointer, section 5.2.5.3. */
export const Rsdp = struct(
  "ACPI RSDP",
  36,
  {
    signature: bytes(8),
    checksum: u8,
    oemId: bytes(6),
    revision: u8,
    rsdtAddress: u32,
    length: u32,
    xsdtAddress: addr,
    extendedChecksum: u8,
    reserved: bytes(3),
  },
  { packed: true },
);

/** A table and the guest-physical address that it must be written to. */
export interface FirmwareBlob {
  /** "RSDP", "XSDT", "FACP", … */
  readonly name: string;
  readonly address: number;
  readonly data: Uint8Array;
}

export interface AcpiTables {
  readonly rsdpAddress: number;
  readonly blobs: readonly FirmwareBlob[];
  /** First address behind the last table. */
  readonly end: number;
}

function buildRsdp(xsdtAddress: number): Uint8Array {
  const rsdp = new Rsdp();
  const data = new Uint8Array(rsdp.view.buffer);
  rsdp.signature = ascii("RSD PTR ");
  rsdp.oemId = oemId;
  rsdp.revision = 2;
  rsdp.length = Rsdp.size;
  rsdp.xsdtAddress = xsdtAddress;
  rsdp.checksum = checksum(data.subarray(0, 20)); // the part that ACPI 1.0 defined
  rsdp.extendedChecksum = checksum(data);
  return data;
}

function check(platform: AcpiPlatform): void {
  const { cpus, tablesEnd, rsdpAddress, ioapic, serial, rtc, pci = [] } = platform;
  const { virtioMmio = [] } = platform;
  if (!cpus.some((cpu) => cpu.enabled)) throw new RangeError("ACPI: no processor is enabled");
  // Linux drops an x2APIC entry of a small id beside local APIC entries, and a UID must fit a byte
  // in the latter: ascending ids (so a UID is never above its APIC id) keep clear of both.
  let last = -1;
  for (const { apicId } of cpus) {
    if (!(apicId > last)) throw new RangeError(`ACPI: APIC id ${apicId} after ${last}`);
    last = apicId;
  }
  if (cpus.length > 0x1000) throw new RangeError(`ACPI: ${cpus.length} processors, at most 4096`);
  const wires: ({ readonly gsi: number } | undefined)[] = [serial, rtc, ...virtioMmio];
  for (const { interrupts } of pci) wires.push(...interrupts);
  for (const wired of wires) {
    const pin = (wired?.gsi ?? ioapic.gsiBase) - ioapic.gsiBase;
    if (!(pin >= 0 && pin < ioapic.pins)) {
      throw new RangeError(`ACPI: GSI ${wired?.gsi} is not a pin of the I/O APIC`);
    }
  }
  if (rsdpAddress % 16 !== 0) throw new RangeError("ACPI: the RSDP is not on a 16-byte boundary");
  if (tablesEnd > 0x1_0000_0000) throw new RangeError("ACPI: the tables end above 4 GiB");
}

/** What of the tables is the same in all machines of one kind. */
export interface AcpiCommon {
  /** The board's devices. */
  readonly board: Term;
  /** The serial port of those that have one. */
  readonly serial: Term | undefined;
  /** Without its DSDT. */
  readonly fadt: Uint8Array;
  readonly mcfg: Uint8Array | undefined;
}

export function encodeCommon(kind: AcpiBoard & Pick<AcpiPlatform, "serial">): AcpiCommon {
  const { serial, pci } = kind;
  return {
    board: encodeBoard(kind),
    serial: serial && portDevice("COM1", "PNP0501", serial),
    fadt: buildFadt(kind),
    mcfg: pci?.length ? buildMcfg(pci) : undefined,
  };
}

/**
 * Throws a RangeError if the tables do not fit between their bounds, or the platform contradicts
 * itself. `common`: what `encodeCommon` has made of its kind, where that is known.
 */
export function buildAcpi(platform: AcpiPlatform, common = encodeCommon(platform)): AcpiTables {
  check(platform);
  const { rsdpAddress, tablesAddress, tablesEnd } = platform;
  const rsdpEnd = rsdpAddress + Rsdp.size;
  const blobs: FirmwareBlob[] = [];
  let end = tablesAddress;
  const place = (name: string, data: Uint8Array): number => {
    let address = Math.ceil(end / 16) * 16;
    // The RSDP may lie inside the range of the tables: what would cross it goes behind it.
    if (address < rsdpEnd && address + data.length > rsdpAddress) {
      address = Math.ceil(rsdpEnd / 16) * 16;
    }
    end = address + data.length;
    if (end > tablesEnd) {
      const room = `0x${tablesAddress.toString(16)}-0x${tablesEnd.toString(16)}`;
      throw new RangeError(`ACPI tables: the ${name} of ${data.length} bytes ends beyond ${room}`);
    }
    blobs.push({ name, address, data });
    return address;
  };

  const serial = platform.serial && common.serial;
  const dsdt = place("DSDT", buildDsdt(platform, common.board, serial));
  const listed = [
    place("FACP", withDsdt(common.fadt, dsdt)),
    place("APIC", buildMadt(platform)),
    ...(common.mcfg ? [place("MCFG", common.mcfg)] : []),
    ...(platform.watchdog ? [place("WDAT", buildWdat(platform.watchdog))] : []),
  ];
  const xsdt = place("XSDT", buildXsdt(listed));
  blobs.push({ name: "RSDP", address: rsdpAddress, data: buildRsdp(xsdt) });
  return { rsdpAddress, blobs, end: Math.max(end, rsdpEnd) };
}
