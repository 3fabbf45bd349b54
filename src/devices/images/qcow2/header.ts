/**
 * Reads and checks the header of a qcow2 image (docs/interop/qcow2.rst, "Header", "Header extensions"). What this
 * program does not know how to serve is refused by name; nothing in the header is believed before it is checked.
 */
import { ImageError, plain } from "../image-error.ts";
import {
  Extension,
  entryBytes,
  HeaderAt,
  highUnit,
  Incompatible,
  maxBackingName,
  maxBytes,
  maxClusterBits,
  maxL1Bytes,
  maxRefcountOrder,
  maxRefcountTableBytes,
  minClusterBits,
  qcow2Magic,
  version2Length,
  version3Length,
} from "./format.ts";

export interface Qcow2Header {
  readonly version: number;
  readonly clusterBits: number;
  /** Size of the disk. */
  readonly bytes: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
  readonly refcountsOffset: number;
  readonly refcountsClusters: number;
  /** A refcount has 2^refcountOrder bits. */
  readonly refcountOrder: number;
  readonly compression: "deflate" | "zstd";
  /** The image was not closed: its refcounts may be wrong. */
  readonly dirty: boolean;
  readonly corrupt: boolean;
  /** Auto-clear feature bits are set. */
  readonly autoclear: boolean;
  readonly backing: BackingName | undefined;
}

export interface BackingName {
  readonly name: string;
  /** As the header says; undefined where it does not. */
  readonly format: string | undefined;
}

/** Reads `length` bytes of the image; what lies behind its end reads as zeroes. */
export type ReadBytes = (offset: number, length: number) => Uint8Array;

const broken = (what: string) =>
  new ImageError(`a broken qcow2 image: ${what}; restore it from a copy`);
const unserved = (what: string) =>
  new ImageError(`${what}, which chv does not serve; convert it with qemu-img convert`);

const cryptMethods = ["", "AES", "LUKS"];
const compressions = ["deflate", "zstd"] as const;
/** Names of features that are known and not served; the others may have one in the image. */
const featureNames: Record<number, string> = {
  [Incompatible.dataFile]: "an external data file",
  [Incompatible.extendedL2]: "extended L2 entries (subclusters)",
};

/** Throws ImageError. `fileBytes` is the size of the image file. */
export function readHeader(read: ReadBytes, fileBytes: number): Qcow2Header {
  const fixed = new Fields(read(0, 112));
  if (fileBytes < version2Length) throw broken("it ends within its header");
  if (fixed.u32(0) !== qcow2Magic)
    throw new ImageError("no qcow2 image; leave image_type= out, or name the right one");
  const version = fixed.u32(HeaderAt.version);
  if (version !== 2 && version !== 3) throw unserved(`a qcow2 image of version ${version}`);
  const clusterBits = fixed.u32(HeaderAt.clusterBits);
  if (clusterBits < minClusterBits || clusterBits > maxClusterBits) {
    throw broken(`cluster_bits is ${clusterBits}, not ${minClusterBits} to ${maxClusterBits}`);
  }
  const clusterBytes = 2 ** clusterBits;
  const modern = version === 3;
  const length = modern ? fixed.u32(HeaderAt.headerLength) : version2Length;
  if (modern && (length < version3Length || length % 8 !== 0 || length > clusterBytes)) {
    throw broken(`header_length is ${length}`);
  }
  const cluster = new Fields(read(0, clusterBytes));
  const extensions = readExtensions(cluster, length);
  const { dirty, corrupt, compressionBit } = modern
    ? readFeatures(cluster, extensions.featureNames)
    : { dirty: false, corrupt: false, compressionBit: false };
  checkCrypt(cluster.u32(HeaderAt.cryptMethod));
  const refcountOrder = modern ? cluster.u32(HeaderAt.refcountOrder) : 4;
  if (refcountOrder > maxRefcountOrder) throw broken(`refcount_order is ${refcountOrder}`);
  return {
    ...{ version, clusterBits, refcountOrder, dirty, corrupt },
    ...readTables(cluster, clusterBytes, fileBytes),
    compression: readCompression(cluster, length, compressionBit),
    autoclear:
      modern && (cluster.u32(HeaderAt.autoclear) | cluster.u32(HeaderAt.autoclear + 4)) !== 0,
    backing: readBacking(cluster, clusterBytes, extensions.backingFormat),
  };
}

/** Where the L1 table and the refcount table are; both lie whole in the file. */
function readTables(header: Fields, clusterBytes: number, fileBytes: number) {
  const bytes = header.u64(HeaderAt.bytes);
  const l1Entries = header.u32(HeaderAt.l1Entries);
  const l1Offset = header.u64(HeaderAt.l1Offset);
  const refcountsOffset = header.u64(HeaderAt.refcountsOffset);
  const refcountsClusters = header.u32(HeaderAt.refcountsClusters);
  if (bytes > maxBytes) throw unserved("a disk of more than 4 PiB");
  const covered = clusterBytes * (clusterBytes / entryBytes);
  if (l1Entries < Math.ceil(bytes / covered))
    throw broken("its L1 table is too small for its size");
  const l1Bytes = l1Entries * entryBytes;
  if (l1Bytes > maxL1Bytes) throw broken(`an L1 table of ${l1Entries} entries`);
  const outside = (offset: number, length: number) =>
    offset % clusterBytes !== 0 || offset === 0 || offset + length > fileBytes;
  if (l1Bytes > 0 && outside(l1Offset, l1Bytes)) throw broken("its L1 table lies outside the file");
  const refcountsBytes = refcountsClusters * clusterBytes;
  if (refcountsBytes === 0) throw broken("it has no refcount table");
  if (refcountsBytes > maxRefcountTableBytes) {
    throw broken(`a refcount table of ${refcountsClusters} clusters`);
  }
  if (outside(refcountsOffset, refcountsBytes)) {
    throw broken("its refcount table lies outside the file");
  }
  return { bytes, l1Entries, l1Offset, refcountsOffset, refcountsClusters };
}

function checkCrypt(method: number): void {
  if (method === 0) return;
  throw unserved(`an encrypted qcow2 image (${cryptMethods[method] ?? `method ${method}`})`);
}

function readFeatures(header: Fields, names: ReadonlyMap<number, string>) {
  const [high, low] = [
    header.u32(HeaderAt.incompatible),
    header.u32(HeaderAt.incompatible + 4),
  ] as const;
  const has = (bit: number) => ((bit < 32 ? low >>> bit : high >>> (bit - 32)) & 1) === 1;
  const { dirty, corrupt, compressionType } = Incompatible;
  for (let bit = 0; bit < 64; bit++) {
    if (!has(bit) || bit === dirty || bit === corrupt || bit === compressionType) continue;
    const name = featureNames[bit] ?? names.get(bit) ?? `incompatible feature ${bit}`;
    throw unserved(`a qcow2 image with ${name}`);
  }
  return { dirty: has(dirty), corrupt: has(corrupt), compressionBit: has(compressionType) };
}

function readCompression(header: Fields, length: number, bit: boolean): "deflate" | "zstd" {
  const present = length > HeaderAt.compressionType;
  const type = present ? header.bytes[HeaderAt.compressionType]! : 0;
  if (bit !== (type !== 0)) throw broken(`compression type ${type} and its feature bit disagree`);
  const name = compressions[type];
  if (name === undefined) throw unserved(`a qcow2 image with compression type ${type}`);
  return name;
}

/** Section "Header extensions", and "Feature name table". */
function readExtensions(header: Fields, start: number) {
  let backingFormat: string | undefined;
  const names = new Map<number, string>();
  const end = header.bytes.length;
  for (let at = start; at + 8 <= end; ) {
    const [type, length] = [header.u32(at), header.u32(at + 4)];
    if (type === Extension.end) break;
    const data = at + 8;
    if (length > end - data) throw broken("a header extension ends outside the first cluster");
    if (type === Extension.backingFormat) backingFormat = header.text(data, length);
    if (type === Extension.featureNames) {
      for (let entry = data; entry + 48 <= data + length; entry += 48) {
        if (header.bytes[entry] !== 0) continue; // of another feature word
        const name = header.text(entry + 2, 46).replace(/\0.*/s, "");
        if (name !== "") names.set(header.bytes[entry + 1]!, `"${plain(name)}"`);
      }
    }
    at = data + Math.ceil(length / 8) * 8;
  }
  return { backingFormat, featureNames: names as ReadonlyMap<number, string> };
}

function readBacking(
  header: Fields,
  clusterBytes: number,
  format: string | undefined,
): BackingName | undefined {
  const offset = header.u64(HeaderAt.backingOffset);
  if (offset === 0) return undefined;
  const length = header.u32(HeaderAt.backingLength);
  if (length > maxBackingName || offset + length > clusterBytes) {
    throw broken("its backing file's name lies outside the first cluster");
  }
  if (length === 0) return undefined;
  return { name: header.text(offset, length), format };
}

/** Big-endian numbers and texts of some bytes. */
class Fields {
  private readonly view: DataView;

  constructor(readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  u32(at: number): number {
    return this.view.getUint32(at);
  }

  /** Above 2^53 it is not exact. */
  u64(at: number): number {
    return this.view.getUint32(at) * highUnit + this.view.getUint32(at + 4);
  }

  text(at: number, length: number): string {
    return new TextDecoder().decode(this.bytes.subarray(at, at + length));
  }
}
