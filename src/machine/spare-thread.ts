/**
 * A vCPU's thread and the API's, started before it is known what for: loading their code takes as long as reading the
 * command line and setting the machine up, and goes on beside it. `src/main.ts` imports this file before all else.
 */
import { moveOthersAway } from "../ffi/placement.ts";
import { apiWorkerUrl, firstVcpuWorkerUrl } from "../workers.ts";

/** A worker has no arguments of its own to look at: this runs in the main thread alone. */
let spare: Worker | undefined = asksForBoot(Bun.argv)
  ? new Worker(firstVcpuWorkerUrl, { name: "vcpu0" })
  : undefined;

let spareApi: Worker | undefined = asksForApi(Bun.argv)
  ? new Worker(apiWorkerUrl, { name: "api" })
  : undefined;

if (spare ?? spareApi) moveOthersAway();

/**
 * The options that only a boot has; a command's own are checked later, and at worst a thread was started for nothing.
 */
function asksForBoot(argv: readonly string[]): boolean {
  return ["--kernel", "--disk", "--firmware"].some((option) => isGiven(option, argv));
}

/** Alone or with `=`. No pattern: the first use of one is its compilation, 0.1 ms of a start. */
function isGiven(option: string, argv: readonly string[]): boolean {
  return argv.some((word) => word === option || word.startsWith(`${option}=`));
}

/** The spare thread, once. */
export function takeSpareThread(): Worker | undefined {
  const worker = spare;
  spare = undefined;
  return worker;
}

/** It serves, and is not the client `ctl`. */
function asksForApi(argv: readonly string[]): boolean {
  return isGiven("--api-socket", argv) && !argv.includes("ctl");
}

/** The API's spare thread, once. */
export function takeSpareApiThread(): Worker | undefined {
  const worker = spareApi;
  spareApi = undefined;
  return worker;
}
