/** Plain `chv --kernel …`: boots one machine and stays until it ends. What ends it is the exit code. */

import type { MachineEvent } from "../bus/event-ring.ts";
import { EventKind, ResetSource } from "../bus/events.ts";
import { debugCodeRange, formatDebugCode } from "../devices/legacy/debug-port.ts";
import { ExitCode } from "../exit-codes.ts";
import { monotonicNs } from "../ffi/clock.ts";
import { type Level, log } from "../log.ts";
import type { BootConfig } from "../machine/config/vm.ts";
import type { VmmOptions } from "../machine/config/vmm.ts";
import { EventMonitor } from "../machine/event-monitor.ts";
import { Machine } from "../machine/machine.ts";
import { threadName } from "../machine/spec.ts";

/** How a run ended: the exit code, and the line that goes before it when it is not a success. */
interface End {
  readonly code: number;
  readonly why?: string;
}

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
  const run = new BootRun(config, options, startNs);
  return run.toTheEnd();
}

class BootRun {
  readonly #monitor: EventMonitor | undefined;
  readonly #ended = Promise.withResolvers<End>();
  #machine: Machine | undefined;
  #bootedNs = 0;
  /** Resets asked for before this moment have been done. */
  #resetNs = 0;

  constructor(
    readonly config: BootConfig,
    options: VmmOptions,
    readonly startNs: number,
  ) {
    const target = options.eventMonitor;
    this.#monitor = target && EventMonitor.to(target, startNs);
  }

  async toTheEnd(): Promise<number> {
    for (const [signal, code] of endingSignals) {
      process.on(signal, () => this.#ended.resolve({ code }));
    }
    this.#tell("vmm", "starting", this.startNs, {
      pid: process.pid,
      monotonic_ns: Math.round(this.startNs),
      wall_ms: Date.now(),
    });
    const machine = new Machine(this.config, {
      onEvent: (event) => this.#hear(event),
      onNote: (text) => log.info(text),
    });
    this.#machine = machine;
    process.on("exit", () => machine.restoreTerminal());
    if (machine.serialPath) log.warn(`--serial pty: ${machine.serialPath}`);
    this.#bootedNs = monotonicNs();
    this.#tell("vm", "booting", this.#bootedNs);
    machine.boot();

    const end = await this.#ended.promise;
    if (end.why) log.error(end.why);
    const stopped = await machine.stop().catch((error: unknown) => error as Error);
    if (stopped) log.error(stopped.message);
    this.#tell("vmm", "exit", monotonicNs(), { code: end.code });
    return end.code;
  }

  #tell(source: string, event: string, timeNs: number, properties?: object): void {
    this.#monitor?.write(source, event, timeNs, properties);
  }

  #hear(event: MachineEvent): void {
    this.#handlers[event.kind]?.(event);
  }

  readonly #handlers: Readonly<Record<number, (event: MachineEvent) => void>> = {
    [EventKind.log]: (event) => this.#logFor(event),
    [EventKind.outputLost]: (event) => this.#logFor(event),
    [EventKind.firstEntry]: ({ timeNs }) => this.#tell("vm", "first-run", timeNs),
    [EventKind.kernelEntered]: ({ timeNs }) => this.#tell("guest", "kernel", timeNs),
    [EventKind.debugCode]: (event) => this.#debugCode(event),
    [EventKind.reset]: (event) => this.#reset(event),
    [EventKind.poweroff]: ({ timeNs }) => {
      this.#tell("vm", "poweroff", timeNs);
      this.#ended.resolve({ code: ExitCode.ok });
    },
    [EventKind.quit]: () => this.#ended.resolve({ code: ExitCode.ok }),
    [EventKind.badExit]: ({ timeNs, text }) => {
      this.#tell("vm", "failed", timeNs, { reason: text });
      this.#ended.resolve({ code: ExitCode.bootFailed, why: text });
    },
    [EventKind.threadFailed]: (event) => {
      const why = event.text.replace(/\s+/g, " ");
      const text = `${this.#thread(event)} ended on an error of chv's own: ${why}`;
      this.#tell("vm", "failed", event.timeNs, { reason: text });
      this.#ended.resolve({ code: ExitCode.internal, why: text });
    },
  };

  #debugCode({ a: code, timeNs }: MachineEvent): void {
    const range = debugCodeRange(code);
    const seconds = (timeNs - this.#bootedNs) / 1e9;
    log.debug(formatDebugCode(code, seconds));
    const event = range === "Userspace" ? "userspace" : "debug-code";
    this.#tell("guest", event, timeNs, { code, range });
  }

  #reset({ a: source, timeNs }: MachineEvent): void {
    if (timeNs < this.#resetNs) return; // the guest asked more than once before it was stopped
    const by = Object.entries(ResetSource).find(([, value]) => value === source)?.[0];
    log.info(`reset by ${by}`);
    this.#tell("vm", "reset", timeNs, { source: by });
    this.#resetNs = Number.POSITIVE_INFINITY;
    const done = () => {
      this.#resetNs = monotonicNs();
    };
    this.#machine!.reset(done).catch((error: unknown) => {
      const { message, exitCode = ExitCode.internal } = error as Error & { exitCode?: number };
      this.#ended.resolve({ code: exitCode, why: `reset: ${message}` });
    });
  }

  /** A line of another thread; its level is the event's first number. */
  #logFor(event: MachineEvent): void {
    log.writeRecord({
      level: event.a as Level,
      thread: this.#thread(event),
      seconds: (event.timeNs - this.startNs) / 1e9,
      file: "machine",
      line: 0,
      text: event.text,
    });
  }

  #thread({ source }: MachineEvent): string {
    return threadName(source, this.config.cpus.boot_vcpus);
  }
}
