/**
 * An I/O worker: waits on descriptors, and moves data between devices and the host. Today it serves the serial port's
 * console and the RTC's timer.
 */

import { EventRing } from "../bus/event-ring.ts";
import { EventKind } from "../bus/events.ts";
import { Ask, ThreadControl, ThreadState } from "../bus/thread-control.ts";
import { monotonicNs } from "../ffi/clock.ts";
import { Epoll, EpollSet } from "../ffi/epoll.ts";
import { drainEventfd } from "../ffi/eventfd.ts";
import { nameThread, threadId } from "../ffi/signals.ts";
import { type Board, buildBoard, locked } from "./board.ts";
import { ConsolePort } from "./console/port.ts";
import { type MachineSpec, ThreadNumber } from "./spec.ts";

const [wakeToken, rtcToken, serialToken] = [0, 1, 16];
/** Output is written in pieces of what came in this time. */
const coalesceMs = 1;
/** How long a leaving worker waits for a slow reader of the guest's last words. */
const farewellNs = 5e9;

/** Runs until asked to leave. Errors end in the event ring, never in an exception. */
export function runIoThread(spec: MachineSpec): void {
  const number = ThreadNumber.io(spec);
  const control = new ThreadControl(spec.control, number);
  const events = new EventRing(spec.events, number);
  try {
    nameThread("io0");
    control.threadId = threadId();
    const worker = new IoThread(spec, control, events);
    worker.run();
    control.say(ThreadState.gone);
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    events.emit(EventKind.threadFailed, 0, 0, text);
    control.say(ThreadState.failed);
  }
}

class IoThread {
  readonly #epoll = new EpollSet();
  /** For a parked worker, which looks at nothing but its wake-up. */
  readonly #parked = new EpollSet();
  readonly #board: Board;
  readonly #console: ConsolePort | undefined;

  constructor(
    readonly spec: MachineSpec,
    readonly control: ThreadControl,
    readonly events: EventRing,
  ) {
    this.#board = buildBoard(spec, events);
    this.#epoll.add(spec.ioWakeFd, Epoll.in, wakeToken);
    this.#parked.add(spec.ioWakeFd, Epoll.in, wakeToken);
    this.#epoll.add(spec.rtcTimerFd, Epoll.in, rtcToken);
    this.#console = this.#openConsole();
  }

  run(): void {
    while (this.#park()) {
      this.control.say(ThreadState.running);
      this.#serve();
    }
    this.#farewell();
    this.#console?.close();
    this.#epoll.close();
    this.#parked.close();
  }

  #park(): boolean {
    for (;;) {
      const asked = this.control.asked;
      if (asked !== Ask.park) return asked === Ask.run;
      this.control.say(ThreadState.parked);
      this.#parked.wait(-1);
      drainEventfd(this.spec.ioWakeFd);
    }
  }

  #serve(): void {
    while (this.control.asked === Ask.run) {
      const wait = this.#console?.pump() ?? -1;
      const count = this.#epoll.wait(wait);
      for (let i = 0; i < count; i++) this.#handle(this.#epoll.tokenAt(i));
    }
  }

  #handle(token: number): void {
    if (token === wakeToken) {
      drainEventfd(this.spec.ioWakeFd);
      // let a line gather; the ring and the transmitter bridge the time
      if (this.control.asked === Ask.run) this.#parked.wait(coalesceMs);
    } else if (token === rtcToken) {
      drainEventfd(this.spec.rtcTimerFd);
      const { device, lock } = this.#board.cmos;
      locked(lock, () => device.timerExpired());
    } else if (token >= serialToken) {
      this.#console?.handle(token - serialToken);
    }
  }

  /** The guest's last words go out, if there is somebody to take them. */
  #farewell(): void {
    const until = monotonicNs() + farewellNs;
    for (;;) {
      this.#console?.pump();
      if (!this.#console?.busy || monotonicNs() > until) return;
      this.#parked.wait(coalesceMs);
    }
  }

  #openConsole(): ConsolePort | undefined {
    const { serial } = this.#board;
    if (!serial || !this.spec.serial) return undefined;
    const { device, lock } = serial;
    const side = {
      inputArrived: () => locked(lock, () => device.inputArrived()),
      transmitterReady: () => locked(lock, () => device.transmitterReady()),
    };
    return new ConsolePort(this.spec.serial, side, this.#epoll, serialToken, this.events);
  }
}
