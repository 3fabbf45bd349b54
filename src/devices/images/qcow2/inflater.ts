/**
 * Compressed clusters (docs/interop/qcow2.rst, "Compressed Clusters Descriptor"): reads their sectors and has them
 * unpacked on the thread for chores, never here. The clusters unpacked last are kept.
 */
import { Block } from "../../../ffi/block.ts";
import { Errno } from "../../../ffi/libc.ts";
import type { Chores } from "../../chores/chores.ts";
import { highUnit, pieceBytes } from "./format.ts";
import type { Io } from "./io.ts";
import { type Layer, writtenEnd } from "./layer.ts";
import { List, maxInflated } from "./lists.ts";
import type { Waits } from "./waits.ts";

const State = { empty: 0, reading: 1, waiting: 2, unpacking: 3, ready: 4 } as const;
const sectorBytes = 512;
/** Most memory for unpacked clusters, beside the two that there are at least. */
const mostBytes = 2 ** 21;
const maxTries = 100;
/** Words of the state of all: a clock for `lastUse`; clusters that wait for a chore; 1 after the first chore. */
const [clock, waiting, used] = [0, 1, 2];

/** A task that waited for a cluster: it is at `address` until this returns; or an errno. */
export type Inflated = (task: number, address: number, error: number) => void;

export class Inflater {
  private readonly count: number;
  private readonly clusterRoom: number;
  private readonly packedRoom: number;
  /** The memory of all, once it was needed. */
  private readonly memory: Block[] = [];
  private readonly states = new Uint8Array(maxInflated);
  /** What each holds: a layer's number, and the descriptor. */
  private readonly layerOf = new Int32Array(maxInflated);
  private readonly highs = new Uint32Array(maxInflated);
  private readonly lows = new Uint32Array(maxInflated);
  /** Where the data begins in what is read, and how long it is. */
  private readonly skips = new Uint32Array(maxInflated);
  private readonly lengths = new Uint32Array(maxInflated);
  private readonly lastUse = new Float64Array(maxInflated);
  private readonly tries = new Uint32Array(maxInflated);
  /** Bytes of `skips` and `lengths` together that are there. */
  private readonly done = new Uint32Array(maxInflated);
  private readonly words = new Float64Array(3);

  /** Reads have the ring's tokens from `firstToken` on; unpacking, the chores' tags from 0 on. */
  constructor(
    readonly layers: readonly Layer[],
    readonly io: Io,
    readonly waits: Waits,
    readonly chores: Chores,
    readonly firstToken: number,
    readonly inflated: Inflated,
  ) {
    this.clusterRoom = Math.max(...layers.map(({ clusterBytes }) => clusterBytes), pieceBytes);
    this.packedRoom = 2 * this.clusterRoom + 2 * pieceBytes;
    this.count = Math.min(Math.max(Math.floor(mostBytes / this.clusterRoom), 2), maxInflated);
  }

  /**
   * The host address of the unpacked cluster that an entry of a layer describes; 0 when the task has to wait: it is
   * told by `inflated`, or has to try again; minus one when the entry is broken.
   */
  find(number: number, high: number, low: number, task: number): number {
    const layer = this.layers[number]!;
    if (packedOffset(layer, high, low) >= layer.ends[writtenEnd]!) return -1;
    let victim = -1;
    for (let i = 0; i < this.count; i++) {
      const state = this.states[i]!;
      const same = this.layerOf[i] === number && this.highs[i] === high && this.lows[i] === low;
      if (state !== State.empty && same) {
        this.lastUse[i] = ++this.words[clock]!;
        if (state === State.ready) return this.clusterAt(i);
        this.waits.park(List.inflated + i, task);
        return 0;
      }
      if (state !== State.empty && state !== State.ready) continue;
      if (victim < 0 || this.lastUse[i]! < this.lastUse[victim]!) victim = i;
    }
    if (victim < 0) {
      this.waits.park(List.inflateRoom, task);
      return 0;
    }
    this.waits.park(List.inflated + victim, task);
    this.lastUse[victim] = ++this.words[clock]!;
    this.layerOf[victim] = number;
    this.highs[victim] = high;
    this.lows[victim] = low;
    this.tries[victim] = 0;
    this.done[victim] = 0;
    this.begin(victim);
    return 0;
  }

  /** The read for a buffer has ended. */
  readEnded(buffer: number, result: number): void {
    const again = result === -Errno.EINTR || result === -Errno.EAGAIN;
    if (result > 0) this.done[buffer]! += result;
    const part = this.done[buffer]! < this.skips[buffer]! + this.lengths[buffer]!;
    if ((result > 0 && part) || (again && ++this.tries[buffer]! < maxTries)) {
      this.begin(buffer);
    } else if (result <= 0) {
      this.settle(buffer, result < 0 ? -result : Errno.EIO);
    } else {
      this.states[buffer] = State.waiting;
      this.words[waiting]!++;
      this.unpack();
    }
  }

  /** There have been chores; the descriptor may tell of one after it was reported. */
  get hasChores(): boolean {
    return this.words[used] === 1;
  }

  /** The chore for a buffer has ended. */
  unpacked(buffer: number, error: number): void {
    this.settle(buffer, error);
  }

  /** Hands what waits to the thread for chores, as far as it takes more. */
  unpack(): void {
    for (let i = 0; i < this.count && this.words[waiting]! > 0; i++) {
      if (this.states[i] !== State.waiting) continue;
      const { spec, clusterBytes } = this.layers[this.layerOf[i]!]!;
      const kind = spec.tables!.compression;
      const from = this.packedAt(i) + this.skips[i]!;
      const to = this.clusterAt(i);
      if (!this.chores.decompress(i, kind, from, this.lengths[i]!, to, clusterBytes)) return;
      this.states[i] = State.unpacking;
      this.words[waiting]!--;
      this.words[used] = 1;
    }
  }

  private begin(buffer: number): void {
    const layer = this.layers[this.layerOf[buffer]!]!;
    const [high, low] = [this.highs[buffer]!, this.lows[buffer]!];
    const start = packedOffset(layer, high, low);
    // the last sector need not be whole
    const end = Math.min(start + packedBytes(layer, high, low), layer.ends[writtenEnd]!);
    const from = Math.floor(start / pieceBytes) * pieceBytes;
    this.states[buffer] = State.reading;
    this.skips[buffer] = start - from;
    this.lengths[buffer] = end - start;
    const done = this.done[buffer]!;
    const bytes = Math.ceil((end - from) / pieceBytes) * pieceBytes - done;
    const at = this.packedAt(buffer) + done;
    this.io.read(layer.fd, at, bytes, from + done, this.firstToken + buffer);
  }

  private settle(buffer: number, error: number): void {
    this.states[buffer] = error === 0 ? State.ready : State.empty;
    const list = List.inflated + buffer;
    for (let task = this.waits.take(list); task >= 0; task = this.waits.take(list)) {
      this.inflated(task, this.clusterAt(buffer), error);
    }
    this.waits.wake(List.inflateRoom);
  }

  private clusterAt(buffer: number): number {
    return this.start + buffer * this.clusterRoom;
  }

  private packedAt(buffer: number): number {
    return this.start + this.count * this.clusterRoom + buffer * this.packedRoom;
  }

  /** Aligned for O_DIRECT. */
  private get start(): number {
    if (this.memory.length === 0) {
      const bytes = this.count * (this.clusterRoom + this.packedRoom);
      this.memory.push(new Block(bytes + pieceBytes));
    }
    return Math.ceil(this.memory[0]!.address / pieceBytes) * pieceBytes;
  }
}

/** Bits of the descriptor's high word that belong to the offset. */
const offsetBits = (layer: Layer) => 62 - (Math.log2(layer.clusterBytes) - 8) - 32;

export function packedOffset(layer: Layer, high: number, low: number): number {
  return (high & (2 ** offsetBits(layer) - 1)) * highUnit + low;
}

/** Bytes from the offset to the end of the last sector. */
export function packedBytes(layer: Layer, high: number, low: number): number {
  const sectors = ((high & 0x3fff_ffff) >>> offsetBits(layer)) + 1;
  return sectors * sectorBytes - (low % sectorBytes);
}
