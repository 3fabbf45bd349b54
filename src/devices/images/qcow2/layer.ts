/**
 * One file of the chain, and where it holds what (docs/interop/qcow2.rst, "Cluster mapping"): the L1 table whole, L2
 * tables as far as the cache has them. Every entry is checked before it is used; one that cannot be is a fault.
 */
import {
  compressedFlag,
  copiedFlag,
  entryBytes,
  offsetHigh,
  offsetLow,
  offsetOf,
  pieceOf,
  reservedHigh,
  reservedLow,
  zeroFlag,
} from "./format.ts";
import { SliceCache } from "./slice-cache.ts";
import type { LayerSpec } from "./spec.ts";

/** What a layer holds at an offset of the disk. */
export const Kind = {
  /** Nothing: the next layer decides. */
  hole: 0,
  zero: 1,
  /** Bytes as they are, at `found[hostAt]`. */
  data: 2,
  /** A compressed cluster; `entry` is its descriptor. */
  compressed: 3,
  /** The tables are broken. */
  fault: 4,
  /** The L2 table's slice is not in the cache. */
  miss: 5,
} as const;

/** Places in `found`: an offset in the file, and for how many bytes on the same holds. */
export const [hostAt, runAt] = [0, 1];
/** Places in `ends`: clusters lie below the first; the file has been written up to the second, zero behind it. */
export const [clustersEnd, writtenEnd] = [0, 1];
const l1ReservedHigh = 0x7f00_0000;
const l1ReservedLow = 0x0000_01ff;

export class Layer {
  readonly fd: number;
  readonly bytes: number;
  readonly direct: boolean;
  readonly version: number;
  /** Undefined for a raw file. */
  readonly cache: SliceCache | undefined;
  readonly clusterBytes: number;
  readonly sliceBytes: number;
  /** Entries of a slice, and of a whole L2 table. */
  readonly sliceEntries: number;
  readonly tableEntries: number;
  readonly l1: DataView;
  readonly found = new Float64Array(2);
  /** The entry that was found, in two words: high, low. */
  readonly entry = new Uint32Array(2);
  readonly ends: Float64Array;
  private readonly l1Entries: number;

  /** `cacheBytes` bounds the memory for L2 tables. */
  constructor(
    readonly spec: LayerSpec,
    cacheBytes: number,
  ) {
    const { tables, fileBytes } = spec;
    this.fd = spec.fd;
    this.bytes = spec.bytes;
    this.direct = spec.direct;
    this.version = tables?.version ?? 0;
    this.clusterBytes = 2 ** (tables?.clusterBits ?? 16);
    this.sliceBytes = pieceOf(this.clusterBytes);
    this.sliceEntries = this.sliceBytes / entryBytes;
    this.tableEntries = this.clusterBytes / entryBytes;
    this.l1Entries = tables?.l1Entries ?? 0;
    this.l1 = new DataView(tables?.l1 ?? new SharedArrayBuffer(0));
    const end = Math.ceil(fileBytes / this.clusterBytes) * this.clusterBytes;
    this.ends = Float64Array.of(end, fileBytes);
    if (tables === undefined) return;
    const slices = Math.ceil(this.bytes / (this.sliceEntries * this.clusterBytes));
    const most = Math.max(Math.floor(cacheBytes / this.sliceBytes), 1);
    this.cache = new SliceCache(Math.min(Math.max(slices, 1), most), this.sliceBytes);
  }

  /** What the layer holds at `offset`, and in up to `length` bytes from there on; see `found` and `entry`. */
  lookup(offset: number, length: number): number {
    const { found, cache, clusterBytes } = this;
    if (offset >= this.bytes) {
      found[runAt] = length;
      return Kind.zero;
    }
    const most = Math.min(length, this.bytes - offset);
    if (cache === undefined) {
      found[hostAt] = offset;
      found[runAt] = most;
      return Kind.data;
    }
    const cluster = Math.floor(offset / clusterBytes);
    const tag = Math.floor(cluster / this.sliceEntries);
    const slice = cache.find(tag);
    if (slice < 0) return this.lookupTable(cluster, offset, most);
    if (!cache.isValid(slice)) return Kind.miss;
    const at = slice * this.sliceBytes + (cluster - tag * this.sliceEntries) * entryBytes;
    const high = cache.view.getUint32(at);
    const low = cache.view.getUint32(at + 4);
    this.entry[0] = high;
    this.entry[1] = low;
    const within = offset - cluster * clusterBytes;
    const kind = this.kindOf(high, low);
    const end = (slice + 1) * this.sliceBytes;
    const clusters =
      kind === Kind.compressed ? 1 : this.sameAs(kind, high, low, at, end, most + within);
    found[hostAt] = offsetOf(high, low) + within;
    found[runAt] = Math.min(clusters * clusterBytes - within, most);
    return kind;
  }

  /** The number of the slice with the entry for an offset. */
  tagOf(offset: number): number {
    return Math.floor(offset / this.clusterBytes / this.sliceEntries);
  }

  /** Where in the file a slice is: 0 when there is no L2 table, -1 when its L1 entry is broken. */
  hostOf(tag: number): number {
    const perTable = this.tableEntries / this.sliceEntries;
    const index = Math.floor(tag / perTable);
    if (index >= this.l1Entries) return -1;
    const table = this.tableAt(index);
    return table <= 0 ? table : table + (tag - index * perTable) * this.sliceBytes;
  }

  /** The offset of L2 table `index`: 0 when there is none, -1 when its L1 entry is broken. */
  tableAt(index: number): number {
    const high = this.l1.getUint32(index * entryBytes);
    const low = this.l1.getUint32(index * entryBytes + 4);
    if ((high & l1ReservedHigh) !== 0 || (low & l1ReservedLow) !== 0) return -1;
    const offset = offsetOf(high, low);
    if (offset !== 0 && !this.holdsCluster(offset)) return -1;
    return offset;
  }

  /** L2 table `index` is this image's alone, and may be written. */
  ownsTable(index: number): boolean {
    return (this.l1.getUint32(index * entryBytes) & copiedFlag) !== 0 && this.tableAt(index) > 0;
  }

  get tables(): number {
    return this.l1Entries;
  }

  /** A cluster may lie at this offset of the file. */
  holdsCluster(offset: number): boolean {
    return (
      offset % this.clusterBytes === 0 && offset + this.clusterBytes <= this.ends[clustersEnd]!
    );
  }

  private lookupTable(cluster: number, offset: number, most: number): number {
    const index = Math.floor(cluster / this.tableEntries);
    if (index >= this.l1Entries) return Kind.fault;
    const table = this.tableAt(index);
    if (table < 0) return Kind.fault;
    if (table > 0) return Kind.miss;
    this.entry[0] = 0;
    this.entry[1] = 0;
    const end = (index + 1) * this.tableEntries * this.clusterBytes;
    this.found[runAt] = Math.min(end - offset, most);
    return Kind.hole;
  }

  private kindOf(high: number, low: number): number {
    if ((high & compressedFlag) !== 0) return Kind.compressed;
    if ((high & reservedHigh) !== 0 || (low & reservedLow) !== 0) return Kind.fault;
    const offset = offsetOf(high, low);
    if (offset !== 0 ? !this.holdsCluster(offset) : (high & copiedFlag) !== 0) return Kind.fault;
    if ((low & zeroFlag) !== 0) return this.version === 2 ? Kind.fault : Kind.zero;
    return offset === 0 ? Kind.hole : Kind.data;
  }

  /** How many clusters from an entry on are like it, as far as `bytes` and the slice go; data must be contiguous. */
  private sameAs(
    kind: number,
    high: number,
    low: number,
    at: number,
    end: number,
    bytes: number,
  ): number {
    const view = this.cache!.view;
    const step = kind === Kind.data ? this.clusterBytes : 0;
    const first = offsetOf(high, low);
    const most = Math.min(Math.ceil(bytes / this.clusterBytes), (end - at) / entryBytes);
    let count = 1;
    for (; count < most; count++) {
      const nextHigh = view.getUint32(at + count * entryBytes);
      const nextLow = view.getUint32(at + count * entryBytes + 4);
      const flags = (nextHigh & ~offsetHigh) === (high & ~offsetHigh);
      if (!flags || (nextLow & ~offsetLow) !== (low & ~offsetLow)) break;
      const offset = offsetOf(nextHigh, nextLow);
      if (offset !== first + count * step) break;
      if (step > 0 && !this.holdsCluster(offset)) break;
    }
    return count;
  }
}
