/**
 * Writes to clusters that an image does not have yet, or not alone: takes new ones, writes data and what has to be
 * copied there, and then enters them in the L2 table. What was there before is given back.
 */

import { iovecWords, putIovec } from "../../../ffi/iovec.ts";
import { Errno } from "../../../ffi/libc.ts";
import { Transfers } from "../transfers.ts";
import { bytesAt } from "./chain.ts";
import type { Copies } from "./copies.ts";
import { compressedFlag, copiedFlag, entryBytes, highUnit, offsetOf } from "./format.ts";
import { packedBytes, packedOffset } from "./inflater.ts";
import { Enter } from "./lane.ts";
import { Kind, writtenEnd } from "./layer.ts";
import { List } from "./lists.ts";
import { bytesLaid } from "./pieces.ts";
import { Need } from "./refcounts.ts";
import { Op, Phase } from "./requests.ts";
import type { WriterParts } from "./writer-parts.ts";

/** Requests that place clusters at the same time. */
const maxPlacing = 64;
const maxTries = 100;
/** Entries of the list of clusters to free that a job may need beside. */
const spareFrees = 8;

export class Placer {
  /** The write that is under way, by slot: all of the new clusters that must be written. */
  private readonly moves: Transfers;
  /** By slot: the guest clusters, the slice with their entries, whether the host's are new, the copy's buffer. */
  private readonly firsts: Float64Array;
  private readonly counts: Uint32Array;
  private readonly slices: Uint32Array;
  private readonly taken: Uint8Array;
  private readonly copyOf: Int32Array;
  /** The slots that place clusters now, and how many. */
  private readonly placing = new Uint32Array(maxPlacing);
  private readonly state = new Uint32Array(1);

  /** `done` goes on with a slot whose clusters have been entered; `failed` ends it. */
  constructor(
    readonly parts: WriterParts,
    readonly copies: Copies,
    readonly done: (slot: number) => void,
    readonly failed: (slot: number, error: number) => void,
  ) {
    const { slots, segments } = parts.transfers;
    this.moves = new Transfers(slots, segments + 2);
    this.firsts = new Float64Array(slots);
    this.counts = new Uint32Array(slots);
    this.slices = new Uint32Array(slots);
    this.taken = new Uint8Array(slots);
    this.copyOf = new Int32Array(slots).fill(-1);
  }

  /** Whether some of these guest clusters are being placed. */
  isPlacing(first: number, count: number): boolean {
    for (let i = 0; i < this.state[0]!; i++) {
      const slot = this.placing[i]!;
      const start = this.firsts[slot]!;
      if (start < first + count && first < start + this.counts[slot]!) return true;
    }
    return false;
  }

  /**
   * Writes up to `want` bytes of a slot to new clusters; `kind` and the layer's `found` and `entry` say what is there.
   * Nothing has been done where the slot has to wait: it looks at the tables anew.
   */
  place(slot: number, want: number, kind: number, run: number): void {
    const { parts } = this;
    const { layer, lane, frees, refcounts, waits } = parts;
    const offset = parts.transfers.offsets[slot]!;
    const { clusterBytes } = layer;
    const cluster = Math.floor(offset / clusterBytes);
    const within = offset - cluster * clusterBytes;
    const high = layer.entry[0]!;
    const low = layer.entry[1]!;
    const whole = within === 0 && want >= clusterBytes;
    const kept = kind === Kind.zero && (high & copiedFlag) !== 0;
    let count = whole && !kept ? Math.floor(Math.min(want, run) / clusterBytes) : 1;

    const enter = lane.enter(slot);
    if (enter === Enter.refused) this.failed(slot, Errno.EIO);
    if (enter !== Enter.goOn) return;
    if (!frees.hasRoom(count + spareFrees)) {
      lane.makeRoomForFrees(slot);
      return;
    }
    const table = Math.floor(cluster / layer.tableEntries);
    if (!layer.ownsTable(table)) {
      lane.ownTable(table, slot);
      return;
    }
    if (this.state[0] === maxPlacing || this.isPlacing(cluster, count)) {
      waits.park(List.placing, slot);
      return;
    }
    const copies = !whole && !this.readsZero(kind, cluster * clusterBytes);
    if (copies && !this.copies.hasRoom) {
      waits.park(List.copyRoom, slot);
      return;
    }
    let host = offsetOf(high, low) / clusterBytes;
    let unused = false;
    if (kept) {
      if (refcounts.metadata.has(host)) {
        parts.warn(`cluster ${host} is one of its tables`);
        this.failed(slot, Errno.EIO);
        return;
      }
    } else {
      host = refcounts.find(count);
      if (host === Need.space) this.failed(slot, Errno.ENOSPC);
      else if (host < 0) lane.provide(host, slot);
      if (host < 0) return;
      count = Math.min(count, refcounts.found);
      unused = refcounts.isUnused(host);
      refcounts.take(host, count);
    }
    this.firsts[slot] = cluster;
    this.counts[slot] = count;
    this.taken[slot] = kept ? 0 : 1;
    const bytes = whole ? count * clusterBytes : Math.min(want, clusterBytes - within);
    this.enlist(slot, host * clusterBytes, bytes);
    if (copies) {
      parts.requests.phases[slot] = Phase.copying;
      this.copyOf[slot] = this.copies.claim(slot);
      this.copies.begin(this.copyOf[slot]!, cluster * clusterBytes);
    } else if (whole || unused) {
      this.write(slot, host * clusterBytes + within, 0, 0, 0);
    } else {
      const tail = clusterBytes - within - bytes;
      this.write(slot, host * clusterBytes, parts.zeroAddress, within, tail);
    }
  }

  /** What is to be copied for a slot is in its buffer; or an errno. */
  copied(slot: number, address: number, error: number): void {
    const { transfers, requests, layer } = this.parts;
    if (error !== 0) {
      this.fail(slot, error);
      return;
    }
    const within = transfers.offsets[slot]! % layer.clusterBytes;
    const tail = layer.clusterBytes - within - requests.bytes[slot]!;
    this.write(slot, requests.hosts[slot]!, address, within, tail);
  }

  /** The write of a slot has ended. */
  moved(slot: number, result: number): void {
    const { moves, parts } = this;
    const again = result === -Errno.EINTR || result === -Errno.EAGAIN;
    if (again && ++parts.requests.tries[slot]! < maxTries) {
      this.queue(slot);
    } else if (result === -Errno.EINVAL && parts.layer.direct) {
      const { detour, layer } = parts;
      const [at, left] = [moves.offsets[slot]!, moves.left[slot]!];
      const count = detour.write(moves, slot, layer.fd, at, left, 0);
      if (count > 0) this.moved(slot, count);
      else this.fail(slot, count < 0 ? -count : Errno.EIO);
    } else if (result <= 0) {
      this.fail(slot, result < 0 ? -result : Errno.EIO);
    } else {
      moves.advance(slot, result);
      if (moves.left[slot]! > 0) this.queue(slot);
      else this.written(slot);
    }
  }

  /** Enters the new clusters in the L2 table, when the lane is free. */
  link(slot: number): void {
    const { parts } = this;
    const { layer, lane, requests, transfers } = parts;
    requests.phases[slot] = Phase.linking;
    const enter = lane.enter(slot);
    if (enter === Enter.refused) this.fail(slot, Errno.EIO);
    if (enter !== Enter.goOn) return;
    const slice = this.slices[slot]!;
    const { view } = layer.cache!;
    const inSlice = this.firsts[slot]! % layer.sliceEntries;
    let at = slice * layer.sliceBytes + inSlice * entryBytes;
    let host = requests.hosts[slot]!;
    for (let i = 0; i < this.counts[slot]!; i++) {
      if (this.taken[slot] === 1) this.free(view.getUint32(at), view.getUint32(at + 4));
      view.setUint32(at, Math.floor(host / highUnit) + copiedFlag);
      view.setUint32(at + 4, host % highUnit);
      at += entryBytes;
      host += layer.clusterBytes;
    }
    layer.cache!.soil(slice);
    parts.tables.place();
    this.delist(slot);
    transfers.advance(slot, requests.bytes[slot]!);
    if (requests.ops[slot] === Op.zero) requests.limits[slot]! -= requests.bytes[slot]!;
    requests.phases[slot] = Phase.next;
    this.done(slot);
  }

  /** What an L2 entry refers to has one user less. */
  free(high: number, low: number): void {
    const { layer, frees } = this.parts;
    const { clusterBytes } = layer;
    if ((high & compressedFlag) !== 0) {
      const start = packedOffset(layer, high, low);
      const first = Math.floor(start / clusterBytes);
      const last = Math.floor((start + packedBytes(layer, high, low) - 1) / clusterBytes);
      frees.add(first, last - first + 1);
    } else if (offsetOf(high, low) !== 0) {
      frees.add(offsetOf(high, low) / clusterBytes, 1);
    }
  }

  /** The whole cluster at an offset of the disk reads as zeroes, and no look at another table is needed to know. */
  readsZero(kind: number, offset: number): boolean {
    if (kind === Kind.zero) return true;
    if (kind !== Kind.hole) return false;
    const { chain, layer } = this.parts;
    if (chain.layers.length === 1) return true;
    const bytes = Math.min(layer.clusterBytes, layer.bytes - offset);
    return chain.resolve(1, offset, bytes) === Kind.zero && chain.where[bytesAt] === bytes;
  }

  private enlist(slot: number, host: number, bytes: number): void {
    const { parts } = this;
    const { layer, requests } = parts;
    const cache = layer.cache!;
    const slice = cache.find(Math.floor(this.firsts[slot]! / layer.sliceEntries));
    cache.pin(slice);
    this.slices[slot] = slice;
    parts.frees.reserve(this.counts[slot]!);
    requests.hosts[slot] = host;
    requests.bytes[slot] = bytes;
    this.placing[this.state[0]!++] = slot;
  }

  private delist(slot: number): void {
    const { parts, placing } = this;
    const { waits } = parts;
    placing[placing.indexOf(slot)] = placing[--this.state[0]!]!;
    parts.layer.cache!.unpin(this.slices[slot]!);
    parts.frees.unreserve(this.counts[slot]!);
    if (this.copyOf[slot]! >= 0) this.copies.end(this.copyOf[slot]!);
    this.copyOf[slot] = -1;
    waits.wake(List.placing);
    waits.wake(List.loadRoom);
    waits.wake(List.freed);
  }

  /** Begins to write a slot's bytes, between `before` and `behind` bytes of a cluster at a host address. */
  private write(slot: number, at: number, cluster: number, before: number, behind: number): void {
    const { moves, parts } = this;
    const { transfers, requests } = parts;
    const { words } = moves;
    const first = moves.wordOf(slot);
    const bytes = requests.bytes[slot]!;
    let count = 0;
    if (before > 0) putIovec(words, first + count++ * iovecWords, cluster, before);
    for (let piece = 0, done = 0; done < bytes; piece++) {
      const length = Math.min(transfers.lengthOf(slot, piece), bytes - done);
      putIovec(words, first + count++ * iovecWords, transfers.baseOf(slot, piece), length);
      done += length;
    }
    const from = cluster === parts.zeroAddress ? cluster : cluster + before + bytes;
    if (behind > 0) putIovec(words, first + count++ * iovecWords, from, behind);
    moves.set(slot, at, before + bytes + behind, count);
    requests.phases[slot] = Phase.placing;
    this.queue(slot);
  }

  private queue(slot: number): void {
    const { moves, parts } = this;
    const [iovecs, count] = [moves.iovecs(slot), moves.count(slot)];
    parts.io.writev(parts.layer.fd, iovecs, count, moves.offsets[slot]!, 0, slot);
  }

  private written(slot: number): void {
    const { ends } = this.parts.layer;
    ends[writtenEnd] = Math.max(ends[writtenEnd]!, this.moves.offsets[slot]!);
    this.link(slot);
  }

  /** Nothing refers to the new clusters: they are given back. */
  private fail(slot: number, error: number): void {
    const { layer, requests, frees } = this.parts;
    if (this.taken[slot] === 1) {
      frees.add(requests.hosts[slot]! / layer.clusterBytes, this.counts[slot]!);
    }
    this.delist(slot);
    this.failed(slot, error);
  }
}

/** Bytes of a slot that can be written now: a zero request has its zeroes laid anew. */
export function wanted(parts: WriterParts, slot: number): number {
  const { transfers, requests } = parts;
  if (requests.ops[slot] !== Op.zero) return transfers.left[slot]!;
  if (transfers.count(slot) === 0) transfers.repeat(slot, parts.zeroAddress, parts.zeroBytes);
  return bytesLaid(transfers, slot, requests.limits[slot]!);
}
