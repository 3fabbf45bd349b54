/**
 * Makes a small FAT12 volume in memory: files in the root folder, with long names (Microsoft, "FAT: General Overview of
 * On-Disk Format", 2000, and its section on long names). Every file lies in one piece; nothing depends on the time.
 */
import { viewOf } from "../../firmware/disk/medium.ts";

export interface SeedFile {
  readonly name: string;
  readonly content: Uint8Array;
}

const sectorBytes = 512;
const entryBytes = 32;
const reservedSectors = 1;
const fatCount = 2;
/** As many entries as a FAT12 volume of a floppy disk has. */
const rootEntries = 112;
const rootSectors = (rootEntries * entryBytes) / sectorBytes;
/** A volume with this many clusters or more is FAT16. */
const clustersMax = 4084;
const media = 0xf8;
const sectorsPerTrack = 32;
const heads = 2;
const endOfChain = 0xfff;
/** 1 January 1980. */
const date = 0x0021;
const Attribute = { readOnly: 0x01, label: 0x08, longName: 0x0f } as const;
const partChars = 13;
const lastPart = 0x40;

/** The volume; `label` is one of at most 11 characters, `serial` its 32-bit number. Throws RangeError. */
export function fatVolume(label: string, serial: number, files: readonly SeedFile[]): Uint8Array {
  let perCluster = 1;
  // one is free; and whole tracks, up to which the volume is filled, are more clusters than the files need
  const clustersFor = () => clustersOf(files, perCluster) + 1;
  while (clustersFor() + sectorsPerTrack > clustersMax) perCluster *= 2;
  if (perCluster > 128) throw new RangeError("more than a FAT12 volume holds");
  const clusters = clustersFor();
  const fatSectors = Math.ceil(((clusters + sectorsPerTrack + 2) * 1.5) / sectorBytes);
  const dataSector = reservedSectors + fatCount * fatSectors + rootSectors;
  const used = dataSector + clusters * perCluster;
  const sectors = Math.ceil(used / sectorsPerTrack) * sectorsPerTrack;
  const volume = new Uint8Array(sectors * sectorBytes);
  writeBootSector(volume, { label, serial, perCluster, fatSectors, sectors });

  const fat = new Uint8Array(fatSectors * sectorBytes);
  link(fat, 0, 0xf00 + media);
  link(fat, 1, endOfChain);
  const root = new Folder(
    volume.subarray((dataSector - rootSectors) * sectorBytes, dataSector * sectorBytes),
  );
  root.addLabel(label);
  let next = 2;
  for (const { name, content } of files) {
    const count = Math.ceil(content.length / (perCluster * sectorBytes));
    root.addFile(name, count === 0 ? 0 : next, content.length);
    volume.set(content, (dataSector + (next - 2) * perCluster) * sectorBytes);
    for (let i = 1; i < count; i++) link(fat, next++, next);
    if (count > 0) link(fat, next++, endOfChain);
  }
  for (let i = 0; i < fatCount; i++) {
    volume.set(fat, (reservedSectors + i * fatSectors) * sectorBytes);
  }
  return volume;
}

const clustersOf = (files: readonly SeedFile[], perCluster: number): number =>
  files.reduce(
    (sum, { content }) => sum + Math.ceil(content.length / (perCluster * sectorBytes)),
    0,
  );

interface Layout {
  readonly label: string;
  readonly serial: number;
  readonly perCluster: number;
  readonly fatSectors: number;
  readonly sectors: number;
}

/** The BIOS parameter block, and its FAT12 extension from offset 36 on. */
function writeBootSector(volume: Uint8Array, layout: Layout): void {
  const view = viewOf(volume);
  volume.set([0xeb, 0x3c, 0x90]);
  putText(volume, 3, "chv", 8);
  view.setUint16(11, sectorBytes, true);
  view.setUint8(13, layout.perCluster);
  view.setUint16(14, reservedSectors, true);
  view.setUint8(16, fatCount);
  view.setUint16(17, rootEntries, true);
  const small = layout.sectors < 0x1_0000;
  view.setUint16(19, small ? layout.sectors : 0, true);
  view.setUint8(21, media);
  view.setUint16(22, layout.fatSectors, true);
  view.setUint16(24, sectorsPerTrack, true);
  view.setUint16(26, heads, true);
  view.setUint32(32, small ? 0 : layout.sectors, true);
  view.setUint8(36, 0x80);
  view.setUint8(38, 0x29); // serial number, label and type follow
  view.setUint32(39, layout.serial, true);
  putText(volume, 43, layout.label, 11);
  putText(volume, 54, "FAT12", 8);
  volume.set([0xf4, 0xeb, 0xfd], 62); // hlt, and again: nobody boots from it
  view.setUint16(510, 0xaa55, true);
}

function putText(bytes: Uint8Array, at: number, text: string, length: number): void {
  for (let i = 0; i < length; i++) bytes[at + i] = i < text.length ? text.charCodeAt(i) : 0x20;
}

/** Entries of 12 bits, two in three bytes. */
function link(fat: Uint8Array, cluster: number, value: number): void {
  const at = Math.floor(cluster * 1.5);
  if (cluster % 2 === 0) {
    fat[at] = value & 0xff;
    fat[at + 1] = (fat[at + 1]! & 0xf0) | (value >>> 8);
  } else {
    fat[at] = (fat[at]! & 0x0f) | ((value << 4) & 0xf0);
    fat[at + 1] = value >>> 4;
  }
}

/** The root folder: every name is a long one, before a short one that is made up. */
class Folder {
  #at = 0;
  #files = 0;

  constructor(readonly bytes: Uint8Array) {}

  addLabel(label: string): void {
    const at = this.#entry();
    putText(this.bytes, at, label, 11);
    this.bytes[at + 11] = Attribute.label;
    viewOf(this.bytes).setUint16(at + 24, date, true);
  }

  addFile(name: string, cluster: number, size: number): void {
    const stem = name
      .toUpperCase()
      .replaceAll(/[^A-Z0-9-]/g, "")
      .slice(0, 5);
    const short = `${stem}~${++this.#files}`.padEnd(11);
    this.#addLongName(name, checksum(short));
    const at = this.#entry();
    const view = viewOf(this.bytes);
    putText(this.bytes, at, short, 11);
    this.bytes[at + 11] = Attribute.readOnly;
    for (const field of [16, 18, 24]) view.setUint16(at + field, date, true);
    view.setUint16(at + 26, cluster, true);
    view.setUint32(at + 28, size, true);
  }

  /** In parts of 13 UTF-16 characters, the last first. */
  #addLongName(name: string, sum: number): void {
    const parts = Math.ceil(name.length / partChars);
    for (let part = parts; part > 0; part--) {
      const at = this.#entry();
      const view = viewOf(this.bytes);
      view.setUint8(at, part === parts ? part | lastPart : part);
      view.setUint8(at + 11, Attribute.longName);
      view.setUint8(at + 13, sum);
      for (let i = 0; i < partChars; i++) {
        const index = (part - 1) * partChars + i;
        const unit =
          index < name.length ? name.charCodeAt(index) : index === name.length ? 0 : 0xffff;
        view.setUint16(at + (i < 5 ? 1 + 2 * i : i < 11 ? 4 + 2 * i : 6 + 2 * i), unit, true);
      }
    }
  }

  #entry(): number {
    const at = this.#at;
    this.#at += entryBytes;
    if (this.#at > this.bytes.length) throw new RangeError("more files than the root folder holds");
    return at;
  }
}

/** Of a short name, as it stands in the entries of its long one. */
function checksum(short: string): number {
  let sum = 0;
  for (let i = 0; i < 11; i++) {
    sum = (((sum & 1) << 7) + (sum >>> 1) + short.charCodeAt(i)) & 0xff;
  }
  return sum;
}
