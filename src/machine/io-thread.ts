/**
 * An I/O worker: waits on descriptors, and moves data between devices and the host: the backends of virtio devices, and
 * on the first worker the serial port's far end and the timers of platform devices.
 */

import { EventRing } from "../bus/event-ring.ts";
import { EventKind } from "../bus/events.ts";
import { locked } from "../bus/lock.ts";
import { Ask, ThreadControl, ThreadState } from "../bus/thread-control.ts";
import { GuestWindows } from "../devices/virtio/guest-windows.ts";
import { monotonicNs } from "../ffi/clock.ts";
import { Epoll, EpollSet } from "../ffi/epoll.ts";
import { drainEventfd } from "../ffi/eventfd.ts";
import { nameThread, threadId } from "../ffi/signals.ts";
import { compileSoon } from "../jit-policy.ts";
import { type Board, buildBoard } from "./board.ts";
import { ConsolePort } from "./console/port.ts";
import { RingInput, RingOutput } from "./console/rings.ts";
import { ioWakeFd, type MachineSpec, ThreadNumber } from "./spec.ts";
import { createBackend } from "./virtio/backends.ts";
import { type BackendFactory, VirtioDeviceHost } from "./virtio/host.ts";
import { persistentRegions } from "./virtio/persistent.ts";
import { Watcher } from "./watcher.ts";

const [wakeToken, rtcToken, watchdogToken, watcherToken] = [0, 1, 2, 64];
/** Windows on guest RAM keep the collector from running by itself: it is run after so many wake-ups (0.16 ms). */
const roundsPerCollection = 65_536;
/** How long a leaving worker waits for a slow reader of the guest's last words. */
const farewellNs = 5e9;
const farewellPauseMs = 1;

/** Runs until asked to leave. Errors end in the event ring, never in an exception. */
export function runIoThread(spec: MachineSpec, index: number): void {
  const number = ThreadNumber.io(spec.vcpuFds.length, index);
  const control = new ThreadControl(spec.control, number);
  const events = new EventRing(spec.events, number);
  try {
    nameThread(`io${index}`);
    control.threadId = threadId();
    new ThreadControl(spec.control, ThreadNumber.vcpu(0)).awaitStart(); // it resets the devices
    const worker = new IoThread(spec, control, events, index);
    compileSoon();
    worker.run();
    control.say(ThreadState.gone);
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    events.emit(EventKind.threadFailed, 0, 0, text);
    control.say(ThreadState.failed);
  }
}

/**
 * Stands still until asked to run (true) or to leave (false). `rest` takes every wake-up that comes meanwhile, that of
 * a new request among them; `sleep` ends with the next one.
 */
export function park(control: ThreadControl, rest: () => void, sleep: () => void): boolean {
  for (;;) {
    const asked = control.asked;
    if (asked !== Ask.park) return asked === Ask.run;
    rest();
    if (control.asked !== Ask.park) continue;
    control.say(ThreadState.parked);
    sleep();
  }
}

class IoThread {
  readonly #wakeFd: number;
  readonly #epoll = new EpollSet();
  /** For a parked worker, which looks at nothing but its wake-up. */
  readonly #parked = new EpollSet();
  readonly #board: Board;
  readonly #console: ConsolePort | undefined;
  readonly #watcher: Watcher;
  readonly #virtio: readonly VirtioDeviceHost[];

  constructor(
    readonly spec: MachineSpec,
    readonly control: ThreadControl,
    readonly events: EventRing,
    readonly index: number,
  ) {
    this.#wakeFd = ioWakeFd(spec, index);
    this.#board = buildBoard(spec, events);
    this.#epoll.add(this.#wakeFd, Epoll.in, wakeToken);
    this.#parked.add(this.#wakeFd, Epoll.in, wakeToken);
    this.#watcher = new Watcher(this.#epoll, watcherToken);
    if (index === 0) {
      this.#watchTimers();
      this.#console = this.#openConsole();
    }
    this.#virtio = this.#openVirtio();
  }

  #watchTimers(): void {
    const { rtcTimerFd, watchdogTimerFd } = this.spec;
    this.#epoll.add(rtcTimerFd, Epoll.in, rtcToken);
    if (watchdogTimerFd !== undefined) this.#epoll.add(watchdogTimerFd, Epoll.in, watchdogToken);
  }

  run(): void {
    const rest = () => this.#hold();
    const sleep = () => {
      this.#parked.wait(-1);
      drainEventfd(this.#wakeFd);
    };
    while (park(this.control, rest, sleep)) {
      this.control.say(ThreadState.running);
      this.#serve();
    }
    this.#farewell();
    this.#console?.close();
    for (const device of this.#virtio) device.close();
    this.#epoll.close();
    this.#parked.close();
  }

  /**
   * What drivers have asked for by now begins, and what is in flight ends; nothing else begins until the worker runs
   * again.
   */
  #hold(): void {
    for (const device of this.#virtio) device.settle();
    this.#turn(0);
    for (const device of this.#virtio) device.hold();
    while (this.#virtio.some((device) => !device.atRest)) this.#turn();
  }

  /** Waits for something to do, at most so many ms if that is not negative, and does it. */
  #turn(timeoutMs = -1): void {
    const count = this.#epoll.wait(timeoutMs);
    for (let i = 0; i < count; i++) {
      this.#handle(this.#epoll.tokenAt(i), this.#epoll.eventsAt(i));
    }
  }

  #serve(): void {
    for (const device of this.#virtio) device.release();
    for (const device of this.#virtio) device.settle();
    this.#console?.pump(); // what was said before this thread was there
    for (let round = 0; this.control.asked === Ask.run; round++) {
      if (round % roundsPerCollection === 0 && this.#virtio.length > 0) Bun.gc(true);
      this.#turn();
    }
  }

  #handle(token: number, events: number): void {
    if (token === wakeToken) {
      drainEventfd(this.#wakeFd);
      for (const device of this.#virtio) device.settle();
      this.#console?.gather(); // the ring and the transmitter bridge the time
    } else if (token === rtcToken) {
      drainEventfd(this.spec.rtcTimerFd);
      const { device, lock } = this.#board.cmos;
      locked(lock, () => device.timerExpired());
    } else if (token === watchdogToken) {
      drainEventfd(this.spec.watchdogTimerFd!);
      const { device, lock } = this.#board.watchdog!;
      locked(lock, () => device.timerExpired());
    } else if (token >= watcherToken) {
      this.#watcher.handle(token, events);
    }
  }

  /** The guest's last words go out, if there is somebody to take them. */
  #farewell(): void {
    const until = monotonicNs() + farewellNs;
    for (;;) {
      this.#console?.pump();
      const busy = this.#virtio.filter((device) => device.farewell()).length > 0;
      if ((!busy && !this.#console?.busy) || monotonicNs() > until) return;
      this.#parked.wait(farewellPauseMs);
    }
  }

  /** Windows on guest RAM are opened only where a device needs them: the collector counts them as live. */
  #openVirtio(): VirtioDeviceHost[] {
    const { index } = this;
    const functions = this.#board.virtio.filter(({ spec }) => spec.workers.includes(index));
    if (functions.length === 0) return [];
    const all = [...this.spec.virtio, ...(this.spec.virtioMmio ?? [])];
    const windows = new GuestWindows(this.spec.ram, persistentRegions(all));
    const create: BackendFactory = (host, device) => createBackend(host, device, this.events);
    return functions.map((device) => {
      const share = device.spec.workers.indexOf(index);
      const alone = index > 0 && functions.length === 1;
      const { events } = this;
      return new VirtioDeviceHost(device, windows, this.#watcher, events, create, share, alone);
    });
  }

  #openConsole(): ConsolePort | undefined {
    const { serial } = this.#board;
    if (!serial || !this.spec.serial) return undefined;
    const { device, lock } = serial;
    const side = {
      output: new RingOutput(this.spec.serial.output),
      input: new RingInput(this.spec.serial.input),
      inputArrived: () => locked(lock, () => device.inputArrived()),
      transmitterReady: () => locked(lock, () => device.transmitterReady()),
    };
    return new ConsolePort(this.spec.serial, side, this.#watcher, this.events);
  }
}
