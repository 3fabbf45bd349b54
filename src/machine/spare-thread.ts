/**
 * A vCPU's thread, started before it is known what for: loading its code takes as long as reading the command line and
 * setting the machine up, and goes on beside it. `src/main.ts` imports this file first.
 */
import { vcpuWorkerUrl } from "../workers.ts";

/** A worker has no arguments of its own to look at: this runs in the main thread alone. */
let spare: Worker | undefined = asksForBoot(Bun.argv)
  ? new Worker(vcpuWorkerUrl, { name: "vcpu0" })
  : undefined;

/**
 * The options that only a boot has; a command's own are checked later, and at worst a thread was started for nothing.
 */
function asksForBoot(argv: readonly string[]): boolean {
  return argv.some((word) => /^--(?:kernel|disk)(?:=|$)/.test(word));
}

/** The spare thread, once. */
export function takeSpareThread(): Worker | undefined {
  const worker = spare;
  spare = undefined;
  return worker;
}
