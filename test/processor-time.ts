/** A bound of what a function may cost, of processor time: what else the host, and this process, does is not counted. */
import { readFileSync } from "node:fs";

/** Of this thread alone (the runtime compiles and collects on others), in seconds. */
function spent(): number {
  return Number(readFileSync("/proc/thread-self/schedstat", "utf8").split(" ")[0]) / 1e9;
}

/** In seconds. */
const most = 1;

/** Throws when `run` took too much. */
export function soon(run: () => void): void {
  const start = spent();
  run();
  const seconds = spent() - start;
  if (seconds > most) throw new Error(`it took ${seconds} s of processor time`);
}
