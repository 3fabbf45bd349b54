/**
 * How long to look for something before going to sleep. To sleep and be woken costs a processor about 10 us; so a
 * thread that would be woken sooner does better to look, and one that would sleep for longer does not: what it waits
 * for may need the processor. Waits of different kinds have a window each.
 */

/** The longest time as a rule, in ns. */
const mostPollNs = 10_000;
/** What it takes to be woken, in ns. */
const wakeNs = 10_000;
/** Sleeps in a row that were too long, after which nobody looks any more. */
const patience = 4;

export class PollWindow {
  #ns = 0;
  #misses = 0;

  /** A sleep of at most `shortNs`, in which being woken takes its time, could as well have been a look. */
  constructor(
    readonly mostNs = mostPollNs,
    readonly shortNs = mostNs + wakeNs,
  ) {}

  /** For how long to look; 0: once. */
  get ns(): number {
    return this.#ns;
  }

  /** There was nothing to do for so long: it was slept. */
  idled(ns: number): void {
    if (ns <= this.shortNs) {
      this.#ns = this.mostNs;
      this.#misses = 0;
    } else if (++this.#misses >= patience) {
      this.#ns = 0;
    }
  }
}
