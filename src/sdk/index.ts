/**
 * The package `chv`: machines from TypeScript. `boot` starts the chv executable, which is driven by a socket of its own
 * (`chv run --control`) and ends with the script, however that ends.
 */
import { launch } from "./launch.ts";
import type { BootOptions } from "./options.ts";
import { Vm } from "./vm.ts";

/** A machine that is told to end has this long; one whose disks outlive it, as long as its guest may take, and more. */
const endMs = 10_000;
const orderlyEndMs = 100_000;

/**
 * Boots an image; resolves when the guest runs. Write `await using vm = await boot(…)`: the machine ends with the
 * block. Throws BinaryError when there is no chv, MachineError when there can be no such machine.
 */
export async function boot(options: BootOptions): Promise<Vm> {
  const { env, cwd, user, keep, disks = [] } = options;
  const defaults = { ...(env && { env }), ...(cwd && { cwd }), ...(user && { user }) };
  const outlived =
    keep !== undefined || disks.some((disk) => typeof disk === "string" || !disk.readonly);
  const vm = new Vm(await launch(options), defaults, outlived ? orderlyEndMs : endMs);
  await vm.running;
  return vm;
}

export type { Console, ConsoleLine, ConsoleName, ExpectOptions } from "./console.ts";
export type { Counters, Ctl, Goal, Info, Ping, State } from "./ctl.ts";
export {
  BinaryError,
  CommandError,
  type Exit,
  ExpectError,
  MachineError,
  type Reason,
  RefusedError,
  type RunResult,
} from "./errors.ts";
export type { Events, MachineEvent } from "./events.ts";
export type {
  BootOptions,
  CloudInit,
  Cpus,
  Disk,
  Duration,
  FileOrText,
  Keys,
  Memory,
  Net,
  Size,
} from "./options.ts";
export type { Abort, Input, RunOptions, Sink } from "./run-options.ts";
export type { Vm } from "./vm.ts";
