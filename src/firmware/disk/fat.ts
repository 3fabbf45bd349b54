/**
 * FAT12, FAT16 and FAT32 with long names, read only (Microsoft's FAT specification of 2000, and its long names). Names
 * are found whatever their case.
 */
import type { FileSystem } from "./file-system.ts";
import { Folders } from "./folders.ts";
import { DiskError, isCutShort, type Medium, viewOf } from "./medium.ts";

const entryBytes = 32;
const Attribute = { label: 0x08, folder: 0x10, longName: 0x0f, mask: 0x3f } as const;
const folderBytesMax = 8 * 2 ** 20;
/** FAT32 of 16 million clusters. */
const tableBytesMax = 64 * 2 ** 20;
/** Above these a FAT is of the next kind, by the number of its clusters. */
const [fat12Clusters, fat16Clusters] = [4085, 65525];
const ended = { 12: 0xff8, 16: 0xfff8, 32: 0x0fff_fff8 } as const;

interface Entry {
  readonly name: string;
  readonly folder: boolean;
  readonly cluster: number;
  readonly size: number;
}

export class Fat implements FileSystem {
  readonly type = "vfat";
  readonly label: string;
  readonly uuid: string;
  /** Entries by name in lower case, of folders by their first cluster. */
  readonly #folders = new Folders<Entry>("FAT");
  readonly #bits: 12 | 16 | 32;
  readonly #clusterBytes: number;
  readonly #clusters: number;
  readonly #fat: DataView;
  readonly #dataAt: number;
  /** The root's first cluster; 0 where it lies before the clusters. */
  readonly #rootCluster: number;
  readonly #rootAt: number;
  readonly #rootBytes: number;

  /** Throws DiskError when the medium holds none. */
  constructor(readonly medium: Medium) {
    const boot = medium.read(0, 512).slice();
    const view = viewOf(boot);
    const sector = view.getUint16(11, true);
    const perCluster = boot[13]!;
    const fats = boot[16]!;
    const powerOfTwo = (value: number) => value > 0 && (value & (value - 1)) === 0;
    const whole = view.getUint16(510, true) === 0xaa55 && (boot[0] === 0xeb || boot[0] === 0xe9);
    if (!whole || !powerOfTwo(sector) || sector < 512 || sector > 4096) throw noFat();
    if (!powerOfTwo(perCluster) || fats < 1 || fats > 2) throw noFat();
    const reserved = view.getUint16(14, true);
    const fatSectors = view.getUint16(22, true) || view.getUint32(36, true);
    const sectors = view.getUint16(19, true) || view.getUint32(32, true);
    const rootSectors = Math.ceil((view.getUint16(17, true) * entryBytes) / sector);
    const dataSector = reserved + fats * fatSectors + rootSectors;
    if (reserved === 0 || fatSectors === 0 || dataSector > sectors) throw noFat();
    if (sectors * sector > medium.size) {
      throw new DiskError(`FAT: longer than its partition; ${isCutShort}`);
    }

    this.#clusterBytes = sector * perCluster;
    this.#clusters = Math.floor((sectors - dataSector) / perCluster);
    const wide = view.getUint16(22, true) === 0;
    this.#bits =
      wide || this.#clusters >= fat16Clusters ? 32 : this.#clusters < fat12Clusters ? 12 : 16;
    const fatBytes = Math.min(fatSectors * sector, (this.#clusters + 2) * 4);
    if (fatBytes > tableBytesMax) throw new DiskError(`FAT: a table of ${fatBytes} bytes`);
    this.#fat = viewOf(medium.read(reserved * sector, fatBytes));
    this.#dataAt = dataSector * sector;
    this.#rootAt = (reserved + fats * fatSectors) * sector;
    this.#rootBytes = rootSectors * sector;
    this.#rootCluster = this.#bits === 32 ? view.getUint32(44, true) : 0;
    const extra = this.#bits === 32 ? 67 : 39; // the serial number, then the label
    const serial = view.getUint32(extra, true).toString(16).toUpperCase().padStart(8, "0");
    this.uuid = `${serial.slice(0, 4)}-${serial.slice(4)}`;
    const told = new TextDecoder("latin1").decode(boot.subarray(extra + 4, extra + 15)).trimEnd();
    this.label = this.#rootLabel() ?? (told === "NO NAME" ? "" : told);
  }

  readFile(path: string, limit: number): Uint8Array | undefined {
    const entry = this.#find(path);
    if (!entry || entry.folder) return undefined;
    const { size, cluster } = entry;
    if (size > limit) throw new DiskError(`FAT: ${size} bytes, more than the ${limit} looked for`);
    const content = this.#chain(cluster, size);
    if (content.length < size) throw new DiskError(`FAT: ${path} is cut short`);
    return content.slice(0, size);
  }

  stat(path: string): { readonly folder: boolean; readonly size: number } | undefined {
    return this.#find(path);
  }

  list(path: string): string[] | undefined {
    const entry = this.#find(path);
    return entry?.folder ? [...this.#entries(entry).values()].map(({ name }) => name) : undefined;
  }

  #find(path: string): Entry | undefined {
    let entry: Entry = { name: "/", folder: true, cluster: this.#rootCluster, size: 0 };
    for (const name of this.#folders.names(path).filter((one) => one !== ".")) {
      if (!entry.folder) return undefined;
      const found = this.#entries(entry).get(name.toLowerCase());
      if (!found) return undefined;
      entry = found;
    }
    return entry;
  }

  #entries(folder: Entry): ReadonlyMap<string, Entry> {
    return this.#folders.entries(folder.cluster, (about) => {
      const bytes = this.#folder(folder);
      about(bytes.length);
      return this.#read(bytes);
    });
  }

  #folder({ cluster }: Entry): Uint8Array {
    if (cluster === 0) return this.medium.read(this.#rootAt, this.#rootBytes);
    return this.#chain(cluster, folderBytesMax);
  }

  /** The data of a chain of clusters, as far as it goes or `length` asks. */
  #chain(first: number, length: number): Uint8Array {
    const count = Math.ceil(length / this.#clusterBytes);
    const pieces: Uint8Array[] = [];
    for (let cluster = first; pieces.length < count; cluster = this.#next(cluster)) {
      if (cluster >= ended[this.#bits]) break;
      if (cluster < 2 || cluster >= this.#clusters + 2)
        throw new DiskError(`FAT: cluster ${cluster}`);
      if (pieces.length > this.#clusters) throw new DiskError("FAT: a chain that goes in circles");
      const at = this.#dataAt + (cluster - 2) * this.#clusterBytes;
      pieces.push(this.medium.read(at, this.#clusterBytes));
    }
    const all = new Uint8Array(pieces.length * this.#clusterBytes);
    for (const [i, piece] of pieces.entries()) all.set(piece, i * this.#clusterBytes);
    return all;
  }

  #next(cluster: number): number {
    const fat = this.#fat;
    const at = this.#bits === 12 ? Math.floor(cluster * 1.5) : (cluster * this.#bits) / 8;
    if (at + (this.#bits === 32 ? 4 : 2) > fat.byteLength) throw new DiskError("FAT: cut short");
    if (this.#bits === 32) return fat.getUint32(at, true) & 0x0fff_ffff;
    const value = fat.getUint16(at, true);
    if (this.#bits === 16) return value;
    return cluster % 2 === 0 ? value & 0xfff : value >>> 4;
  }

  #rootLabel(): string | undefined {
    const root = this.#folder({ name: "/", folder: true, cluster: this.#rootCluster, size: 0 });
    for (let at = 0; at + entryBytes <= root.length && root[at] !== 0; at += entryBytes) {
      const attribute = root[at + 11]! & Attribute.mask;
      if (root[at] === 0xe5 || attribute === Attribute.longName) continue;
      if ((attribute & Attribute.label) === 0) continue;
      return new TextDecoder("latin1").decode(root.slice(at, at + 11)).trimEnd();
    }
    return undefined;
  }

  /** A long name lies in entries before its short one, last part first. */
  *#read(bytes: Uint8Array): Iterable<[string, Entry]> {
    const view = viewOf(bytes);
    let long = "";
    for (let at = 0; at + entryBytes <= bytes.length && bytes[at] !== 0; at += entryBytes) {
      const attribute = bytes[at + 11]! & Attribute.mask;
      if (bytes[at] === 0xe5) {
        long = "";
        continue;
      }
      if (attribute === Attribute.longName) {
        long = longPart(bytes, at) + long;
        continue;
      }
      const name = long.split("\0")[0] || shortName(bytes, at);
      long = "";
      if (attribute & Attribute.label || name === "." || name === "..") continue;
      const high = this.#bits === 32 ? view.getUint16(at + 20, true) : 0;
      const entry = {
        name,
        folder: (attribute & Attribute.folder) !== 0,
        cluster: high * 0x1_0000 + view.getUint16(at + 26, true),
        size: view.getUint32(at + 28, true),
      };
      yield [name.toLowerCase(), entry];
    }
  }
}

const noFat = () => new DiskError("FAT: no boot sector");

/** 13 characters of UTF-16, in three places. */
function longPart(bytes: Uint8Array, at: number): string {
  const units = [
    ...bytes.subarray(at + 1, at + 11),
    ...bytes.subarray(at + 14, at + 26),
    ...bytes.subarray(at + 28, at + 32),
  ];
  return new TextDecoder("utf-16le").decode(Uint8Array.from(units));
}

/** "KERNEL  IMG", with the bits that say that a half is in lower case. */
function shortName(bytes: Uint8Array, at: number): string {
  const text = (from: number, to: number) =>
    new TextDecoder("latin1").decode(bytes.slice(at + from, at + to)).trimEnd();
  const flags = bytes[at + 12]!;
  const first = bytes[at] === 0x05 ? "\u00e5" : text(0, 1);
  const base = first + text(1, 8);
  const extension = text(8, 11);
  const shown = flags & 0x08 ? base.toLowerCase() : base;
  const end = flags & 0x10 ? extension.toLowerCase() : extension;
  return end === "" ? shown : `${shown}.${end}`;
}
