/**
 * A watchdog for the driver of the ACPI watchdog action table (WDAT; Microsoft, "Hardware Watchdog Timers Design
 * Specification", 2006): its registers are ours, the table tells the driver which access does what. It counts down in
 * periods; at zero it resets the machine, and after that reset its status says so.
 *
 * The count is a deadline on a timer that an I/O worker waits for; while the machine is paused it does not run.
 */
import type { AccessSize, BusDevice, Clock, EventSink, Timer } from "../../bus/device.ts";
import { EventKind, ResetSource } from "../../bus/events.ts";
import { f64, type Of, struct, u8, u32 } from "../../ffi/struct.ts";

/** Offsets from the base port, each with the width that it is served in; another reads 0 and writes nothing. */
export const WatchdogReg = {
  /** 4 bytes. Periods to count down, from the next restart on. */
  count: 0,
  /** 4 bytes. Periods that are left; read-only. */
  left: 4,
  /** 1 byte. 1 runs, 0 stands still; starting starts from the whole count. */
  running: 8,
  /** 1 byte. Any write restarts the count. Reads 0. */
  restart: 9,
  /** 1 byte. 1: the last reset was the watchdog's. Writing 0 clears it. */
  status: 10,
} as const;
export const watchdogPorts = 12;

export const watchdogPeriodMs = 100;
/** Least and most periods of a count; what is written is brought between them. */
export const watchdogCounts = { least: 1, most: 0xffff } as const;
const initialCount = 30_000 / watchdogPeriodMs;
const periodNs = watchdogPeriodMs * 1e6;

export const WatchdogState = struct("watchdog", 24, {
  /** When it fires, while it runs and the machine does. */
  deadlineNs: f64,
  /** What was left when the machine was paused. */
  leftNs: f64,
  count: u32,
  running: u8,
  paused: u8,
  /** It has fired, and the reset is still to come. */
  fired: u8,
  status: u8,
});

export class Watchdog implements BusDevice {
  constructor(
    readonly state: Of<typeof WatchdogState>,
    readonly events: EventSink,
    readonly clock: Clock,
    readonly timer: Timer,
  ) {}

  read(offset: number, size: AccessSize): number {
    if (size === 4) {
      if (offset === WatchdogReg.count) return this.state.count;
      return offset === WatchdogReg.left ? this.left() : 0;
    }
    if (size !== 1) return 0;
    if (offset === WatchdogReg.running) return this.state.running;
    return offset === WatchdogReg.status ? this.state.status : 0;
  }

  write(offset: number, size: AccessSize, value: number): void {
    const { state } = this;
    if (size === 4 && offset === WatchdogReg.count) {
      state.count = Math.min(Math.max(value, watchdogCounts.least), watchdogCounts.most);
    } else if (size !== 1) {
      return;
    } else if (offset === WatchdogReg.running) {
      if ((value & 1) === state.running) return;
      state.running = value & 1;
      this.restart();
    } else if (offset === WatchdogReg.restart) {
      this.restart();
    } else if (offset === WatchdogReg.status && (value & 1) === 0) {
      state.status = 0;
    }
  }

  /** From the whole count; disarmed while it stands still. */
  private restart(): void {
    const { state } = this;
    const length = state.count * periodNs;
    if (state.paused) {
      state.leftNs = length;
      return;
    }
    state.deadlineNs = this.clock.monotonicNs() + length;
    this.timer.arm(state.running ? state.deadlineNs : 0);
  }

  private left(): number {
    const { state } = this;
    if (!state.running) return state.count;
    const leftNs = state.paused ? state.leftNs : state.deadlineNs - this.clock.monotonicNs();
    return Math.max(Math.ceil(leftNs / periodNs), 0);
  }

  /** The timer is due. It may be late news: the count has been restarted, stopped or paused since. */
  timerExpired(): void {
    const { state } = this;
    if (!state.running || state.paused || state.fired) return;
    if (this.clock.monotonicNs() < state.deadlineNs) {
      this.timer.arm(state.deadlineNs);
      return;
    }
    state.fired = 1;
    this.events.emit(EventKind.reset, ResetSource.watchdog, 0);
  }

  /** The machine stands still, and time with it. */
  pause(): void {
    const { state } = this;
    if (state.paused) return;
    state.paused = 1;
    state.leftNs = state.deadlineNs - this.clock.monotonicNs();
    this.timer.arm(0);
  }

  /** What was left when it was paused is left now, be it nothing. */
  resume(): void {
    const { state } = this;
    if (!state.paused) return;
    state.paused = 0;
    state.deadlineNs = this.clock.monotonicNs() + state.leftNs;
    if (state.running && !state.fired) this.timer.arm(state.deadlineNs);
  }

  reset(): void {
    const { state } = this;
    this.timer.arm(0);
    state.status = state.fired;
    state.fired = 0;
    state.running = 0;
    state.paused = 0;
    state.leftNs = 0;
    state.count = initialCount;
  }
}
