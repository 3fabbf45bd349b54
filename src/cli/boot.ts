/**
 * Plain `chv`: boots one machine, serves the API, or both, and stays until there is a reason to end. That is the exit
 * code.
 */

import { ExitCode } from "../exit-codes.ts";
import { monotonicNs } from "../ffi/clock.ts";
import type { Api } from "../http/api.ts";
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
  config: BootConfig | undefined,
  options: VmmOptions,
  startNs: number,
): Promise<number> {
  const events = new EventLog(startNs, Date.now() - (monotonicNs() - startNs) / 1e6);
  const monitor = options.eventMonitor && EventMonitor.to(options.eventMonitor);
  if (monitor) events.next((event) => monitor.write(event));
  const vmm = new Vmm(events, options, options.apiSocket !== undefined);
  for (const [signal, code] of endingSignals) process.on(signal, () => vmm.end({ code }));
  process.on("exit", () => vmm.restoreTerminal());
  process.on("SIGWINCH", () => vmm.guest?.machine.terminalResized());
  const { pid } = process;
  events.tell("vmm", "starting", startNs, {
    pid,
    monotonic_ns: Math.round(startNs),
    wall_ms: Date.now(),
  });
  if (config) vmm.bootNow(config);
  const api = options.apiSocket && (await serve(vmm, options.apiSocket));

  const end = await vmm.ended;
  if (end.why) log.error(end.why);
  await vmm.close();
  await api?.close();
  events.tell("vmm", "exit", monotonicNs(), { code: end.code });
  return end.code;
}

/** The API's code is loaded only where it is served. A machine that runs already ends if its API cannot be had. */
async function serve(vmm: Vmm, socket: NonNullable<VmmOptions["apiSocket"]>): Promise<Api> {
  const { serveApi } = await import("../http/api.ts");
  const died = (why: string) =>
    vmm.end({ code: ExitCode.internal, why: `the API's thread: ${why}` });
  try {
    const api = await serveApi(vmm, socket, died);
    vmm.events.tell("vmm", "api-ready", monotonicNs());
    return api;
  } catch (error) {
    await vmm.close();
    throw error;
  }
}
