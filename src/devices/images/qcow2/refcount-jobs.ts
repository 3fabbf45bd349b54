/**
 * Jobs on refcounts (docs/interop/qcow2.rst, "Host cluster management"): blocks that are loaded, added and written, a
 * table that grows, clusters that are taken and given back.
 */
import { Errno } from "../../../ffi/libc.ts";
import { entryBytes, HeaderAt, highUnit, maxRefcountTableBytes } from "./format.ts";
import type { Frees } from "./frees.ts";
import { LaneError } from "./lane-error.ts";
import { copyBytes, type LaneIo } from "./lane-io.ts";
import type { MetadataMap } from "./metadata-map.ts";
import { Need, type Refcounts } from "./refcounts.ts";
import type { SliceCache } from "./slice-cache.ts";
import type { WriteSpec } from "./spec.ts";

type Job<T = void> = Generator<void, T>;

/** Places in the state: where the refcount table is; whether an fdatasync failed; entries that are not in the file. */
const [tableOffset, failed, newBlocks] = [0, 1, 2];

export class RefcountJobs {
  readonly metadata: MetadataMap;
  private readonly cache: SliceCache;
  private readonly header: DataView;
  private readonly state = new Float64Array(3);
  /** Pieces of the refcount table that differ from the file. */
  private readonly tableDirt: Uint8Array;

  constructor(
    readonly refcounts: Refcounts,
    readonly write: WriteSpec,
    readonly io: LaneIo,
    readonly frees: Frees,
    /** The image is found to be broken. */
    readonly warn: (what: string) => void,
  ) {
    this.metadata = refcounts.metadata;
    this.cache = refcounts.cache;
    this.header = new DataView(write.header);
    this.state[tableOffset] = write.refcountsOffset;
    this.tableDirt = new Uint8Array(maxRefcountTableBytes / refcounts.sliceBytes);
  }

  get hasFailed(): boolean {
    return this.state[failed] === 1;
  }
  fail(): void {
    this.state[failed] = 1;
  }
  get hasNewBlocks(): boolean {
    return this.state[newBlocks] === 1;
  }
  get isDirty(): boolean {
    return this.cache.dirtyCount > 0;
  }

  /** Waits until everything begun has ended. */
  *finish(): Job {
    while (this.io.pending > 0) yield;
    const error = this.io.takeError();
    if (error !== 0) throw new LaneError(error);
  }

  *sync(): Job {
    this.io.sync();
    try {
      yield* this.finish();
    } catch (error) {
      // the kernel forgets what it could not write: the next fdatasync would succeed without it
      this.state[failed] = 1;
      throw error;
    }
  }

  *zero(offset: number, length: number): Job {
    for (let done = 0; done < length; done += copyBytes) {
      while (this.io.isFull) yield;
      this.io.writeZeroes(Math.min(copyBytes, length - done), offset + done);
    }
    yield* this.finish();
  }

  /** Gets what `Refcounts.find` needs. */
  *provide(need: number): Job {
    const { wanted } = this.refcounts;
    if (need === Need.slice) yield* this.load(wanted);
    else if (need === Need.block) yield* this.addBlock(wanted);
    else if (need === Need.growth) yield* this.grow();
    else throw new LaneError(need === Need.space ? Errno.ENOSPC : Errno.EIO);
  }

  /** Takes a cluster for a table: its offset. */
  *allocate(): Job<number> {
    for (;;) {
      const found = this.refcounts.find(1);
      if (found >= 0) {
        this.refcounts.take(found, 1);
        return found * this.refcounts.clusterBytes;
      }
      yield* this.provide(found);
    }
  }

  /** Writes all refcounts that differ. They may be written at any time: they are too high, if anything. */
  *writeBlocks(): Job {
    const { cache, io, refcounts } = this;
    if (cache.dirtyCount === 0) return;
    for (let number = 0; number < cache.dirtyCount; number++) {
      const slice = cache.dirtyAt(number);
      while (io.isFull) yield;
      io.write(cache.address(slice), cache.sliceBytes, refcounts.hostOf(cache.tag(slice)));
    }
    yield* this.finish();
    cache.cleanAll();
  }

  /** Writes the entries of the refcount table that differ. */
  *writeTable(): Job {
    const { io, refcounts, tableDirt } = this;
    const table = bytesOf(refcounts.table);
    const { sliceBytes } = refcounts;
    for (let piece = 0; piece < table.length / sliceBytes; piece++) {
      if (tableDirt[piece] === 0) continue;
      while (io.isFull) yield;
      const at = piece * sliceBytes;
      io.writeBytes(table.subarray(at, at + sliceBytes), this.state[tableOffset]! + at);
    }
    yield* this.finish();
    tableDirt.fill(0);
    this.state[newBlocks] = 0;
  }

  *writeHeader(): Job {
    this.io.writeBytes(bytesOf(this.header), 0);
    yield* this.finish();
    yield* this.sync();
  }

  /** Lowers the refcounts of the clusters that were let go, and gives the room of those that are free to the host. */
  *release(): Job {
    const { frees, refcounts } = this;
    for (let entry = 0; entry < frees.letGoCount; entry++) {
      const end = frees.start(entry) + frees.count(entry);
      for (let at = frees.start(entry); at < end; ) {
        const slice = yield* this.load(refcounts.tagOf(at));
        const sliceEnd = (refcounts.tagOf(at) + 1) * refcounts.sliceEntries;
        at = yield* this.releaseRun(slice, at, Math.min(end, sliceEnd));
      }
    }
  }

  /** Releases clusters that have the same refcount: where the next begin. */
  private *releaseRun(slice: number, start: number, most: number): Job<number> {
    const { refcounts, io, metadata } = this;
    const count = refcounts.get(slice, start);
    if (count === 0 || metadata.has(start)) {
      this.warn(`its cluster ${start} is used twice`);
      return start + 1;
    }
    let end = start + 1;
    while (end < most && refcounts.get(slice, end) === count && !metadata.has(end)) end++;
    if (count === 1 && this.write.punch) {
      // before anyone can be given the clusters
      io.punch(start * refcounts.clusterBytes, (end - start) * refcounts.clusterBytes);
      yield* this.finish();
    }
    for (let cluster = start; cluster < end; cluster++) {
      refcounts.set(slice, cluster, count - 1);
      if (count === 1) refcounts.freed(cluster);
    }
    return end;
  }

  /** Gets the slice with a tag into the cache: where it is. */
  private *load(tag: number): Job<number> {
    const { cache, refcounts, io } = this;
    const known = cache.find(tag);
    if (known >= 0) return known;
    const host = refcounts.hostOf(tag);
    if (host <= 0) throw new LaneError(Errno.EIO);
    const slice = yield* this.claim(tag);
    io.read(cache.address(slice), cache.sliceBytes, host);
    try {
      yield* this.finish();
    } catch (error) {
      cache.forget(slice);
      throw error;
    }
    cache.loaded(slice);
    return slice;
  }

  private *claim(tag: number): Job<number> {
    const slice = this.cache.claim(tag);
    if (slice >= 0) return slice;
    yield* this.writeBlocks();
    return this.cache.claim(tag);
  }

  /** Gets a slice that is all zeroes. */
  private *empty(tag: number): Job<number> {
    const { cache } = this;
    const known = cache.find(tag);
    if (known >= 0) return known;
    const slice = yield* this.claim(tag);
    bytesOf(cache.view).fill(0, slice * cache.sliceBytes, (slice + 1) * cache.sliceBytes);
    cache.loaded(slice);
    return slice;
  }

  /** Adds refcount block `index`. It describes itself, so that it needs no other. */
  private *addBlock(index: number): Job {
    const { refcounts, metadata } = this;
    const { clusterBytes, blockEntries } = refcounts;
    let cluster = index * blockEntries;
    while (metadata.has(cluster)) cluster++;
    if (cluster >= (index + 1) * blockEntries) throw new LaneError(Errno.EIO);
    if ((cluster + 1) * clusterBytes > this.write.limit) throw new LaneError(Errno.ENOSPC);
    yield* this.zero(cluster * clusterBytes, clusterBytes);
    const slice = yield* this.empty(refcounts.tagOf(cluster));
    metadata.add(cluster);
    refcounts.grew(cluster + 1);
    refcounts.setBlock(index, cluster * clusterBytes);
    refcounts.set(slice, cluster, 1);
    this.tableDirt[Math.floor((index * entryBytes) / refcounts.sliceBytes)] = 1;
    this.state[newBlocks] = 1;
  }

  /**
   * Moves the refcount table to where it has room to grow: behind all that it reached, with the blocks that describe
   * the place. The header names it last.
   */
  private *grow(): Job {
    const { refcounts, metadata, frees, write, state } = this;
    const { clusterBytes, blockEntries, tableEntries, table: before } = refcounts;
    const { blocks, clusters } = growth(refcounts);
    const first = tableEntries * blockEntries;
    const end = first + blocks + clusters;
    if (clusters * clusterBytes > maxRefcountTableBytes) throw new LaneError(Errno.EFBIG);
    if (end * clusterBytes > write.limit) throw new LaneError(Errno.ENOSPC);
    for (let cluster = first; cluster < end; cluster++) {
      if (metadata.has(cluster)) throw new LaneError(Errno.EIO);
    }
    yield* this.zero(first * clusterBytes, blocks * clusterBytes);
    refcounts.grew(end);
    const table = new DataView(new ArrayBuffer(clusters * clusterBytes));
    bytesOf(table).set(bytesOf(before));
    refcounts.replaceTable(table);
    const oldOffset = state[tableOffset]!;
    try {
      for (let i = 0; i < blocks; i++) {
        refcounts.setBlock(tableEntries + i, (first + i) * clusterBytes);
      }
      for (let cluster = first; cluster < end; cluster++) {
        refcounts.set(yield* this.empty(refcounts.tagOf(cluster)), cluster, 1);
      }
      yield* this.writeBlocks();
      state[tableOffset] = (first + blocks) * clusterBytes;
      this.tableDirt.fill(1, 0, table.byteLength / refcounts.sliceBytes);
      yield* this.writeTable();
      yield* this.sync();
    } catch (error) {
      this.forgetGrowth(before, oldOffset, first, end);
      throw error;
    }
    this.header.setUint32(HeaderAt.refcountsOffset, Math.floor(state[tableOffset]! / highUnit));
    this.header.setUint32(HeaderAt.refcountsOffset + 4, state[tableOffset]! % highUnit);
    this.header.setUint32(HeaderAt.refcountsClusters, clusters);
    const oldClusters = before.byteLength / clusterBytes;
    metadata.addAll(first, blocks + clusters);
    for (let i = 0; i < oldClusters; i++) metadata.delete(oldOffset / clusterBytes + i);
    try {
      yield* this.writeHeader();
    } catch (error) {
      state[failed] = 1; // which of the two tables holds is not known
      throw error;
    }
    frees.add(oldOffset / clusterBytes, oldClusters);
  }

  /** Takes back a growth that has failed before the header named it. */
  private forgetGrowth(before: DataView, oldOffset: number, first: number, end: number): void {
    const { refcounts, cache, state } = this;
    for (let tag = refcounts.tagOf(first); tag <= refcounts.tagOf(end - 1); tag++) {
      const slice = cache.find(tag);
      if (slice >= 0) cache.forget(slice);
    }
    refcounts.replaceTable(before);
    state[tableOffset] = oldOffset;
    // what was to be written to the old table still is
    this.tableDirt.fill(1, 0, before.byteLength / refcounts.sliceBytes);
    state[newBlocks] = 1;
  }
}

const bytesOf = (view: DataView) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

/** How many clusters a longer refcount table takes, and how many refcount blocks describe both. */
function growth({ tableEntries, clusterBytes, blockEntries }: Refcounts) {
  for (let blocks = 1; ; ) {
    const entries = Math.max(Math.ceil(tableEntries * 1.5), tableEntries + blocks + 1);
    const clusters = Math.ceil((entries * entryBytes) / clusterBytes);
    const needed = Math.ceil((blocks + clusters) / blockEntries);
    if (needed <= blocks) return { blocks, clusters };
    blocks = needed;
  }
}
