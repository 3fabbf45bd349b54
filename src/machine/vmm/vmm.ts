/**
 * The VMM of a process: at most one VM, its life, and what is to happen when the guest ends it. Plain `chv` and the API
 * drive the same object. Operations run one after another; each either happens or leaves everything as it was.
 */
import { ExitCode } from "../../exit-codes.ts";
import { monotonicNs } from "../../ffi/clock.ts";
import { close } from "../../ffi/file.ts";
import { compileSoon } from "../../jit-policy.ts";
import { log } from "../../log.ts";
import { checkBoot } from "../config/check.ts";
import { withIds } from "../config/ids.ts";
import type { VmConfig } from "../config/vm.ts";
import type { ConsoleWatch } from "../console/watch.ts";
import { VmmError } from "./errors.ts";
import type { EventLog } from "./events.ts";
import { Guest } from "./guest.ts";
import type { Reaction, Reactions } from "./reactions.ts";
import { allow, type Operation, type VmState } from "./states.ts";
import { endOf } from "./wait.ts";

/** How the process is to end: the exit code, and the line that goes before it when it is not a success. */
export interface End {
  readonly code: number;
  readonly why?: string;
}

interface Vm {
  config: VmConfig;
  /** How its creator wants to see the configuration. */
  readonly show: (config: VmConfig) => object;
  guest: Guest | undefined;
  /** What the consoles of the last boot said. */
  consoles?: ConsoleWatch | undefined;
  /** The machine is there, and what it boots is still being loaded. */
  loading: boolean;
  /** It has run, and is shut down. */
  shutDown: boolean;
  /** Descriptors that came with its devices: they are its own, through every boot. */
  fds: readonly number[];
}

export class Vmm {
  readonly #ended = Promise.withResolvers<End>();
  #vm: Vm | undefined;
  /** Operations run one after another. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(
    readonly events: EventLog,
    readonly reactions: Reactions,
    /** Consoles are looked at: somebody may ask what they said. */
    readonly watch = false,
  ) {}

  /** Resolves when the process has a reason to end; the VM is still there then. */
  get ended(): Promise<End> {
    return this.#ended.promise;
  }

  /** The process is to end. The first reason counts. */
  end(end: End): void {
    this.#ended.resolve(end);
  }

  get state(): VmState {
    const vm = this.#vm;
    if (vm === undefined) return "None";
    if (vm.guest === undefined || vm.loading) return vm.shutDown ? "Shutdown" : "Created";
    return vm.guest.machine.state === "paused" ? "Paused" : "Running";
  }

  /** The VM's configuration. Throws VmmError when there is none. */
  get config(): VmConfig {
    return this.#vmFor("info").config;
  }

  /** What the consoles say, or said before the VM was shut down. Throws VmmError when it has not been booted. */
  get consoles(): ConsoleWatch {
    const { consoles } = this.#vmFor("info");
    if (consoles === undefined) throw new VmmError("state", "The VM has not been booted yet");
    return consoles;
  }

  /** The machine of a VM that runs or is paused. */
  get guest(): Guest | undefined {
    return this.#vm?.guest;
  }

  /** The same, as its creator spells it. */
  get shownConfig(): object {
    const { config, show } = this.#vmFor("info");
    return show(config);
  }

  /** Stores a configuration that was found good; nothing is opened. Throws ConfigError when two devices share an id. */
  create(config: VmConfig, show: (config: VmConfig) => object = (same) => same): Promise<void> {
    return this.#step("create", async () => {
      this.#vm = newVm(config, show);
      this.#tell("created");
    });
  }

  /**
   * Changes the configuration of a VM that does not run. What `change` throws leaves it as it was. `take` gives the
   * descriptors that the new configuration brings along, which are the VM's from then on.
   */
  edit(
    change: (config: VmConfig) => VmConfig,
    take: () => readonly number[] = () => [],
  ): Promise<void> {
    return this.#step("edit", async () => {
      const vm = this.#vm!;
      vm.config = withIds(change(vm.config));
      const used = vm.config.net?.flatMap(({ fds = [] }) => fds) ?? [];
      const [kept, unused] = [[...take()], [] as number[]];
      for (const fd of vm.fds) (used.includes(fd) ? kept : unused).push(fd);
      vm.fds = kept;
      for (const fd of unused) close(fd);
    });
  }

  /** Throws ConfigError or KvmError; then the VM is as it was and nothing is left open. */
  boot(): Promise<void> {
    return this.#step("boot", async () => {
      const vm = this.#vm!;
      if (vm.guest) return this.#resume(vm.guest);
      await this.#start(vm);
    });
  }

  /** The same at once, for a process whose start is waited for; the VM is there when this returns. */
  bootNow(config: VmConfig): Promise<void> {
    allow("create", this.state);
    const vm = newVm(config, (same) => same);
    const started = this.#start(vm);
    this.#vm = vm;
    const step = this.#queue.then(() => started);
    this.#queue = step.catch(() => {});
    return step;
  }

  /** The vCPUs are let in before it is known how loading goes: the first of them loads. */
  async #start(vm: Vm): Promise<void> {
    const { onPoweroff, onReboot, onPanic } = this.reactions;
    const listener = {
      poweredOff: () => this.#react(onPoweroff, { code: ExitCode.ok }),
      wantsReset: () => this.#react(onReboot, { code: ExitCode.ok }),
      panicked: (why: string) => {
        if (onPanic !== "keep") this.#react(onPanic, { code: ExitCode.guestPanic, why });
      },
      quit: () => this.end({ code: ExitCode.ok }),
      failed: (code: number, why: string) => this.end({ code, why }),
    };
    const guest = new Guest(checkBoot(vm.config), this.events, listener, this.watch);
    vm.guest = guest;
    vm.loading = true;
    try {
      guest.boot();
      await guest.machine.loaded;
    } catch (error) {
      vm.guest = undefined;
      await guest.stop();
      throw error;
    } finally {
      vm.loading = false;
    }
    compileSoon();
    vm.consoles = guest.consoles;
    vm.shutDown = false;
  }

  pause(): Promise<void> {
    return this.#step("pause", async () => {
      await this.#pause(this.#vm!.guest!);
    });
  }

  async #pause(guest: Guest): Promise<void> {
    await guest.machine.pause();
    this.#tell("paused");
  }

  resume(): Promise<void> {
    return this.#step("resume", () => this.#resume(this.#vm!.guest!));
  }

  async #resume(guest: Guest): Promise<void> {
    await guest.machine.resume();
    this.#tell("resumed");
  }

  /** The machine starts over; one that was paused runs afterwards. Without what to boot it is shut down. */
  reboot(): Promise<void> {
    return this.#step("reboot", async () => {
      const vm = this.#vm!;
      this.#tell("reset", { source: "api" });
      try {
        await vm.guest!.reset();
      } catch (error) {
        if (vm.guest!.machine.state === "created") await this.#shutDown(vm);
        throw error;
      }
    });
  }

  shutdown(): Promise<void> {
    return this.#step("shutdown", () => this.#shutDown(this.#vm!));
  }

  async #shutDown(vm: Vm): Promise<void> {
    await vm.guest?.stop();
    vm.guest = undefined;
    vm.shutDown = true;
    this.#tell("shutdown");
  }

  /** Works in every state; without a VM there is nothing to do. */
  delete(): Promise<void> {
    return this.#step("delete", async () => {
      const vm = this.#vm;
      if (vm?.guest) await this.#shutDown(vm);
      if (vm) this.#tell("deleted");
      if (vm) closeAll(vm);
      this.#vm = undefined;
    });
  }

  /** Runs an operation of the running machine in its turn. */
  withGuest<T>(operation: Operation, run: (guest: Guest) => Promise<T>): Promise<T> {
    return this.#step(operation, () => run(this.#vm!.guest!));
  }

  /** The guest did something that ends its life, or would; `end`: how the process ends where that is the reaction. */
  #react(reaction: Reaction, end: End): void {
    if (reaction === "exit") {
      this.end(end);
      return;
    }
    const vm = this.#vm;
    const guest = vm?.guest;
    this.#next(async () => {
      if (!vm || !guest || vm.guest !== guest) return; // shut down meanwhile
      if (reaction === "restart") await guest.reset();
      else if (reaction === "keep") await this.#shutDown(vm);
      else await this.#pause(guest);
    }).catch((error: unknown) => {
      const { message, exitCode = ExitCode.internal } = error as Error & { exitCode?: number };
      this.end({ code: exitCode, why: `${reaction}: ${message}` });
    });
  }

  /** Stops the VM, if there is one, for the end of the process. Everything is freed, also after an error. */
  async close(): Promise<void> {
    const stopped = this.#next(async () => {
      const vm = this.#vm;
      if (vm === undefined) return;
      const lives = vm.guest && endOf(this.events) === undefined;
      try {
        await vm.guest?.stop();
      } finally {
        this.restoreTerminal();
        vm.guest = undefined; // nobody is to reach what is closed
        vm.shutDown = true;
        if (lives) this.#tell("shutdown");
        closeAll(vm);
      }
    });
    await stopped.catch((error: unknown) => log.error((error as Error).message));
  }

  /** Gives a terminal its mode back, now; for every way the process may end. */
  restoreTerminal(): void {
    this.#vm?.guest?.machine.restoreTerminal();
  }

  #vmFor(operation: Operation): Vm {
    allow(operation, this.state);
    const vm = this.#vm;
    if (vm === undefined) throw new VmmError("absent", "There is no VM; create one first");
    return vm;
  }

  #tell(event: string, properties?: object): void {
    this.events.tell("vm", event, monotonicNs(), properties);
  }

  /** Runs an operation in its turn, if the VM's state allows it then. */
  #step<T>(operation: Operation, run: () => Promise<T>): Promise<T> {
    return this.#next(async () => {
      allow(operation, this.state);
      return run();
    });
  }

  #next<T>(run: () => Promise<T>): Promise<T> {
    const step = this.#queue.then(run);
    this.#queue = step.catch(() => {});
    return step;
  }
}

function newVm(config: VmConfig, show: Vm["show"]): Vm {
  return {
    config: withIds(config),
    show,
    guest: undefined,
    loading: false,
    shutDown: false,
    fds: [],
  };
}

function closeAll(vm: Vm): void {
  for (const fd of vm.fds) close(fd);
  vm.fds = [];
}
