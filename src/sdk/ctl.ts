/** The operations of the API on a machine: docs/api.md. */
import { type Duration, durationMs } from "./options.ts";

export type State = "Created" | "Running" | "Paused" | "Shutdown";

export interface Info {
  /** The configuration, with defaults and ids. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly state: State;
  readonly memory_actual_size: number;
  /** What was chosen from a disk to boot. */
  readonly boot?: unknown;
  readonly device_tree?: Readonly<Record<string, unknown>>;
}

export interface Ping {
  readonly version: string;
  readonly build_version: string;
  readonly pid: number;
  readonly features: readonly string[];
}

/** By device, what it has counted since the boot. */
export type Counters = Readonly<Record<string, Readonly<Record<string, number>>>>;

export type Goal = "userspace" | "login" | "exit" | `console:/${string}/`;

/** Answers an operation: its JSON, text, or undefined. Throws RefusedError or MachineError. */
export type Call = (method: "GET" | "PUT", operation: string, body?: unknown) => Promise<unknown>;

export class Ctl {
  constructor(
    /** Any operation by its name, such as "vm.add-disk". */
    readonly call: Call,
  ) {}

  ping(): Promise<Ping> {
    return this.#get("vmm.ping") as Promise<Ping>;
  }

  info(): Promise<Info> {
    return this.#get("vm.info") as Promise<Info>;
  }

  counters(): Promise<Counters> {
    return this.#get("vm.counters") as Promise<Counters>;
  }

  /** In Prometheus's format. */
  metrics(): Promise<string> {
    return this.#get("metrics") as Promise<string>;
  }

  /** The vCPUs and all I/O stand still. */
  pause(): Promise<void> {
    return this.#put("vm.pause");
  }

  resume(): Promise<void> {
    return this.#put("vm.resume");
  }

  /** The guest starts over, at once. */
  reboot(): Promise<void> {
    return this.#put("vm.reboot");
  }

  powerButton(): Promise<void> {
    return this.#put("vm.power-button");
  }

  nmi(): Promise<void> {
    return this.#put("vm.nmi");
  }

  /** Stops the machine, at once: it is over then. */
  shutdown(): Promise<void> {
    return this.#put("vm.shutdown");
  }

  /** Makes a raw disk larger; `size` in bytes. */
  resizeDisk(id: string, size: number): Promise<void> {
    return this.#put("vm.resize-disk", { id, desired_size: size });
  }

  /** Waits until something has happened in this life of the guest. */
  async wait(goal: Goal, options: { readonly timeout?: Duration } = {}): Promise<void> {
    const { timeout } = options;
    const limit = timeout === undefined ? {} : { timeout_ms: Math.ceil(durationMs(timeout)) };
    await this.#put("vm.wait", { for: goal, ...limit });
  }

  #get(operation: string): Promise<unknown> {
    return this.call("GET", operation);
  }

  async #put(operation: string, body?: unknown): Promise<void> {
    await this.call("PUT", operation, body);
  }
}
