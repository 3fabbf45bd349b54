/**
 * A bounded cache of pieces ("slices") of tables: L2 tables, or refcount blocks. A slice has a tag, its number in the
 * whole of all tables. Its bytes lie here as they are in the image, aligned for O_DIRECT. Slices that are dirty,
 * pinned or being loaded stay; of the others, those that were not used lately make room first.
 */
import { Block } from "../../../ffi/block.ts";
import { pieceBytes } from "./format.ts";

const State = { empty: 0, loading: 1, valid: 2 } as const;
/** Words of the cache's own state: where `victim` looks next, and how many slices are dirty. */
const [hand, dirtyTotal] = [0, 1];
const clean = -1;

export class SliceCache {
  /** The bytes of all slices; slice `i` begins at `i * sliceBytes`. */
  readonly view: DataView;
  /** By slice: whatever its user wants to remember of one that is being loaded. */
  readonly notes: Int32Array;
  private readonly memory: Block;
  private readonly base: number;
  private readonly tags: Float64Array;
  private readonly states: Uint8Array;
  /** The dirty slices, and by slice its place among them. */
  private readonly dirty: Uint32Array;
  private readonly places: Int32Array;
  private readonly pins: Uint32Array;
  private readonly used: Uint8Array;
  /** Hash chains: the first slice of each, and the slice behind each. */
  private readonly heads: Int32Array;
  private readonly nexts: Int32Array;
  private readonly words = new Uint32Array(2);

  constructor(
    readonly slices: number,
    readonly sliceBytes: number,
  ) {
    this.memory = new Block(slices * sliceBytes + pieceBytes);
    this.base = Math.ceil(this.memory.address / pieceBytes) * pieceBytes;
    const shift = this.base - this.memory.address;
    this.view = new DataView(this.memory.buffer, shift, slices * sliceBytes);
    this.notes = new Int32Array(slices);
    this.tags = new Float64Array(slices).fill(-1);
    this.states = new Uint8Array(slices);
    this.dirty = new Uint32Array(slices);
    this.places = new Int32Array(slices).fill(clean);
    this.pins = new Uint32Array(slices);
    this.used = new Uint8Array(slices);
    this.heads = new Int32Array(2 ** Math.ceil(Math.log2(slices + 1))).fill(-1);
    this.nexts = new Int32Array(slices).fill(-1);
  }

  /** Where the slice with a tag is, valid or being loaded; -1 when it is not here. */
  find(tag: number): number {
    let slice = this.heads[this.hash(tag)]!;
    while (slice >= 0 && this.tags[slice] !== tag) slice = this.nexts[slice]!;
    if (slice >= 0) this.used[slice] = 1;
    return slice;
  }

  isValid(slice: number): boolean {
    return this.states[slice] === State.valid;
  }

  /** Takes a place for a tag that is not here: the slice, now being loaded, or -1 when none makes room. */
  claim(tag: number): number {
    const slice = this.victim();
    if (slice < 0) return -1;
    this.forget(slice);
    const bucket = this.hash(tag);
    this.tags[slice] = tag;
    this.states[slice] = State.loading;
    this.used[slice] = 1;
    this.nexts[slice] = this.heads[bucket]!;
    this.heads[bucket] = slice;
    return slice;
  }

  /** The slice's bytes are there. */
  loaded(slice: number): void {
    this.states[slice] = State.valid;
  }

  /** The slice is here no more, as when it could not be loaded. */
  forget(slice: number): void {
    if (this.states[slice] === State.empty) return;
    const bucket = this.hash(this.tags[slice]!);
    if (this.heads[bucket] === slice) {
      this.heads[bucket] = this.nexts[slice]!;
    } else {
      let before = this.heads[bucket]!;
      while (this.nexts[before] !== slice) before = this.nexts[before]!;
      this.nexts[before] = this.nexts[slice]!;
    }
    this.clean(slice);
    this.tags[slice] = -1;
    this.states[slice] = State.empty;
  }

  tag(slice: number): number {
    return this.tags[slice]!;
  }

  /** Host address of the slice's bytes. */
  address(slice: number): number {
    return this.base + slice * this.sliceBytes;
  }

  pin(slice: number): void {
    this.pins[slice]!++;
  }
  unpin(slice: number): void {
    this.pins[slice]!--;
  }

  /** The slice differs from what the image holds. */
  soil(slice: number): void {
    if (this.places[slice] !== clean) return;
    this.places[slice] = this.words[dirtyTotal]!;
    this.dirty[this.words[dirtyTotal]!++] = slice;
  }
  clean(slice: number): void {
    const place = this.places[slice]!;
    if (place === clean) return;
    const last = this.dirty[--this.words[dirtyTotal]!]!;
    this.dirty[place] = last;
    this.places[last] = place;
    this.places[slice] = clean;
  }
  cleanAll(): void {
    while (this.dirtyCount > 0) this.clean(this.dirty[0]!);
  }
  get dirtyCount(): number {
    return this.words[dirtyTotal]!;
  }
  /** One of the dirty slices, by number from 0 on. */
  dirtyAt(number: number): number {
    return this.dirty[number]!;
  }

  /** A slice that may go: an empty one, or one that was not used since the hand last came by. */
  private victim(): number {
    for (let steps = 2 * this.slices; steps > 0; steps--) {
      const slice = this.words[hand]!;
      this.words[hand] = slice + 1 === this.slices ? 0 : slice + 1;
      if (this.states[slice] === State.loading || this.places[slice] !== clean) continue;
      if (this.pins[slice]! > 0) continue;
      if (this.used[slice] === 0) return slice;
      this.used[slice] = 0;
    }
    return -1;
  }

  private hash(tag: number): number {
    return tag & (this.heads.length - 1);
  }
}
