/**
 * Plain `chv`: boots one machine, serves the API, or both, and stays until there is a reason to end. That is the exit
 * code.
 */

import { ExitCode } from "../exit-codes.ts";
import { monotonicNs } from "../ffi/clock.ts";
import type { Api } from "../http/api.ts";
import { compileSoon } from "../jit-policy.ts";
import { log } from "../log.ts";
import type { BootConfig } from "../machine/config/vm.ts";
import type { VmmOptions } from "../machine/config/vmm.ts";
import { EventMonitor } from "../machine/event-monitor.ts";
import { EventLog } from "../machine/vmm/events.ts";
import { Vmm } from "../machine/vmm/vmm.ts";

/**
 * Signals that end a run cleanly, and the exit code of each: SIGTERM is how chv is told to stop, the rest as shells
 * count. Those at the end would otherwise end the process with the terminal left raw (SIGXCPU: `ulimit -t`).
 */
const endingSignals = [
  ["SIGTERM", ExitCode.ok],
  ["SIGINT", ExitCode.interrupted],
  ["SIGHUP", 128 + 1],
  ["SIGQUIT", 128 + 3],
  ["SIGUSR1", 128 + 10],
  ["SIGUSR2", 128 + 12],
  ["SIGALRM", 128 + 14],
  ["SIGXCPU", 128 + 24],
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
  const vmm = new Vmm(events, options, (options.apiSocket ?? options.apiListen) !== undefined);
  for (const [signal, code] of endingSignals) process.on(signal, () => vmm.end({ code }));
  process.on("exit", () => vmm.restoreTerminal());
  process.on("SIGWINCH", () => vmm.guest?.machine.terminalResized());
  const { pid } = process;
  events.tell("vmm", "starting", startNs, {
    pid,
    monotonic_ns: Math.round(startNs),
    wall_ms: Date.now(),
  });
  if (config) await vmm.bootNow(config);
  const api = await serve(vmm, options);
  compileSoon();

  const end = await vmm.ended;
  if (end.why) log.error(end.why);
  await vmm.close();
  await api.close();
  events.tell("vmm", "exit", monotonicNs(), { code: end.code });
  return end.code;
}

/** The API's code is loaded only where it is served. A machine that runs already ends if its API cannot be had. */
export async function serve(vmm: Vmm, options: VmmOptions): Promise<Pick<Api, "close">> {
  const { apiSocket, apiListen, apiTokenFile } = options;
  const served: Pick<Api, "close">[] = [];
  const close = async () => void (await Promise.all(served.map((one) => one.close())));
  if (apiSocket === undefined && apiListen === undefined) return { close };
  const died = (why: string) =>
    vmm.end({ code: ExitCode.internal, why: `the API's thread: ${why}` });
  try {
    if (apiSocket) {
      const { serveApi } = await import("../http/api.ts");
      served.push(await serveApi(vmm, apiSocket, died));
    }
    if (apiListen !== undefined) {
      const { listenApi } = await import("../http/tcp.ts");
      served.push(listenApi(vmm, { apiListen, apiTokenFile }));
    }
    vmm.events.tell("vmm", "api-ready", monotonicNs());
    return { close };
  } catch (error) {
    await vmm.close();
    await close();
    throw error;
  }
}
