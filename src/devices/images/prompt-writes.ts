/**
 * Whether a write to a cached file is best made at once, by the thread that has it. As a rule it is: it ends in the
 * host's page cache, after a few us, and a ring hands each to a thread of the kernel's (ext4 and others take no write
 * that must not wait), which costs several times that. But a write waits where too many pages are dirty, or the file
 * system is at its journal, or where a part of a page is written and the rest of it must be read: when writes take
 * longer than they should the ring has them for a while. A thread that lost its processor now and then takes no harm.
 */

/** A longer write is copied by the kernel's threads, on other processors. */
const mostBytes = 65_536;
/** What a write may take, and by how much writes may take longer before the ring has them. In ns. */
const [dueNs, patienceNs] = [50_000, 10e6];
/** How long it has them then: longer each time that it happens again soon. */
const [leastRestNs, mostRestNs] = [1e8, 1e10];
/** When the last rest ends, how long it is, and by how much writes have taken longer. */
const [restsUntil, rest, debt] = [0, 1, 2];

export class PromptWrites {
  private readonly state = new Float64Array(3);

  /** A rest goes on: `now` in ns. */
  resting(now: number): boolean {
    return now < this.state[restsUntil]!;
  }

  /** A write of so many bytes is one for this thread, if there is no rest. */
  suits(bytes: number): boolean {
    return bytes <= mostBytes;
  }

  /** A write was made in the time from `start` to `end`. */
  made(start: number, end: number): void {
    const { state } = this;
    state[debt] = Math.max(0, state[debt]! + (end - start) - dueNs);
    if (state[debt]! < patienceNs) return;
    const soon = start < state[restsUntil]! + state[rest]!;
    state[rest] = soon ? Math.min(2 * state[rest]!, mostRestNs) : leastRestNs;
    state[restsUntil] = end + state[rest]!;
    state[debt] = 0;
  }
}
