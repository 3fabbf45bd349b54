/**
 * One machine: from a configuration to running vCPUs, through pause, reset and the end. The main thread owns it. What
 * the guest does arrives as events; `onEvent` hears each, and decides what a power-off or a failure means.
 */

import { EventRing, type MachineEvent } from "../bus/event-ring.ts";
import { EventKind } from "../bus/events.ts";
import { locked } from "../bus/lock.ts";
import { AcpiEvent } from "../devices/legacy/event-device.ts";
import type { Watchdog } from "../devices/legacy/watchdog.ts";
import type * as BoardModule from "./board.ts";
import { type LastingPlan, planFor, planOf } from "./boot-plan.ts";
import type { BootConfig } from "./config/vm.ts";
import { Consoles, type PtyPath } from "./console/consoles.ts";
import { lastLines } from "./console/last-lines.ts";
import type { ConsoleSpec } from "./console/spec.ts";
import { withConsole } from "./disk-boot/cmdline.ts";
import { type KernelFiles, openKernelFiles, tell } from "./disk-boot/kernel-files.ts";
import { GuestMemory } from "./guest-memory.ts";
import { type LoadOrder, LoadTurn } from "./loading.ts";
import { lostEvents } from "./lost-events.ts";
import { specOf } from "./machine-spec.ts";
import { filesOf, type MemoryFile, withReason } from "./memory-files.ts";
import { firstPersistentSlot } from "./memory-map.ts";
import { Owned } from "./owned.ts";
import { quiesce } from "./quiesce.ts";
import { createBacking } from "./ram-backing.ts";
import { type MachineSpec, ThreadNumber } from "./spec.ts";
import { MachineThreads } from "./threads.ts";
import type * as Counters from "./virtio/counters.ts";
import { openDevices } from "./virtio/devices.ts";
import { persistentRegions } from "./virtio/persistent.ts";
import { plugInto } from "./virtio/plug.ts";
import type { PluggedVirtio } from "./virtio/spec.ts";
import type * as VirtualMachineModule from "./virtual-machine.ts";
import type { VirtualMachine } from "./virtual-machine.ts";

export type MachineState = "created" | "running" | "paused" | "stopped";

/** What the machine's owner is told. */
export interface MachineListener {
  onEvent(event: MachineEvent): void;
  /** Lines for the log that came up while booting. */
  onNote(text: string): void;
  onWarning?(text: string): void;
}

export class Machine {
  readonly #owned = new Owned();
  readonly #threads: MachineThreads;
  readonly #events: EventRing;
  /** But for the kernel's files, which may be others after a reset. */
  readonly #plan: LastingPlan;
  /** Its own, or those that its disk names. */
  kernel: KernelFiles;
  readonly #vm: VirtualMachine;
  /** What guest memory is made of, where that is files. */
  readonly #files: readonly MemoryFile[];
  readonly #spec: MachineSpec;
  #built: BoardModule.Board | undefined;
  readonly #consoles = new Consoles(this.#owned);
  /** As it was asked for, with the consoles that were chosen. */
  readonly config: BootConfig;
  readonly vcpus: number;
  /** Resolves when what is booted is in guest memory; rejects with ConfigError. */
  readonly loaded: Promise<void>;
  #state: MachineState = "created";
  /** What the guest's clock showed when it was paused. */
  #clock: bigint | undefined;
  /** Lifecycle steps run one after another. */
  #queue: Promise<unknown> = Promise.resolve();

  /** Opens and builds everything; nothing runs yet. Throws ConfigError or KvmError; then nothing is left. */
  constructor(
    asked: BootConfig,
    readonly listener: MachineListener,
    meter?: MachineSpec["meter"],
  ) {
    const owned = this.#owned;
    const turn = new LoadTurn();
    this.vcpus = asked.cpus.boot_vcpus;
    try {
      this.kernel = openKernelFiles(asked);
      owned.add(() => this.kernel.close());
      this.config = withConsole(asked, this.kernel.cmdline);
      const { config } = this;
      const serial = this.#consoles.openSerial(config.serial);

      // the threads load their code while the rest is set up
      this.#threads = new MachineThreads(this.vcpus, (thread, why) =>
        this.#threadDied(thread, why),
      );
      owned.add(() => void this.#threads.terminate());

      const devices = openDevices(config, owned, this.#consoles);

      const backing = createBacking(config.memory);
      owned.add(() => backing.close());
      const memory = new GuestMemory(config.memory.size, backing);
      const plugged = plugInto(config.platform?.virtio ?? "pci", devices, owned);
      this.#plan = planOf(config, memory, plugged.virtioMmio);
      this.loaded = this.#orderLoad(turn);
      this.loaded.catch(() => {}); // the owner awaits it, unless what follows throws
      this.#files = filesOf(devices, config.memory, backing);
      const spec = {
        ...specOf(config, memory.regions, this.#threads.control, plugged, owned),
        ...{ serial, meter, barsAnswer: this.kernel.isElf },
      };
      this.#events = new EventRing(spec.events, ThreadNumber.main);
      this.#threads.assign(spec); // vCPU 0 resets the devices
      // KVM's side is loaded while vCPU 0's thread is at work
      const { openVirtualMachine } = require("./virtual-machine.ts") as typeof VirtualMachineModule;
      this.#vm = openVirtualMachine(config.cpus, memory, owned);
      this.#vm.addMemory(firstPersistentSlot, persistentRegions(devices));
      this.#spec = { ...spec, ...this.#vm.numbers };
      this.#threads.vmArrived(this.#spec);
    } catch (error) {
      turn.takeBack();
      owned.close();
      throw error;
    }
    void this.#listen();
  }

  get state(): MachineState {
    return this.#state;
  }

  /** Main's own view of the board is not needed on the way to the first KVM_RUN. */
  get #board(): BoardModule.Board {
    if (this.#built) return this.#built;
    const { buildBoard } = require("./board.ts") as typeof BoardModule;
    this.#built = buildBoard(this.#spec, this.#events);
    return this.#built;
  }

  /** Lets the vCPUs in. */
  boot(): void {
    this.#threads.runVcpus();
    this.#state = "running";
  }

  /** Stops vCPUs and I/O; resolves when all stand still, with every access complete and no request in flight. */
  pause(): Promise<void> {
    return this.#step(async () => {
      if (this.#state !== "running") return;
      await this.#threads.standStill(true);
      this.#clock = this.#vm.readClock();
      this.#withWatchdog((watchdog) => watchdog.pause());
      this.#state = "paused";
    });
  }

  resume(): Promise<void> {
    return this.#step(async () => {
      if (this.#state !== "paused") return;
      if (this.#clock !== undefined) this.#vm.continueClock(this.#clock);
      this.#threads.runIo();
      this.#withWatchdog((watchdog) => watchdog.resume());
      this.#threads.runVcpus();
      this.#state = "running";
    });
  }

  /**
   * As the reset button: the same machine starts over, in the same threads. `stopped` is called when its past is over.
   * When it cannot start over, it is "created": nothing runs, and it is good for `stop` alone.
   */
  reset(stopped: () => void = () => {}): Promise<void> {
    return this.#step(async () => {
      if (this.#state === "stopped") return;
      await this.#threads.standStill(this.#state === "running", stopped);
      this.#state = "created";
      await this.#takeDevices();
      this.#board.reset();
      this.#vm.reset();
      if (this.kernel.choice) this.kernel = openKernelFiles(this.config);
      this.#loadedWith(await this.#threads.loadAnew(this.#order(new LoadTurn(), true)));
      this.#board.expectFirstEntry();
      this.#threads.runVcpus();
      this.#state = "running";
    });
  }

  /** Ends the threads, with the guest's last output written, and frees everything. */
  stop(): Promise<void> {
    return this.#step(async () => {
      if (this.#state === "stopped") return;
      const booted = this.#state !== "created";
      this.#state = "stopped";
      try {
        // a thread that has failed has been told of already
        if (booted) {
          const still = this.#threads.standStill(false).then(() => this.#takeDevices());
          await still.catch((error) => this.listener.onNote(String(error)));
        }
        await this.#threads.leave(); // a thread that does not end keeps what it may still use
        await this.#threads.terminate();
        this.#owned.close();
      } finally {
        this.#events.emit(EventKind.stopped, 0, 0);
      }
    });
  }

  /**
   * Every device is its driver's no more, and nothing is in flight; what the guest had asked for, its last words among
   * it, has been done. A machine that was paused ends what it has in hand. All stand still.
   */
  async #takeDevices(): Promise<void> {
    this.#threads.runIo();
    await quiesce(this.#board.virtio, this.#threads);
  }

  #withWatchdog(run: (watchdog: Watchdog) => void): void {
    const { watchdog } = this.#board;
    if (watchdog) locked(watchdog.lock, () => run(watchdog.device));
  }

  /** What each virtio device has counted, by its id. */
  counters(): Readonly<Record<string, Readonly<Record<string, number>>>> {
    const { virtio } = this.#board;
    const { readCounters } = require("./virtio/counters.ts") as typeof Counters;
    return Object.fromEntries(virtio.map((device) => [device.spec.id, readCounters(device)]));
  }

  /** Its virtio devices, to be looked at and changed under their locks. */
  get virtio(): readonly PluggedVirtio[] {
    return this.#board.virtio;
  }

  /** The last lines that the guest has put out, by console ("serial"); those without any are left out. */
  lastLines(): Readonly<Record<string, readonly string[]>> {
    return lastLines(this.#consoles.shown);
  }

  /** The far ends of the guest's consoles, with what it said last. */
  get consoles(): readonly ConsoleSpec[] {
    return this.#consoles.shown;
  }

  /** A non-maskable interrupt for every vCPU. */
  sendNmi(): void {
    this.#vm.sendNmi();
  }

  /** The ptys that were made, for their users to open. */
  get ptys(): readonly PtyPath[] {
    return this.#consoles.ptys;
  }

  /** The terminal has another size: the guest is told, where it has a console there. */
  terminalResized(): void {
    this.#consoles.resized();
  }

  /** The guest's power button is pressed. */
  pressPowerButton(): void {
    const { device, lock } = this.#board.acpiEvents;
    locked(lock, () => device.raise(AcpiEvent.powerButton));
  }

  /** Gives a terminal its mode back, now; for every way the process may end. */
  restoreTerminal(): void {
    this.#consoles.restore();
  }

  /** The first vCPU's thread loads while main goes on. */
  async #orderLoad(turn: LoadTurn): Promise<void> {
    this.#loadedWith(await this.#threads.load(this.#order(turn, false)));
  }

  /** `used`: the guest has run. */
  #order(turn: LoadTurn, used: boolean): LoadOrder {
    tell(this.kernel, this.config, this.listener);
    const { memory, ...plan } = planFor(this.#plan, this.kernel);
    const content = this.#plan.memory.before(used);
    return { plan, ram: memory.regions, content, turn: turn.buffer };
  }

  #loadedWith(notes: readonly string[]): void {
    if (this.kernel.choice) this.kernel.close(); // a reset reads the disk anew: the guest may have a new kernel
    for (const note of notes) this.listener.onNote(note);
  }

  #step<T>(run: () => Promise<T>): Promise<T> {
    const step = this.#queue.then(run);
    this.#queue = step.catch(() => {});
    return step;
  }

  /** Turns the ring into calls, until the machine is stopped and the ring is empty. */
  async #listen(): Promise<void> {
    for (;;) {
      for (let event = this.#events.take(); event; event = this.#events.take()) {
        if (event.kind === EventKind.stopped) return;
        if (event.kind === EventKind.firstEntry) {
          this.#threads.startIo();
          // needed at the machine's end at the latest, which then takes half the time
          setTimeout(() => this.#state === "running" && this.#board, 30).unref();
        }
        if (event.kind === EventKind.choresWanted) {
          this.#threads.startChores(event.text, event.a);
          continue;
        }
        this.listener.onEvent(withReason(event, this.#files));
      }
      const lost = this.#events.takeLost();
      if (lost > 0) this.listener.onEvent(lostEvents(lost));
      await this.#events.arrival();
    }
  }

  #threadDied(thread: number, why: string): void {
    if (this.#state === "stopped") return;
    new EventRing(this.#events.buffer, thread).emit(EventKind.threadFailed, 0, 0, why);
  }
}
