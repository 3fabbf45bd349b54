/**
 * Reads the disk into the slots of a `Transfers`: finds where the next bytes are, layer by layer, and moves as many as
 * lie in one run, until nothing is left. Whatever has to be waited for, the tables are looked at anew behind it.
 */
import { Errno } from "../../../ffi/libc.ts";
import type { Transfers } from "../transfers.ts";
import { bytesAt, type Chain, fileAt, layerAt } from "./chain.ts";
import type { Detour } from "./detour.ts";
import type { Inflater } from "./inflater.ts";
import type { Io } from "./io.ts";
import { Kind, writtenEnd } from "./layer.ts";
import type { Loads } from "./loads.ts";
import { Mover } from "./mover.ts";
import { clear, scatter } from "./pieces.ts";
import type { Waits } from "./waits.ts";

const maxTries = 100;

/** What readers share with the other parts of an image. */
export interface ReaderParts {
  readonly chain: Chain;
  readonly io: Io;
  readonly waits: Waits;
  readonly loads: Loads;
  readonly inflater: Inflater;
  readonly detour: Detour;
  /** The cache of the first layer has no room but by a commit: the task waits for one. */
  makeRoom(task: number): void;
}

export class Reader {
  private readonly mover: Mover;
  /** By slot: what is being read. */
  private readonly layers: Uint8Array;
  private readonly offsets: Float64Array;
  private readonly bytes: Float64Array;
  private readonly tries: Uint8Array;

  /** A slot's task, and token, is `firstTask` and its number. `ended` is told 0 or an errno. */
  constructor(
    readonly parts: ReaderParts,
    readonly transfers: Transfers,
    readonly firstTask: number,
    readonly ended: (slot: number, error: number) => void,
  ) {
    this.mover = new Mover(parts.io, transfers);
    this.layers = new Uint8Array(transfers.slots);
    this.offsets = new Float64Array(transfers.slots);
    this.bytes = new Float64Array(transfers.slots);
    this.tries = new Uint8Array(transfers.slots);
  }

  /** The slot is to be read: `goOn` begins with it. */
  begin(slot: number): void {
    this.tries[slot] = 0;
    this.parts.waits.makeReady(this.firstTask + slot);
  }

  /** Goes on with a slot that was begun, and is in nobody's hands. */
  goOn(slot: number): void {
    const { transfers, parts } = this;
    const error = parts.waits.takeError(this.firstTask + slot);
    if (error !== 0) {
      this.ended(slot, error);
      return;
    }
    while (transfers.left[slot]! > 0) {
      if (!this.step(slot)) return;
    }
    this.ended(slot, 0);
  }

  /** The transfer of a slot has ended. */
  moved(slot: number, result: number): void {
    const { transfers, parts } = this;
    if (result > 0) {
      transfers.advance(slot, result);
      this.goOn(slot);
      return;
    }
    const layer = parts.chain.layers[this.layers[slot]!]!;
    const again = result === -Errno.EINTR || result === -Errno.EAGAIN;
    if (again && ++this.tries[slot]! < maxTries) {
      this.goOn(slot);
    } else if (result === -Errno.EINVAL && layer.direct) {
      const [offset, bytes] = [this.offsets[slot]!, this.bytes[slot]!];
      const count = parts.detour.read(transfers, slot, layer.fd, offset, bytes);
      if (count > 0) this.moved(slot, count);
      else this.ended(slot, count < 0 ? -count : Errno.EIO);
    } else {
      this.ended(slot, result < 0 ? -result : Errno.EIO); // the file has been cut short
    }
  }

  /** The compressed cluster that a slot waited for is at a host address; or an errno. */
  inflated(slot: number, address: number, error: number): void {
    if (error !== 0) this.parts.waits.errors[this.firstTask + slot] = error;
    else this.copy(slot, address);
    this.parts.waits.makeReady(this.firstTask + slot);
  }

  /** Does the next bytes; false when the slot waits for something. */
  private step(slot: number): boolean {
    const { transfers, parts } = this;
    const { chain, loads } = parts;
    const offset = transfers.offsets[slot]!;
    const kind = chain.resolve(0, offset, transfers.left[slot]!);
    const number = chain.where[layerAt]!;
    switch (kind) {
      case Kind.zero:
        clear(transfers, slot, chain.where[bytesAt]!);
        transfers.advance(slot, chain.where[bytesAt]!);
        return true;
      case Kind.data:
        return this.move(slot, number);
      case Kind.compressed: {
        const layer = chain.layers[number]!;
        this.layers[slot] = number;
        this.bytes[slot] = chain.where[bytesAt]!;
        const task = this.firstTask + slot;
        const address = parts.inflater.find(number, layer.entry[0]!, layer.entry[1]!, task);
        if (address < 0) this.ended(slot, Errno.EIO);
        if (address <= 0) return false;
        this.copy(slot, address);
        return true;
      }
      case Kind.miss: {
        const error = loads.wait(number, offset, this.firstTask + slot);
        if (error < 0) parts.makeRoom(this.firstTask + slot);
        else if (error > 0) this.ended(slot, error);
        return false;
      }
      default:
        this.ended(slot, Errno.EIO);
        return false;
    }
  }

  private move(slot: number, number: number): boolean {
    const { transfers, parts } = this;
    const layer = parts.chain.layers[number]!;
    const at = parts.chain.where[fileAt]!;
    const bytes = parts.chain.where[bytesAt]!;
    if (at >= layer.ends[writtenEnd]! && layer.cache) {
      // the last clusters need not be written to their end
      clear(transfers, slot, bytes);
      transfers.advance(slot, bytes);
      return true;
    }
    this.layers[slot] = number;
    this.offsets[slot] = at;
    this.bytes[slot] = bytes;
    this.mover.read(slot, layer.fd, at, bytes, this.firstTask + slot);
    return false;
  }

  /** Copies what a slot wants of an unpacked cluster. */
  private copy(slot: number, cluster: number): void {
    const { transfers, parts } = this;
    const { clusterBytes } = parts.chain.layers[this.layers[slot]!]!;
    const offset = transfers.offsets[slot]!;
    scatter(transfers, slot, cluster + (offset % clusterBytes), this.bytes[slot]!);
    transfers.advance(slot, this.bytes[slot]!);
  }
}
