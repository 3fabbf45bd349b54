/**
 * A machine as the VMM sees it: what the guest and its threads do becomes events, log lines and calls of the VMM. One
 * for each boot, so that what a machine says late is never taken for its successor's word.
 */
import { callSite } from "../../bus/call-site.ts";
import type { MachineEvent } from "../../bus/event-ring.ts";
import { EventKind, LogLevel, PvpanicEvent, ResetSource } from "../../bus/events.ts";
import { debugCodeRange, formatDebugCode } from "../../devices/legacy/debug-port.ts";
import { ExitCode } from "../../exit-codes.ts";
import { monotonicNs } from "../../ffi/clock.ts";
import { type Level, log } from "../../log.ts";
import type { BootConfig } from "../config/vm.ts";
import { ConsoleWatch } from "../console/watch.ts";
import { Machine } from "../machine.ts";
import { threadName } from "../spec.ts";
import type { EventLog } from "./events.ts";

/** What the VMM decides. */
export interface GuestListener {
  poweredOff(): void;
  /** The guest asks for a reset, which has not begun. */
  wantsReset(): void;
  /** The guest's kernel panicked: a line that says so. */
  panicked(why: string): void;
  /** Somebody typed the escape key and asked to quit. */
  quit(): void;
  /** The machine cannot go on. */
  failed(code: number, why: string): void;
}

export class Guest {
  readonly machine: Machine;
  /** What the guest's consoles say, for the API; undefined when nobody is to know. */
  readonly consoles: ConsoleWatch | undefined;
  #bootedNs = 0;
  /** Resets asked for before this moment have been done. */
  #resetNs = 0;

  /** Opens and builds the machine; throws as Machine does. */
  constructor(
    readonly config: BootConfig,
    readonly events: EventLog,
    readonly listener: GuestListener,
    watch: boolean,
  ) {
    this.machine = new Machine(config, {
      onEvent: (event) => this.#handlers[event.kind]?.(event),
      onNote: (text) => log.info(text),
      onWarning: (text) => log.warn(text),
    });
    if (watch) {
      this.consoles = new ConsoleWatch(this.machine.consoles, (console) =>
        events.tell("guest", "login", monotonicNs(), { console }),
      );
    }
    for (const { option, path } of this.machine.ptys) log.warn(`${option} pty: ${path}`);
  }

  boot(): void {
    this.#bootedNs = monotonicNs();
    this.events.tell("vm", "booting", this.#bootedNs);
    this.machine.boot();
  }

  /** Starts over. Requests for a reset that come from the life that ends are not heard any more. */
  async reset(): Promise<void> {
    this.#resetNs = Number.POSITIVE_INFINITY;
    try {
      await this.machine.reset(() => {
        this.#resetNs = monotonicNs();
        this.consoles?.beginLife();
      });
    } finally {
      if (this.#resetNs === Number.POSITIVE_INFINITY) this.#resetNs = 0; // the old life goes on
    }
  }

  /** Ends the machine, and takes what it said last. */
  async stop(): Promise<void> {
    await this.machine.stop();
    this.consoles?.close();
  }

  readonly #handlers: Readonly<Record<number, (event: MachineEvent) => void>> = {
    [EventKind.log]: (event) => this.#logFor(event),
    [EventKind.outputLost]: (event) => {
      this.#logFor(event);
      this.events.tell("vm", "output-lost", event.timeNs, { reason: event.text });
    },
    [EventKind.deviceFailed]: (event) => this.#deviceFailed(event),
    [EventKind.firstEntry]: ({ timeNs }) => this.events.tell("vm", "first-run", timeNs),
    [EventKind.kernelEntered]: ({ timeNs }) => this.events.tell("guest", "kernel", timeNs),
    [EventKind.debugCode]: (event) => this.#debugCode(event),
    [EventKind.reset]: (event) => this.#reset(event),
    [EventKind.guestPanic]: (event) => this.#panic(event),
    [EventKind.poweroff]: ({ timeNs }) => {
      if (timeNs < this.#resetNs) return;
      this.events.tell("vm", "poweroff", timeNs);
      this.listener.poweredOff();
    },
    [EventKind.quit]: () => this.listener.quit(),
    [EventKind.badExit]: ({ timeNs, text }) => {
      this.events.tell("vm", "failed", timeNs, { reason: text });
      this.listener.failed(ExitCode.bootFailed, text);
    },
    [EventKind.threadFailed]: (event) => {
      const why = event.text.replace(/\s+/g, " ");
      const text = `${this.#thread(event)} ended on an error of chv's own: ${why}`;
      this.events.tell("vm", "failed", event.timeNs, { reason: text });
      this.listener.failed(ExitCode.internal, text);
    },
  };

  #debugCode({ a: code, timeNs }: MachineEvent): void {
    const range = debugCodeRange(code);
    log.debug(formatDebugCode(code, (timeNs - this.#bootedNs) / 1e9));
    const event = range === "Userspace" ? "userspace" : "debug-code";
    this.events.tell("guest", event, timeNs, { code, range });
  }

  #deviceFailed(event: MachineEvent): void {
    const [id = "", reason = ""] = event.text.split("\0");
    this.events.tell(id, "error", event.timeNs, { reason });
    this.#logFor({ ...event, a: LogLevel.warn, text: `${id}: ${reason}` });
  }

  /** pvpanic: the guest's kernel has ended its life, or goes on in its crash kernel. */
  #panic({ a: what, timeNs }: MachineEvent): void {
    const last_lines = this.machine.lastLines();
    const said = Object.values(last_lines).flat();
    const line = said.findLast((text) => /kernel panic/i.test(text)) ?? said.at(-1);
    const why = `the guest has panicked${line === undefined ? "" : `: ${line}`}`;
    const crashKernel = what === PvpanicEvent.crashLoaded;
    this.events.tell("guest", crashKernel ? "crash-loaded" : "panic", timeNs, { last_lines });
    log.warn(crashKernel ? `${why} (its crash kernel goes on)` : why);
    if (!crashKernel) this.listener.panicked(why);
  }

  #reset({ a: source, timeNs }: MachineEvent): void {
    if (timeNs < this.#resetNs) return; // the guest asked more than once before it was stopped
    const by = Object.entries(ResetSource).find(([, value]) => value === source)?.[0];
    if (source === ResetSource.watchdog) log.warn("the watchdog has fired: the machine is reset");
    else log.info(`reset by ${by}`);
    this.events.tell("vm", "reset", timeNs, { source: by });
    this.#resetNs = Number.POSITIVE_INFINITY;
    this.listener.wantsReset();
  }

  /** A line of another thread; its level is the event's first number, its place this one where it has none. */
  #logFor(event: MachineEvent): void {
    const { place, text } = event;
    const { file, line } = callSite(place ?? new Error().stack ?? "", place === undefined ? 2 : 0);
    log.writeRecord({
      level: event.a as Level,
      thread: this.#thread(event),
      seconds: (event.timeNs - this.events.startNs) / 1e9,
      file,
      line,
      text,
    });
  }

  #thread({ source }: MachineEvent): string {
    return threadName(source, this.config.cpus.boot_vcpus);
  }
}
