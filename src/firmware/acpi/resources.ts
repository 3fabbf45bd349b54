/**
 * Resource descriptors and the templates made of them, for `_CRS`: ACPI 6.5 section 6.4. All ranges
 * are fixed, decoded as 16-bit ports or read-write memory. Not built: DMA, GPIO, serial buses,
 * dependent functions.
 */
import { buffer, join, littleEndian, type Term } from "./aml.ts";

/** A range: first address or number, and how many. */
export interface Range {
  readonly start: number;
  readonly length: number;
}

/**
 * A ResourceTemplate: the descriptors and the end tag, in a buffer. A checksum of 0 is "not
 * computed".
 */
export const resources = (...descriptors: readonly Uint8Array[]): Term =>
  buffer(join(...descriptors, 0x79, 0x00));

/** I/O ports, at most 255 (section 6.4.2.5). */
export const io = ({ start, length }: Range): Term =>
  join(
    ...[0x47, 0x01],
    littleEndian(start, 2),
    littleEndian(start, 2),
    0x01, // alignment
    littleEndian(length, 1),
  );

/** Interrupts of the ISA bus, 0 to 15: edge-triggered, active high, exclusive (section 6.4.2.1). */
export function irqNoFlags(...lines: readonly number[]): Term {
  let mask = 0;
  for (const line of lines) mask |= 1 << line;
  return join(0x22, littleEndian(mask, 2));
}

export interface InterruptFlags {
  /** Level-triggered; else edge-triggered. */
  readonly level?: boolean;
  /** Active low; else active high. */
  readonly low?: boolean;
  readonly shared?: boolean;
  readonly wake?: boolean;
}

/** Global system interrupts that the device consumes (section 6.4.3.6). */
export function interrupt(gsis: readonly number[], flags: InterruptFlags = {}): Term {
  const { level = false, low = false, shared = false, wake = false } = flags;
  const bits =
    0x01 | (level ? 0 : 0x02) | (low ? 0x04 : 0) | (shared ? 0x08 : 0) | (wake ? 0x10 : 0);
  return join(
    0x89,
    littleEndian(2 + 4 * gsis.length, 2),
    bits,
    littleEndian(gsis.length, 1),
    ...gsis.map((gsi) => littleEndian(gsi, 4)),
  );
}

/** Memory below 4 GiB that the device decodes itself (section 6.4.3.4). */
export const memory32Fixed = ({ start, length }: Range, writable = true): Term =>
  join(...[0x86, 0x09, 0x00, writable ? 1 : 0], littleEndian(start, 4), littleEndian(length, 4));

/** What an address space descriptor is about (section 6.4.3.5). */
const AddressType = { memory: 0, io: 1, bus: 2 } as const;

export interface AddressFlags {
  /** Decoded by the device itself; else a bridge hands the range on to what lies behind it. */
  readonly consumer?: boolean;
  /** Memory that may be prefetched from; else it is not cacheable. */
  readonly prefetchable?: boolean;
}

/**
 * An address space, minimum and maximum fixed, positively decoded. `size` is that of each number in
 * bytes: 2, 4 or 8.
 */
function addressSpace(
  size: 2 | 4 | 8,
  type: number,
  typeFlags: number,
  { start, length }: Range,
  { consumer = false }: AddressFlags = {},
): Term {
  if (!(length > 0)) throw new RangeError("ACPI: an address space of no length");
  const tag = { 2: 0x88, 4: 0x87, 8: 0x8a }[size];
  const fixedRange = 0x0c; // _MIF and _MAF
  return join(
    tag,
    littleEndian(3 + 5 * size, 2),
    ...[type, fixedRange | (consumer ? 0x01 : 0), typeFlags],
    littleEndian(0, size), // granularity
    littleEndian(start, size),
    littleEndian(start + length - 1, size),
    littleEndian(0, size), // translation
    littleEndian(length, size),
  );
}

export const wordBusNumber = (range: Range): Term => addressSpace(2, AddressType.bus, 0, range);
/** Ports, ISA and non-ISA (the entire range). */
export const wordIo = (range: Range): Term => addressSpace(2, AddressType.io, 0x03, range);

/**
 * Memory flags (section 6.4.3.5.5): bit 0 read-write, bits 2:1 cacheability, 3 of which is
 * "prefetchable".
 */
const memoryFlags = ({ prefetchable = false }: AddressFlags) => (prefetchable ? 0x07 : 0x01);

export const dwordMemory = (range: Range, flags: AddressFlags = {}): Term =>
  addressSpace(4, AddressType.memory, memoryFlags(flags), range, flags);
export const qwordMemory = (range: Range, flags: AddressFlags = {}): Term =>
  addressSpace(8, AddressType.memory, memoryFlags(flags), range, flags);
