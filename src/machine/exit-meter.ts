/**
 * Measures what chv itself adds to an exit: the time from the return of one KVM_RUN to the next entry, summed over a
 * run (`./dev bench exits`). Guest time counts as user time, so the kernel's CPU accounting cannot tell the two apart.
 */
import { monotonicNs } from "../ffi/clock.ts";
import { addr, struct } from "../ffi/struct.ts";

/** What one vCPU has counted: times in ns. */
export const ExitTotals = struct("exit-totals", 24, { exits: addr, servedNs: addr, clockNs: addr });

const calibrationReads = 10_000;

export class ExitMeter {
  readonly #totals: InstanceType<typeof ExitTotals>;
  #returnedNs = 0;
  #exits = 0;
  #servedNs = 0;
  #warmUp: number;

  /** The first `warmUp` exits are not counted. */
  constructor(buffer: SharedArrayBuffer, warmUp: number) {
    this.#totals = new ExitTotals(buffer);
    this.#warmUp = warmUp;
    this.#totals.clockNs = clockCost();
  }

  /** KVM_RUN has just returned. */
  returned(): void {
    this.#returnedNs = monotonicNs();
  }

  /** The vCPU is about to enter again. */
  enters(): void {
    if (this.#returnedNs === 0) return;
    if (this.#warmUp > 0) {
      this.#warmUp--;
      return;
    }
    this.#servedNs += monotonicNs() - this.#returnedNs;
    this.#exits++;
  }

  /** Publishes what was counted. */
  store(): void {
    this.#totals.exits = this.#exits;
    this.#totals.servedNs = Math.round(this.#servedNs);
  }
}

/** What one reading of the clock adds to an interval between two: the median, which no preemption moves. */
function clockCost(): number {
  const costs = new Float64Array(calibrationReads);
  let last = monotonicNs();
  for (let i = 0; i < calibrationReads; i++) {
    const now = monotonicNs();
    costs[i] = now - last;
    last = now;
  }
  return Math.round(costs.sort()[calibrationReads >> 1]!);
}
