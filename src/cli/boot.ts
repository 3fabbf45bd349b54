/** Plain `chv --kernel …`: boots one machine and stays until it ends. What ends it is the exit code. */

import { ExitCode } from "../exit-codes.ts";
import { monotonicNs } from "../ffi/clock.ts";
import { log } from "../log.ts";
import type { BootConfig } from "../machine/config/vm.ts";
import type { VmmOptions } from "../machine/config/vmm.ts";
import { EventMonitor } from "../machine/event-monitor.ts";
import { EventLog } from "../machine/vmm/events.ts";
import { Vmm } from "../machine/vmm/vmm.ts";

/**
 * Signals that end a run cleanly, and the exit code of each: SIGTERM is how chv is told to stop, the rest as shells
 * count.
 */
const endingSignals = [
  ["SIGTERM", ExitCode.ok],
  ["SIGINT", ExitCode.interrupted],
  ["SIGHUP", 128 + 1],
  ["SIGQUIT", 128 + 3],
] as const;

/** Resolves to the exit code. `startNs`: when the process started, on the monotonic clock. */
export async function runBoot(
  config: BootConfig,
  options: VmmOptions,
  startNs: number,
): Promise<number> {
  const events = new EventLog(startNs, Date.now() - (monotonicNs() - startNs) / 1e6);
  const monitor = options.eventMonitor && EventMonitor.to(options.eventMonitor);
  if (monitor) events.next((event) => monitor.write(event));
  const vmm = new Vmm(events, options);
  for (const [signal, code] of endingSignals) process.on(signal, () => vmm.end({ code }));
  process.on("exit", () => vmm.restoreTerminal());
  const { pid } = process;
  events.tell("vmm", "starting", startNs, {
    pid,
    monotonic_ns: Math.round(startNs),
    wall_ms: Date.now(),
  });
  vmm.bootNow(config);
  const path = vmm.guest?.machine.serialPath;
  if (path) log.warn(`--serial pty: ${path}`);

  const end = await vmm.ended;
  if (end.why) log.error(end.why);
  await vmm.close();
  events.tell("vmm", "exit", monotonicNs(), { code: end.code });
  return end.code;
}
