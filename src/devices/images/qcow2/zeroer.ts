/**
 * DISCARD and WRITE_ZEROES. Whole clusters are entered as zero (version 3), or as not there where nothing lies below;
 * of the others, zeroes are written, and a discard leaves them alone.
 */
import { Errno } from "../../../ffi/libc.ts";
import { compressedFlag, entryBytes, offsetOf, zeroFlag } from "./format.ts";
import { Enter } from "./lane.ts";
import { Kind, runAt } from "./layer.ts";
import { List } from "./lists.ts";
import type { Placer } from "./placer.ts";
import { Op } from "./requests.ts";
import type { WriterParts } from "./writer-parts.ts";

/** Entries of the list of clusters to free that a job may need beside. */
const spareFrees = 8;

export class Zeroer {
  constructor(
    readonly parts: WriterParts,
    readonly placer: Placer,
    readonly failed: (slot: number, error: number) => void,
  ) {}

  /**
   * Does the next part of a request; false when it waits or has ended. Zeroes that have to be written are left to the
   * writer: `limits` says how many bytes.
   */
  step(slot: number): boolean {
    const { transfers, requests, layer, loads, lane } = this.parts;
    const offset = transfers.offsets[slot]!;
    const left = transfers.left[slot]!;
    const kind = layer.lookup(offset, left);
    if (kind === Kind.miss) {
      const error = loads.wait(0, offset, slot);
      if (error < 0) lane.makeRoom(slot);
      else if (error > 0) this.failed(slot, error);
      return false;
    }
    if (kind === Kind.fault) {
      this.failed(slot, Errno.EIO);
      return false;
    }
    const run = layer.found[runAt]!;
    const { clusterBytes } = layer;
    const within = offset % clusterBytes;
    const discards = requests.ops[slot] === Op.discard;
    if (this.staysAsItIs(slot, kind)) return this.skip(slot, run);
    const inCluster = Math.min(clusterBytes - within, left);
    const whole = within === 0 && (left >= clusterBytes || offset + left >= layer.bytes);
    if (!whole || this.isUnmarkable(slot, kind)) {
      const bytes = whole ? this.wholeBytes(offset, left, run) : inCluster;
      if (discards || (!whole && this.placer.readsZero(kind, offset - within))) {
        return this.skip(slot, bytes);
      }
      transfers.set(slot, offset, left, 0);
      requests.limits[slot] = bytes;
      return true;
    }
    return this.mark(slot, offset, this.wholeBytes(offset, left, run));
  }

  /** Nothing has to be done for what is there, be it a part of a cluster or many. */
  private staysAsItIs(slot: number, kind: number): boolean {
    const { chain, layer, requests } = this.parts;
    const discards = requests.ops[slot] === Op.discard;
    if (kind === Kind.hole) return discards || chain.layers.length === 1;
    if (kind !== Kind.zero) return false;
    const allocated = offsetOf(layer.entry[0]!, layer.entry[1]!) !== 0;
    return !allocated || (!discards && requests.unmaps[slot] === 0);
  }

  /** Clusters of this kind cannot be marked so that they read as zeroes. */
  private isUnmarkable(slot: number, kind: number): boolean {
    const { chain, layer, requests } = this.parts;
    if (layer.version > 2) return false;
    if (chain.layers.length > 1) return true;
    // a cluster that is to keep its room can be entered in no other way
    const keeps = requests.ops[slot] === Op.zero && requests.unmaps[slot] === 0;
    return keeps && kind === Kind.data;
  }

  /** Bytes of the clusters from `offset` on that a request covers whole, and that are alike. */
  private wholeBytes(offset: number, left: number, run: number): number {
    const { clusterBytes, bytes } = this.parts.layer;
    if (offset + left >= bytes) return Math.min(run, left);
    return Math.floor(Math.min(run, left) / clusterBytes) * clusterBytes;
  }

  private mark(slot: number, offset: number, bytes: number): boolean {
    const { layer, lane, waits, frees } = this.parts;
    const { clusterBytes, sliceEntries } = layer;
    const cache = layer.cache!;
    const cluster = Math.floor(offset / clusterBytes);
    const count = Math.ceil(bytes / clusterBytes);
    const enter = lane.enter(slot);
    if (enter === Enter.refused) this.failed(slot, Errno.EIO);
    if (enter !== Enter.goOn) return false;
    if (this.placer.isPlacing(cluster, count)) {
      waits.park(List.placing, slot);
      return false;
    }
    const table = Math.floor(cluster / layer.tableEntries);
    const slice = cache.find(layer.tagOf(offset));
    const entries = Math.min(count, sliceEntries - (cluster % sliceEntries));
    if (!frees.hasRoom(entries + spareFrees)) {
      lane.makeRoomForFrees(slot);
      return false;
    }
    if (!layer.ownsTable(table)) {
      lane.ownTable(table, slot);
      return false;
    }
    let at = slice * layer.sliceBytes + (cluster % sliceEntries) * entryBytes;
    for (let i = 0; i < entries; i++, at += entryBytes) this.enter(slot, at);
    cache.soil(slice);
    return this.skip(slot, Math.min(entries * clusterBytes, bytes));
  }

  /** Changes one entry. */
  private enter(slot: number, at: number): void {
    const { chain, layer, requests } = this.parts;
    const { view } = layer.cache!;
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    const keeps = requests.ops[slot] === Op.zero && requests.unmaps[slot] === 0;
    if (keeps && layer.version > 2 && (high & compressedFlag) === 0 && offsetOf(high, low) !== 0) {
      view.setUint32(at + 4, (low | zeroFlag) >>> 0);
      return;
    }
    this.placer.free(high, low);
    view.setUint32(at, 0);
    view.setUint32(at + 4, chain.layers.length > 1 ? zeroFlag : 0);
  }

  private skip(slot: number, bytes: number): boolean {
    const { transfers } = this.parts;
    transfers.set(slot, transfers.offsets[slot]! + bytes, transfers.left[slot]! - bytes, 0);
    return true;
  }
}
