/**
 * Jobs on the mapping of guest clusters (docs/interop/qcow2.rst, "Cluster mapping"): L2 tables that an image gets, or
 * shares with a snapshot and copies, and the commit that writes L2 and L1 entries behind all that they refer to.
 */
import { Errno } from "../../../ffi/libc.ts";
import { copiedFlag, entryBytes, HeaderAt, highUnit } from "./format.ts";
import type { Frees } from "./frees.ts";
import { LaneError } from "./lane-error.ts";
import { copyBytes, type LaneIo } from "./lane-io.ts";
import type { Layer } from "./layer.ts";
import type { RefcountJobs } from "./refcount-jobs.ts";
import type { SliceCache } from "./slice-cache.ts";
import type { TablesSpec, WriteSpec } from "./spec.ts";

type Job<T = void> = Generator<void, T>;

/**
 * Whether the header is ready for changes; whether L2 entries refer to what was written since the last commit; whether
 * the L1 table differs from the file.
 */
const [prepared, placed, l1Differs] = [0, 1, 2];

export class TableJobs {
  private readonly cache: SliceCache;
  private readonly tables: TablesSpec;
  private readonly l1: Uint8Array;
  /** Pieces of the L1 table that differ from the file. */
  private readonly l1Dirt: Uint8Array;
  private readonly state = new Uint8Array(3);

  constructor(
    readonly layer: Layer,
    readonly write: WriteSpec,
    readonly refcounts: RefcountJobs,
    readonly io: LaneIo,
    readonly frees: Frees,
  ) {
    this.cache = layer.cache!;
    this.tables = layer.spec.tables!;
    this.l1 = new Uint8Array(this.tables.l1);
    this.l1Dirt = new Uint8Array(this.l1.length / layer.sliceBytes);
    this.state[prepared] = write.autoclear ? 0 : 1;
  }

  /** An fdatasync has failed: what is on the disk is not known, and nothing is changed any more. */
  get hasFailed(): boolean {
    return this.refcounts.hasFailed;
  }

  /** See `hasFailed`. */
  fail(): void {
    this.refcounts.fail();
  }

  /** The header is ready for changes. */
  get isPrepared(): boolean {
    return this.state[prepared] === 1;
  }

  /** Something has to be written for a flush. */
  get isDirty(): boolean {
    return this.mapsDiffer || this.state[placed] === 1 || this.refcounts.hasNewBlocks;
  }

  /** Something has to be written before the end. */
  get hasUnwritten(): boolean {
    return this.isDirty || this.refcounts.isDirty;
  }

  /** Data has been written that an L2 entry refers to from now on. */
  place(): void {
    this.state[placed] = 1;
  }

  /** Clears the auto-clear feature bits, of which none is served (section "Header"). */
  *prepare(): Job {
    const header = new Uint8Array(this.write.header);
    header.fill(0, HeaderAt.autoclear, HeaderAt.autoclear + 8);
    yield* this.refcounts.writeHeader();
    this.state[prepared] = 1;
  }

  /** Gets L2 table `index`, or a copy of it that is this image's alone. */
  *ownTable(index: number): Job {
    const { layer, refcounts, frees } = this;
    const { clusterBytes } = layer;
    const old = layer.tableAt(index);
    if (old < 0) throw new LaneError(Errno.EIO);
    if (layer.ownsTable(index)) return;
    const table = yield* refcounts.allocate();
    try {
      if (old === 0) yield* refcounts.zero(table, clusterBytes);
      else yield* this.copy(old, table);
    } catch (error) {
      frees.add(table / clusterBytes, 1);
      throw error;
    }
    refcounts.metadata.add(table / clusterBytes);
    if (old !== 0) {
      refcounts.metadata.delete(old / clusterBytes);
      frees.add(old / clusterBytes, 1);
    }
    const high = Math.floor(table / highUnit) + copiedFlag;
    layer.l1.setUint32(index * entryBytes, high);
    layer.l1.setUint32(index * entryBytes + 4, table % highUnit);
    this.l1Dirt[Math.floor((index * entryBytes) / layer.sliceBytes)] = 1;
    this.state[l1Differs] = 1;
    this.place();
  }

  /** Makes all that has ended durable, in the order that `lane.ts` gives. */
  *commit(): Job {
    const { refcounts, state } = this;
    if (this.hasFailed) throw new LaneError(Errno.EIO);
    const maps = this.mapsDiffer;
    yield* refcounts.writeBlocks();
    if (state[placed] === 1 || refcounts.hasNewBlocks || !maps) yield* refcounts.sync();
    if (refcounts.hasNewBlocks) {
      yield* refcounts.writeTable();
      yield* refcounts.sync();
    }
    if (maps) {
      yield* this.writeMaps();
      yield* refcounts.sync();
    }
    state[placed] = 0;
  }

  private get mapsDiffer(): boolean {
    return this.cache.dirtyCount > 0 || this.state[l1Differs] === 1;
  }

  private *copy(from: number, to: number): Job {
    const { io, layer, refcounts } = this;
    const step = Math.min(copyBytes, layer.clusterBytes);
    for (let at = 0; at < layer.clusterBytes; at += step) {
      io.read(io.copyAddress, step, from + at);
      yield* refcounts.finish();
      io.write(io.copyAddress, step, to + at);
      yield* refcounts.finish();
    }
  }

  private *writeMaps(): Job {
    const { cache, layer, io, refcounts, l1, l1Dirt, tables } = this;
    const { sliceBytes } = layer;
    for (let number = 0; number < cache.dirtyCount; number++) {
      const slice = cache.dirtyAt(number);
      while (io.isFull) yield;
      io.write(cache.address(slice), sliceBytes, layer.hostOf(cache.tag(slice)));
    }
    for (let piece = 0; piece < l1Dirt.length; piece++) {
      if (l1Dirt[piece] === 0) continue;
      while (io.isFull) yield;
      const at = piece * sliceBytes;
      io.writeBytes(l1.subarray(at, at + sliceBytes), tables.l1Offset + at);
    }
    yield* refcounts.finish();
    cache.cleanAll();
    l1Dirt.fill(0);
    this.state[l1Differs] = 0;
  }
}
