/**
 * Clusters that nothing refers to any more, in the order in which that came about. Their refcounts fall only when a
 * commit has made that durable, and when no request is in flight that began before: see `Lane`.
 */

/** More than the entries of one slice of an L2 table. */
const defaultCapacity = 2 ** 13;
/** How many entries are committed, how many of those are let go, how many there are, how many are spoken for. */
const [committed, drained, total, reserved] = [0, 1, 2, 3];

export class Frees {
  private readonly starts: Float64Array;
  private readonly counts: Float64Array;
  private readonly state = new Uint32Array(4);

  constructor(readonly capacity = defaultCapacity) {
    this.starts = new Float64Array(capacity);
    this.counts = new Float64Array(capacity);
  }

  /** There is room for this many entries more. */
  hasRoom(entries: number): boolean {
    return this.state[total]! + this.state[reserved]! + entries <= this.capacity;
  }

  /** Speaks for room; `hasRoom` has said that it is there. */
  reserve(entries: number): void {
    this.state[reserved]! += entries;
  }
  unreserve(entries: number): void {
    this.state[reserved]! -= entries;
  }

  /** `count` clusters from `start` on lose one user each. */
  add(start: number, count: number): void {
    const { starts, counts, state } = this;
    const last = state[total]! - 1;
    // a run grows, unless what is there already is committed
    if (last >= state[committed]! && starts[last]! + counts[last]! === start) {
      counts[last]! += count;
      return;
    }
    starts[state[total]!] = start;
    counts[state[total]!] = count;
    state[total]!++;
  }

  get isEmpty(): boolean {
    return this.state[total] === 0;
  }

  /** All that is here is durable. */
  commit(): void {
    this.state[committed] = this.state[total]!;
  }

  /** There are entries that are committed. */
  get hasCommitted(): boolean {
    return this.state[committed]! > 0;
  }

  /** What is committed is let go when the requests in flight now have ended. */
  letGo(): void {
    this.state[drained] = this.state[committed]!;
  }

  /** The entries that were let go: the first of the list. */
  get letGoCount(): number {
    return this.state[drained]!;
  }
  start(entry: number): number {
    return this.starts[entry]!;
  }
  count(entry: number): number {
    return this.counts[entry]!;
  }

  /** The entries that were let go are done with. */
  drop(): void {
    const { starts, counts, state } = this;
    const gone = state[drained]!;
    starts.copyWithin(0, gone, state[total]!);
    counts.copyWithin(0, gone, state[total]!);
    state[committed]! -= gone;
    state[total]! -= gone;
    state[drained] = 0;
  }
}
