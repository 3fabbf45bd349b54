/** Makes a fresh qcow2 image, version 3, that holds nothing but what lies in its backing file. */
import { ImageError } from "../image-error.ts";
import {
  Extension,
  entryBytes,
  HeaderAt,
  highUnit,
  maxBackingName,
  maxBytes,
  maxL1Bytes,
  qcow2Magic,
  version3Length,
} from "./format.ts";

const clusterBits = 16;
const clusterBytes = 2 ** clusterBits;
/** Refcounts of 16 bits. */
const refcountOrder = 4;
const perBlock = clusterBytes / 2;
/** The disk that one L2 table describes. */
const perTable = clusterBytes * (clusterBytes / entryBytes);

export interface OverlayOptions {
  /** Size of the disk. */
  readonly bytes: number;
  /** The file below, by an absolute path. */
  readonly backing: { readonly path: string; readonly format: "raw" | "qcow2" };
}

/**
 * The image's first bytes, which are the whole of it: header, refcount table, the first refcount block, an empty L1
 * table; each from a cluster of its own on. Throws ImageError.
 */
export function overlayImage({ bytes, backing }: OverlayOptions): Uint8Array {
  const name = new TextEncoder().encode(backing.path);
  if (name.length > maxBackingName) {
    throw new ImageError(`its path is longer than ${maxBackingName} bytes; move it`);
  }
  const l1Entries = Math.ceil(bytes / perTable);
  if (bytes > maxBytes || l1Entries * entryBytes > maxL1Bytes) {
    throw new ImageError("too large a disk for an overlay; make it smaller");
  }
  const l1Clusters = Math.max(1, Math.ceil((l1Entries * entryBytes) / clusterBytes));
  // as if all of the disk were written, and twice that: it need never move
  const blocks = Math.ceil((2 * bytes) / clusterBytes / perBlock) + 1;
  const tableClusters = Math.ceil((blocks * entryBytes) / clusterBytes);
  const [tableAt, blockAt] = [clusterBytes, clusterBytes * (1 + tableClusters)];
  const l1At = blockAt + clusterBytes;
  const clusters = l1At / clusterBytes + l1Clusters;

  const image = new Uint8Array(clusters * clusterBytes);
  const view = new DataView(image.buffer);
  const u64 = (at: number, value: number) => {
    view.setUint32(at, Math.floor(value / highUnit));
    view.setUint32(at + 4, value % highUnit);
  };
  view.setUint32(0, qcow2Magic);
  view.setUint32(HeaderAt.version, 3);
  view.setUint32(HeaderAt.clusterBits, clusterBits);
  u64(HeaderAt.bytes, bytes);
  view.setUint32(HeaderAt.l1Entries, l1Entries);
  u64(HeaderAt.l1Offset, l1At);
  u64(HeaderAt.refcountsOffset, tableAt);
  view.setUint32(HeaderAt.refcountsClusters, tableClusters);
  view.setUint32(HeaderAt.refcountOrder, refcountOrder);
  view.setUint32(HeaderAt.headerLength, version3Length);
  const format = new TextEncoder().encode(backing.format);
  view.setUint32(version3Length, Extension.backingFormat);
  view.setUint32(version3Length + 4, format.length);
  image.set(format, version3Length + 8);
  const nameAt = version3Length + 8 + Math.ceil(format.length / 8) * 8 + 8; // behind the end of the extensions
  u64(HeaderAt.backingOffset, nameAt);
  view.setUint32(HeaderAt.backingLength, name.length);
  image.set(name, nameAt);

  u64(tableAt, blockAt);
  for (let cluster = 0; cluster < clusters; cluster++) view.setUint16(blockAt + 2 * cluster, 1);
  return image;
}
