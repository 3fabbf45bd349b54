/** The clocks. `performance.now()` starts at zero in each worker; this one is the same for all threads. */
import { Block } from "./block.ts";
import { libc } from "./libc.ts";

const CLOCK_MONOTONIC = 1;
const now = new Block(16);
const words = new Uint32Array(now.buffer);

/** CLOCK_MONOTONIC in ns: a number, exact for 104 days of uptime and within 1 ns × 2^k beyond. */
export function monotonicNs(): number {
  libc.clock_gettime(CLOCK_MONOTONIC, now.address as never);
  return (words[1]! * 0x1_0000_0000 + words[0]!) * 1e9 + words[2]!;
}

export const systemClock = { monotonicNs, wallMs: () => Date.now() };
