/**
 * The MP table, for guests without ACPI (`acpi=off`): MultiProcessor Specification 1.4 (May 1997),
 * chapter 4.
 *
 * The floating pointer must lie where the OS looks for it: the first KiB of the EBDA or the last
 * KiB of conventional memory (0x9fc00), or 0xf0000 to 0xfffff. The configuration table may be
 * anywhere that the memory map reserves; with 254 processors it is over 5 KiB long. There is no
 * 8259 and so no PIC mode (IMCRP is clear).
 */
import { array, bytes, struct, u8, u16, u32 } from "../ffi/struct.ts";
import { ascii } from "./acpi/aml.ts";
import { checksum } from "./acpi/table.ts";

export const MpFloatingPointer = struct(
  "MP floating pointer",
  16,
  {
    signature: bytes(4),
    tableAddress: u32,
    length: u8,
    revision: u8,
    checksum: u8,
    features: bytes(5),
  },
  { packed: true },
);

export const MpHeader = struct(
  "MP configuration table header",
  44,
  {
    signature: bytes(4),
    length: u16,
    revision: u8,
    checksum: u8,
    oemId: bytes(8),
    productId: bytes(12),
    oemTable: u32,
    oemTableSize: u16,
    entryCount: u16,
    localApicAddress: u32,
    extendedLength: u16,
    extendedChecksum: u8,
    reserved: u8,
  },
  { packed: true },
);

export const MpProcessor = struct("MP processor entry", 20, {
  type: u8,
  apicId: u8,
  apicVersion: u8,
  flags: u8,
  signature: u32,
  features: u32,
  reserved: array(u32, 2),
});

export const MpBus = struct("MP bus entry", 8, { type: u8, id: u8, name: bytes(6) });

export const MpIoapic = struct("MP I/O APIC entry", 8, {
  type: u8,
  id: u8,
  version: u8,
  flags: u8,
  address: u32,
});

/** Of an I/O APIC's pin (type 3) and of a local APIC's (type 4) alike. */
export const MpInterrupt = struct("MP interrupt entry", 8, {
  type: u8,
  kind: u8,
  flags: u16,
  bus: u8,
  busIrq: u8,
  apicId: u8,
  pin: u8,
});

/** What an interrupt entry delivers (table 4-10). */
const Kind = { int: 0, nmi: 1, extInt: 3 } as const;

/**
 * Polarity active low (bits 1:0) and level-triggered (bits 3:2), as PCI has it; 0 is "as the bus
 * has it".
 */
const levelLow = 0x0f;

const specRevision = 4; // 1.4
const allApics = 0xff;

export interface MpPciInterrupt {
  readonly bus: number;
  readonly device: number;
  /** 0 is INTA, 3 is INTD. */
  readonly pin: number;
  /** Pin of the I/O APIC. */
  readonly ioapicPin: number;
}

export interface MpPlatform {
  /** Where the floating pointer goes: on a 16-byte boundary. */
  readonly pointerAddress: number;
  /** Where the configuration table goes; right behind the pointer if left out. */
  readonly tableAddress?: number;
  /** The table must end here at the latest. */
  readonly tableEnd?: number;
  /**
   * Present processors, the boot processor first. Ids above 254 cannot be told in this table and
   * are left out.
   */
  readonly cpus: readonly { readonly apicId: number }[];
  /** CPUID leaf 1, EAX and EDX, for all processors. */
  readonly cpuSignature?: number;
  readonly cpuFeatures?: number;
  readonly localApicAddress: number;
  readonly ioapic: { readonly id: number; readonly address: number };
  /**
   * ISA interrupts that have a pin: the pin of the same number. Leave out 0 and 2, where there is
   * no timer or 8259.
   */
  readonly isaInterrupts: readonly number[];
  /** The PCI buses that there are; their interrupts. */
  readonly pciBuses?: readonly number[];
  readonly pciInterrupts?: readonly MpPciInterrupt[];
}

export interface MpTable {
  readonly blobs: readonly { readonly address: number; readonly data: Uint8Array }[];
  /** First address behind the configuration table. */
  readonly end: number;
}

const bytesOf = (entry: { view: DataView }) => new Uint8Array(entry.view.buffer);

/** A struct with these values, as bytes. */
function entry<T extends { view: DataView; at: number }>(type: new () => T, values: Partial<T>) {
  return bytesOf(Object.assign(new type(), values));
}

function entries(platform: MpPlatform): Uint8Array[] {
  const { ioapic, cpus, pciBuses = [], pciInterrupts = [] } = platform;
  const isaBus = pciBuses.length === 0 ? 0 : Math.max(...pciBuses) + 1;
  if (isaBus > 255) throw new RangeError("MP table: PCI bus 255 leaves no number for the ISA bus");
  const bus = (id: number, name: string) =>
    entry(MpBus, { type: 1, id, name: ascii(name.padEnd(6)) });
  const isa = { bus: isaBus, apicId: ioapic.id, flags: 0 };
  const lint = { type: 4, flags: 0, bus: isaBus, busIrq: 0, apicId: allApics };
  const apicVersion = 0x14;
  return [
    ...cpus
      .filter(({ apicId }) => apicId < allApics)
      .map(({ apicId }, at) =>
        entry(MpProcessor, {
          type: 0,
          apicId,
          apicVersion,
          flags: at === 0 ? 0x03 : 0x01, // enabled, and the boot processor
          signature: platform.cpuSignature ?? 0,
          features: platform.cpuFeatures ?? 0x201, // FPU and APIC
        }),
      ),
    ...pciBuses.map((id) => bus(id, "PCI")),
    bus(isaBus, "ISA"),
    entry(MpIoapic, { type: 2, id: ioapic.id, version: 0x11, flags: 1, address: ioapic.address }),
    ...platform.isaInterrupts.map((irq) =>
      entry(MpInterrupt, { type: 3, kind: Kind.int, ...isa, busIrq: irq, pin: irq }),
    ),
    ...pciInterrupts.map(({ bus: number, device, pin, ioapicPin }) =>
      entry(MpInterrupt, {
        ...{ type: 3, kind: Kind.int, flags: levelLow, bus: number },
        ...{ busIrq: (device << 2) | pin, apicId: ioapic.id, pin: ioapicPin },
      }),
    ),
    entry(MpInterrupt, { ...lint, kind: Kind.extInt, pin: 0 }),
    entry(MpInterrupt, { ...lint, kind: Kind.nmi, pin: 1 }),
  ];
}

/** Throws a RangeError if the table does not fit, or cannot say what the platform is. */
export function buildMpTable(platform: MpPlatform): MpTable {
  const { pointerAddress, tableAddress = pointerAddress + MpFloatingPointer.size } = platform;
  if (pointerAddress % 16 !== 0) {
    throw new RangeError("MP table: the floating pointer is not on a 16-byte boundary");
  }
  if (!((platform.cpus[0]?.apicId ?? allApics) < allApics)) {
    throw new RangeError("MP table: no boot processor with an APIC id below 255");
  }
  const parts = entries(platform);
  const length = MpHeader.size + parts.reduce((sum, part) => sum + part.length, 0);
  const end = tableAddress + length;
  if (length > 0xffff || end > (platform.tableEnd ?? 0x1_0000_0000)) {
    throw new RangeError(`MP table: ${length} bytes at 0x${tableAddress.toString(16)} do not fit`);
  }

  const data = new Uint8Array(length);
  const header = new MpHeader(data.buffer);
  header.signature = ascii("PCMP");
  header.length = length;
  header.revision = specRevision;
  header.oemId = ascii("CHV     ");
  header.productId = ascii("CHV         ");
  header.entryCount = parts.length;
  header.localApicAddress = platform.localApicAddress;
  let at = MpHeader.size;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  header.checksum = checksum(data);

  const pointer = new MpFloatingPointer();
  pointer.signature = ascii("_MP_");
  pointer.tableAddress = tableAddress;
  pointer.length = 1; // in units of 16 bytes
  pointer.revision = specRevision;
  pointer.checksum = checksum(bytesOf(pointer));
  return {
    blobs: [
      { address: pointerAddress, data: bytesOf(pointer) },
      { address: tableAddress, data },
    ],
    end,
  };
}
