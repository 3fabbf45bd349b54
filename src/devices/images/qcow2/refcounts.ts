/**
 * Which clusters of an image are in use (docs/interop/qcow2.rst, "Host cluster management"): the refcount table whole,
 * refcount blocks as far as the cache has them. What is not in memory is named, and the lane gets it.
 */
import { entryBytes, highUnit, maxBytes, pieceOf } from "./format.ts";
import { clustersEnd, type Layer } from "./layer.ts";
import type { MetadataMap } from "./metadata-map.ts";
import { SliceCache } from "./slice-cache.ts";
import type { WriteSpec } from "./spec.ts";

/** Why `find` found nothing; `wanted` says which. */
export const Need = {
  /** A slice of a refcount block is not in the cache. */
  slice: -1,
  /** A refcount block is not allocated. */
  block: -2,
  /** The refcount table is too short. */
  growth: -3,
  /** The file cannot grow. */
  space: -4,
  /** The refcount table is broken. */
  repair: -5,
} as const;

const cacheBytes = 2 ** 20;
/** Places in the state: where to look first, where clusters begin that were never used, what `find` found or wants. */
const [scan, unused, found, wanted] = [0, 1, 2, 3];

export class Refcounts {
  readonly cache: SliceCache;
  readonly clusterBytes: number;
  readonly sliceBytes: number;
  /** Refcounts in a slice, and in a whole block. */
  readonly sliceEntries: number;
  readonly blockEntries: number;
  readonly order: number;
  private readonly state = new Float64Array(4);
  /** The refcount table, in a list so that it can be replaced by a larger one. */
  private readonly tables: DataView[];

  constructor(
    readonly layer: Layer,
    readonly metadata: MetadataMap,
    readonly spec: WriteSpec,
    mostBytes = cacheBytes,
  ) {
    this.clusterBytes = layer.clusterBytes;
    this.sliceBytes = pieceOf(this.clusterBytes);
    this.order = spec.refcountOrder;
    this.sliceEntries = (this.sliceBytes * 8) / 2 ** this.order;
    this.blockEntries = (this.clusterBytes * 8) / 2 ** this.order;
    this.cache = new SliceCache(Math.max(mostBytes / this.sliceBytes, 4), this.sliceBytes);
    this.tables = [new DataView(spec.refcounts)];
    this.state[unused] = layer.ends[clustersEnd]! / this.clusterBytes;
  }

  /** The refcount table. */
  get table(): DataView {
    return this.tables[0]!;
  }
  replaceTable(table: DataView): void {
    this.tables[0] = table;
  }
  get tableEntries(): number {
    return this.table.byteLength / entryBytes;
  }

  /** Where refcount block `index` is: 0 when there is none, -1 when its entry is broken. */
  blockAt(index: number): number {
    const low = this.table.getUint32(index * entryBytes + 4);
    const offset = this.table.getUint32(index * entryBytes) * highUnit + low;
    if (offset === 0 || this.layer.holdsCluster(offset)) return offset;
    return -1;
  }
  setBlock(index: number, offset: number): void {
    this.table.setUint32(index * entryBytes, Math.floor(offset / highUnit));
    this.table.setUint32(index * entryBytes + 4, offset % highUnit);
  }

  /** Where in the file the slice with a tag is: 0 when its block is not there, -1 when the table is broken. */
  hostOf(tag: number): number {
    const perBlock = this.blockEntries / this.sliceEntries;
    const index = Math.floor(tag / perBlock);
    if (index >= this.tableEntries) return 0;
    const block = this.blockAt(index);
    return block <= 0 ? block : block + (tag - index * perBlock) * this.sliceBytes;
  }

  tagOf(cluster: number): number {
    return Math.floor(cluster / this.sliceEntries);
  }

  /** What `find` found: how many clusters in a row; or what it needs: a slice's tag, or a block's number. */
  get found(): number {
    return this.state[found]!;
  }
  get wanted(): number {
    return this.state[wanted]!;
  }

  /** The first of up to `count` free clusters in a row, how many in `found`; or a `Need`. */
  find(count: number): number {
    const { state, cache } = this;
    for (;;) {
      const from = state[scan]!;
      const index = Math.floor(from / this.blockEntries);
      if (index >= this.tableEntries) return Need.growth;
      const block = this.blockAt(index);
      if (block < 0) return Need.repair;
      state[wanted] = index;
      if (block === 0) return Need.block;
      const tag = this.tagOf(from);
      state[wanted] = tag;
      const slice = cache.find(tag);
      if (slice < 0 || !cache.isValid(slice)) return Need.slice;
      const first = tag * this.sliceEntries;
      let start = from;
      while (start < first + this.sliceEntries && !this.isFree(slice, start)) start++;
      state[scan] = start;
      if (start === first + this.sliceEntries) continue;
      let end = start + 1;
      const most = Math.min(start + count, first + this.sliceEntries);
      while (end < most && this.isFree(slice, end)) end++;
      if (end * this.clusterBytes > Math.min(this.spec.limit, maxBytes)) return Need.space;
      state[found] = end - start;
      return start;
    }
  }

  /** Clusters from here on were never used: in a regular file they read as zeroes. */
  isUnused(cluster: number): boolean {
    return this.spec.limit === Number.POSITIVE_INFINITY && cluster >= this.state[unused]!;
  }

  /** The clusters that `find` found have one user now. */
  take(start: number, count: number): void {
    const slice = this.cache.find(this.tagOf(start));
    for (let i = 0; i < count; i++) this.set(slice, start + i, 1);
    this.grew(start + count);
    this.state[scan] = start + count;
  }

  /** Clusters below `end` are in use, or were. */
  grew(end: number): void {
    const { ends } = this.layer;
    this.state[unused] = Math.max(this.state[unused]!, end);
    ends[clustersEnd] = Math.max(ends[clustersEnd]!, end * this.clusterBytes);
  }

  /** The cluster's refcount, from the slice that has it; above 2^53 it is not exact. */
  get(slice: number, cluster: number): number {
    const { view } = this.cache;
    const index = cluster % this.sliceEntries;
    const base = slice * this.sliceBytes;
    switch (this.order) {
      case 3:
        return view.getUint8(base + index);
      case 4:
        return view.getUint16(base + index * 2);
      case 5:
        return view.getUint32(base + index * 4);
      case 6:
        return view.getUint32(base + index * 8) * highUnit + view.getUint32(base + index * 8 + 4);
      default: {
        const bits = 2 ** this.order;
        const byte = view.getUint8(base + ((index * bits) >>> 3));
        return (byte >>> ((index * bits) & 7)) & (2 ** bits - 1);
      }
    }
  }

  set(slice: number, cluster: number, value: number): void {
    const { view } = this.cache;
    const index = cluster % this.sliceEntries;
    const base = slice * this.sliceBytes;
    this.cache.soil(slice);
    switch (this.order) {
      case 3:
        view.setUint8(base + index, value);
        return;
      case 4:
        view.setUint16(base + index * 2, value);
        return;
      case 5:
        view.setUint32(base + index * 4, value);
        return;
      case 6:
        view.setUint32(base + index * 8, Math.floor(value / highUnit));
        view.setUint32(base + index * 8 + 4, value % highUnit);
        return;
      default: {
        const bits = 2 ** this.order;
        const at = base + ((index * bits) >>> 3);
        const shift = (index * bits) & 7;
        const kept = view.getUint8(at) & ~((2 ** bits - 1) << shift);
        view.setUint8(at, kept | (value << shift));
      }
    }
  }

  /** The cluster is free: the next search sees it. */
  freed(cluster: number): void {
    this.state[scan] = Math.min(this.state[scan]!, cluster);
  }

  private isFree(slice: number, cluster: number): boolean {
    return this.get(slice, cluster) === 0 && !this.metadata.has(cluster);
  }
}
