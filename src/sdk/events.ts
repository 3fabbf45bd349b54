/** What happens to a machine: docs/events.md. */
import { deferred } from "./deferred.ts";

interface Event<Source extends string, Name extends string, Properties = null> {
  /** 1, 2, 3, … */
  readonly sequence: number;
  /** Since the start of chv's process. */
  readonly timestamp: { readonly secs: number; readonly nanos: number };
  /** ms since 1970. */
  readonly wall_ms: number;
  readonly source: Source;
  readonly event: Name;
  readonly properties: Properties;
}

interface Lines {
  /** By console, the last lines that the guest put out. */
  readonly last_lines: Readonly<Record<string, readonly string[]>>;
}

export type MachineEvent =
  | Event<"vmm", "starting", { readonly pid: number; readonly monotonic_ns: number }>
  | Event<"vmm", "api-ready">
  | Event<"vmm", "exit", { readonly code: number }>
  | Event<"vm", "created" | "deleted" | "booting" | "first-run">
  | Event<"vm", "paused" | "resumed" | "shutdown" | "poweroff">
  | Event<"vm", "reset", { readonly source: "i8042" | "acpi" | "tripleFault" | "watchdog" | "api" }>
  | Event<"vm", "output-lost" | "failed", { readonly reason: string }>
  | Event<"guest", "kernel">
  | Event<"guest", "debug-code" | "userspace", { readonly code: number; readonly range: string }>
  | Event<"guest", "panic" | "crash-loaded", Lines>
  | Event<"guest", "login", { readonly console: string }>
  /** `source` is the device's id. */
  | Event<string, "error", { readonly reason: string }>;

/** As many as chv keeps. */
const kept = 4096;

/** Each reader gets all events from the start on, until the machine is over. */
export class Events implements AsyncIterable<MachineEvent> {
  readonly #events: MachineEvent[] = [];
  #forgotten = 0;
  #news = deferred();
  #over = false;

  /** What has happened so far. */
  get all(): readonly MachineEvent[] {
    return this.#events;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<MachineEvent, void, undefined> {
    for (let next = 0; ; ) {
      next = Math.max(next, this.#forgotten);
      for (; next < this.#forgotten + this.#events.length; next++) {
        const event = this.#events[next - this.#forgotten];
        if (event) yield event;
      }
      if (this.#over) return;
      await this.#news.promise;
    }
  }

  take(event: unknown): void {
    this.#events.push(event as MachineEvent);
    if (this.#events.length > kept) {
      this.#events.shift();
      this.#forgotten++;
    }
    this.#tell();
  }

  #tell(): void {
    const { resolve } = this.#news;
    this.#news = deferred();
    resolve();
  }

  close(): void {
    this.#over = true;
    this.#tell();
  }
}
