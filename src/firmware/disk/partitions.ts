/**
 * Partition tables: GPT (UEFI 2.10 section 5.3) and MBR (section 5.2.1, with the chain of logical partitions). Sectors
 * are 512 bytes; on disks made for 4096-byte sectors the GPT is found where it lies then.
 */
import { checkRange, DiskError, type Medium, viewOf } from "./medium.ts";

export interface Partition {
  /** From 1 on, as Linux counts: vda1 is number 1. */
  readonly number: number;
  /** In bytes. */
  readonly start: number;
  readonly size: number;
  /** GPT: the type's GUID in lower case. MBR: the type byte, "0x83". */
  readonly type: string;
  /** GPT: the partition's GUID. MBR: disk signature and number, "1a2b3c4d-01". Linux's PARTUUID. */
  readonly uuid: string;
  /** GPT alone; "" otherwise. */
  readonly name: string;
}

export interface PartitionTable {
  readonly kind: "gpt" | "mbr";
  readonly partitions: readonly Partition[];
}

const sectorBytes = 512;
const mbrSignature = 0xaa55;
const [entriesAt, entryBytes, signatureAt] = [446, 16, 510];
const protectiveType = 0xee;
const extendedTypes = [0x05, 0x0f, 0x85];
const highUnit = 0x1_0000_0000;
const gptEntriesMax = 1024;
const logicalMax = 128;
const unusedType = "00000000-0000-0000-0000-000000000000";

/** The table; undefined when there is none. Throws DiskError when it is broken. */
export function readPartitions(disk: Medium): PartitionTable | undefined {
  if (disk.size < sectorBytes) return undefined;
  const sector = disk.read(0, sectorBytes);
  const view = viewOf(sector);
  if (view.getUint16(signatureAt, true) !== mbrSignature) return undefined;
  const types = [0, 1, 2, 3].map((i) => sector[entriesAt + i * entryBytes + 4]!);
  if (types.includes(protectiveType)) return { kind: "gpt", partitions: readGpt(disk) };
  const partitions = readMbr(disk, view);
  return partitions.length === 0 ? undefined : { kind: "mbr", partitions };
}

/** A FAT's boot sector ends as an MBR does; its "entries" are text, and begin outside the disk. */
function readMbr(disk: Medium, view: DataView): Partition[] {
  const signature = view.getUint32(440, true).toString(16).padStart(8, "0");
  const found: Partition[] = [];
  const add = (number: number, type: number, startSector: number, sectors: number) => {
    const [start, size] = [startSector * sectorBytes, sectors * sectorBytes];
    if (start >= disk.size) return;
    const uuid = `${signature}-${number.toString(16).padStart(2, "0")}`;
    const shown = `0x${type.toString(16).padStart(2, "0")}`;
    found.push({ number, start, size, type: shown, uuid, name: "" });
  };
  for (let i = 0; i < 4; i++) {
    const at = entriesAt + i * entryBytes;
    const [flag, type] = [view.getUint8(at), view.getUint8(at + 4)];
    if (flag !== 0 && flag !== 0x80) return [];
    const [start, sectors] = [view.getUint32(at + 8, true), view.getUint32(at + 12, true)];
    if (type === 0 || sectors === 0) continue;
    if (extendedTypes.includes(type)) readLogical(disk, start, add);
    else add(i + 1, type, start, sectors);
  }
  return found.sort((a, b) => a.number - b.number);
}

/** The chain of an extended partition: each link has one partition and the way to the next. */
function readLogical(
  disk: Medium,
  base: number,
  add: (number: number, type: number, start: number, sectors: number) => void,
): void {
  let link = base;
  for (let number = 5; number < 5 + logicalMax; number++) {
    if ((link + 1) * sectorBytes > disk.size) return;
    const view = viewOf(disk.read(link * sectorBytes, sectorBytes));
    if (view.getUint16(signatureAt, true) !== mbrSignature) return;
    const type = view.getUint8(entriesAt + 4);
    const start = view.getUint32(entriesAt + 8, true);
    const sectors = view.getUint32(entriesAt + 12, true);
    if (type !== 0 && sectors > 0) add(number, type, link + start, sectors);
    const next = view.getUint32(entriesAt + entryBytes + 8, true);
    if (next === 0) return;
    link = base + next;
  }
}

/** By the header in front, or by the copy at the end where that is broken. */
function readGpt(disk: Medium): Partition[] {
  for (const sector of [sectorBytes, 4096]) {
    const places = [sector, disk.size - (disk.size % sector) - sector];
    for (const at of places) {
      const partitions = at > 0 ? gptAt(disk, at, sector) : undefined;
      if (partitions) return partitions;
    }
  }
  throw new DiskError("GPT: neither the header nor its copy is whole");
}

function gptAt(disk: Medium, at: number, sector: number): Partition[] | undefined {
  if (at + sectorBytes > disk.size) return undefined;
  const header = disk.read(at, sectorBytes).slice();
  const view = viewOf(header);
  const length = view.getUint32(12, true);
  if (new TextDecoder("latin1").decode(header.subarray(0, 8)) !== "EFI PART") return undefined;
  if (length < 92 || length > sectorBytes) return undefined;
  const told = view.getUint32(16, true);
  view.setUint32(16, 0, true);
  if (Bun.hash.crc32(header.subarray(0, length)) !== told) return undefined;
  const [count, size] = [view.getUint32(80, true), view.getUint32(84, true)];
  if (count > gptEntriesMax || size < 128 || size > 4096) {
    throw new DiskError(`GPT: ${count} entries of ${size} bytes`);
  }
  const start = u64(view, 72) * sector;
  checkRange(disk.size, start, count * size);
  const entries = disk.read(start, count * size);
  if (Bun.hash.crc32(entries) !== view.getUint32(88, true)) return undefined;
  return Array.from({ length: count }, (_, i) =>
    gptEntry(entries.slice(i * size, i * size + 128), i + 1, sector),
  ).filter((one) => one !== undefined);
}

function gptEntry(entry: Uint8Array, number: number, sector: number): Partition | undefined {
  const type = guid(entry, 0);
  if (type === unusedType) return undefined;
  const view = viewOf(entry);
  const [first, last] = [u64(view, 32), u64(view, 40)];
  if (last < first) throw new DiskError(`GPT: partition ${number} ends before it begins`);
  const name = new TextDecoder("utf-16le").decode(entry.subarray(56, 128)).split("\0")[0]!;
  const [start, size] = [first * sector, (last - first + 1) * sector];
  return { number, start, size, type, uuid: guid(entry, 16), name };
}

const u64 = (view: DataView, at: number): number =>
  view.getUint32(at + 4, true) * highUnit + view.getUint32(at, true);

/** The first three fields of a GUID are little-endian (UEFI 2.10, appendix A). */
function guid(bytes: Uint8Array, at: number): string {
  const view = viewOf(bytes);
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
  const tail = bytes.slice(at + 8, at + 16).toHex();
  const head = `${hex(view.getUint32(at, true), 8)}-${hex(view.getUint16(at + 4, true), 4)}`;
  return `${head}-${hex(view.getUint16(at + 6, true), 4)}-${tail.slice(0, 4)}-${tail.slice(4)}`;
}
