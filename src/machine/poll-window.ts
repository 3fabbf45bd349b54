/**
 * How long to look for something before going to sleep. To sleep and be woken costs a processor about 10 us; so a
 * thread that would be woken sooner does better to look, and one that would sleep for longer does not: what it waits
 * for may need the processor. Waits of different kinds have a window each.
 */

/** The longest time, in ns. */
export const mostPollNs = 10_000;
/** Sleeps in a row that were too long, after which nobody looks any more. */
const patience = 4;

export class PollWindow {
  /** A sleep of so many ns, in which being woken takes its time, could as well have been a look. */
  readonly #shortNs: number;
  #ns = 0;
  #misses = 0;

  constructor(shortNs = 2 * mostPollNs) {
    this.#shortNs = shortNs;
  }

  /** For how long to look; 0: once. */
  get ns(): number {
    return this.#ns;
  }

  /** There was nothing to do for so long: it was slept. */
  idled(ns: number): void {
    if (ns <= this.#shortNs) {
      this.#ns = mostPollNs;
      this.#misses = 0;
    } else if (++this.#misses >= patience) {
      this.#ns = 0;
    }
  }
}
