/** What changes an image, by slot: writes in place, and requests that go by the placer, the zeroer and the lane. */
import { RWF_DSYNC } from "../../../ffi/file-vector.ts";
import { Errno } from "../../../ffi/libc.ts";
import { Copies } from "./copies.ts";
import { copiedFlag } from "./format.ts";
import { Enter } from "./lane.ts";
import { hostAt, Kind, runAt, writtenEnd } from "./layer.ts";
import { Mover } from "./mover.ts";
import { Placer, wanted } from "./placer.ts";
import type { ReaderParts } from "./reader.ts";
import { Op, Phase } from "./requests.ts";
import type { WriterParts } from "./writer-parts.ts";
import { Zeroer } from "./zeroer.ts";

const maxTries = 100;

export class Writer {
  readonly copies: Copies;
  private readonly placer: Placer;
  private readonly zeroer: Zeroer;
  private readonly mover: Mover;

  /** Copies are tasks from `firstCopy` on. `ended` is told 0 or an errno. */
  constructor(
    readonly parts: WriterParts,
    readers: ReaderParts,
    firstCopy: number,
    readonly ended: (slot: number, error: number) => void,
  ) {
    const { layer, io, transfers } = parts;
    this.mover = new Mover(io, transfers);
    this.copies = new Copies(
      ...([readers, layer.clusterBytes, layer.bytes, firstCopy] as const),
      (slot, address, error) => this.placer.copied(slot, address, error),
    );
    const done = (slot: number) => this.goOn(slot);
    this.placer = new Placer(parts, this.copies, done, ended);
    this.zeroer = new Zeroer(parts, this.placer, ended);
  }

  /** Goes on with a slot that is in nobody's hands. */
  goOn(slot: number): void {
    const { waits, requests, transfers } = this.parts;
    const error = waits.takeError(slot);
    const phase = requests.phases[slot];
    if (phase === Phase.linking) {
      this.placer.link(slot);
      return;
    }
    if (error !== 0 || phase === Phase.settling) {
      this.ended(slot, error);
      return;
    }
    if (requests.ops[slot] === Op.flush) {
      this.flush(slot);
      return;
    }
    while (transfers.left[slot]! > 0) {
      if (!this.step(slot)) return;
    }
    this.settle(slot);
  }

  /** What a slot had in the ring has ended. */
  moved(slot: number, result: number): void {
    const { requests, layer, transfers, tables } = this.parts;
    const phase = requests.phases[slot];
    if (phase === Phase.placing) {
      this.placer.moved(slot, result);
      return;
    }
    const again = result === -Errno.EINTR || result === -Errno.EAGAIN;
    if (again && ++requests.tries[slot]! < maxTries) {
      requests.phases[slot] = Phase.next;
      this.goOn(slot);
    } else if (phase === Phase.syncing) {
      if (result < 0) tables.fail();
      this.ended(slot, result < 0 ? -result : 0);
    } else if (result === -Errno.EINVAL && layer.direct) {
      this.detour(slot);
    } else if (result <= 0) {
      this.ended(slot, result < 0 ? -result : Errno.EIO);
    } else {
      layer.ends[writtenEnd] = Math.max(layer.ends[writtenEnd]!, requests.hosts[slot]! + result);
      transfers.advance(slot, result);
      if (requests.ops[slot] === Op.zero) requests.limits[slot]! -= result;
      requests.phases[slot] = Phase.next;
      this.goOn(slot);
    }
  }

  /** Does the next part of a write, or of a request for zeroes; false when it waits or has ended. */
  private step(slot: number): boolean {
    const { parts } = this;
    const { requests, layer, loads, lane } = parts;
    if (requests.ops[slot] !== Op.write && requests.limits[slot] === 0) {
      return this.zeroer.step(slot);
    }
    const want = wanted(parts, slot);
    const offset = parts.transfers.offsets[slot]!;
    const kind = layer.lookup(offset, want);
    if (kind === Kind.miss) {
      const error = loads.wait(0, offset, slot);
      if (error < 0) lane.makeRoom(slot);
      else if (error > 0) this.ended(slot, error);
    } else if (kind === Kind.fault) {
      this.ended(slot, Errno.EIO);
    } else if (kind === Kind.data && (layer.entry[0]! & copiedFlag) !== 0) {
      this.writeInPlace(slot, layer.found[hostAt]!, layer.found[runAt]!);
    } else {
      this.placer.place(slot, want, kind, layer.found[runAt]!);
    }
    return false;
  }

  private writeInPlace(slot: number, host: number, bytes: number): void {
    const { requests, layer, lane, tables, refcounts, warn } = this.parts;
    if (!tables.isPrepared) {
      const enter = lane.enter(slot);
      if (enter === Enter.refused) this.ended(slot, Errno.EIO);
      if (enter !== Enter.goOn) return;
    }
    const { clusterBytes } = layer;
    const end = (host + bytes) / clusterBytes;
    for (let cluster = Math.floor(host / clusterBytes); cluster < end; cluster++) {
      if (!refcounts.metadata.has(cluster)) continue;
      warn(`cluster ${cluster} is one of its tables`);
      this.ended(slot, Errno.EIO);
      return;
    }
    requests.phases[slot] = Phase.moving;
    requests.hosts[slot] = host;
    requests.bytes[slot] = bytes;
    this.mover.write(slot, layer.fd, host, bytes, this.flags(slot), slot);
  }

  /** O_DIRECT refuses the memory of the write under way. */
  private detour(slot: number): void {
    const { requests, layer, transfers, detour } = this.parts;
    const [host, bytes] = [requests.hosts[slot]!, requests.bytes[slot]!];
    const count = detour.write(transfers, slot, layer.fd, host, bytes, this.flags(slot));
    if (count > 0) this.moved(slot, count);
    else this.ended(slot, count < 0 ? -count : Errno.EIO);
  }

  private flags(slot: number): number {
    return this.parts.requests.durable[slot] === 1 ? RWF_DSYNC : 0;
  }

  /** All is written: a durable request waits for a commit, if there is something to commit. */
  private settle(slot: number): void {
    const { requests, lane, tables } = this.parts;
    if (requests.durable[slot] === 0 || (lane.isFree && !tables.isDirty)) {
      this.ended(slot, 0);
    } else {
      requests.phases[slot] = Phase.settling;
      lane.flush(slot);
    }
  }

  private flush(slot: number): void {
    const { requests, lane, tables, io, layer } = this.parts;
    if (tables.hasFailed) {
      this.ended(slot, Errno.EIO);
    } else if (tables.isDirty || !lane.isFree) {
      requests.phases[slot] = Phase.settling;
      lane.flush(slot);
    } else {
      requests.phases[slot] = Phase.syncing;
      io.dataSync(layer.fd, slot);
    }
  }
}
