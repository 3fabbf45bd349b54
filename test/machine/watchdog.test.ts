/**
 * What the WDAT says, carried out on the device that it speaks of: a driver that knows the table's layout alone
 * (ACPICA's actbl3.h) and does what Linux's wdat_wdt does.
 */
import { beforeEach, expect, test } from "bun:test";
import { EventKind, ResetSource } from "../../src/bus/events.ts";
import { PortBus } from "../../src/bus/port-bus.ts";
import { Watchdog, WatchdogState, watchdogPorts } from "../../src/devices/legacy/watchdog.ts";
import { buildWdat } from "../../src/firmware/acpi/wdat.ts";
import { Port } from "../../src/machine/memory-map.ts";
import { describeWatchdog } from "../../src/machine/watchdog.ts";
import { Events, ManualClock, ManualTimer } from "../devices/legacy/parts.ts";

const Action = {
  ...{ reset: 1, left: 4, countdown: 5, setCountdown: 6, isRunning: 8, run: 9 },
  ...{ isStopped: 10, stop: 11, status: 32, clearStatus: 33 },
};
const [readValue, readCount, writeValue, writeCount] = [0, 1, 2, 3];
const entriesAt = 36 + 32;

const wdat = new DataView(buildWdat(describeWatchdog(Port.watchdog)).buffer);
let ports: PortBus;
let device: Watchdog;
let events: Events;
let clock: ManualClock;
let timer: ManualTimer;

beforeEach(() => {
  [events, clock, timer, ports] = [
    new Events(),
    new ManualClock(),
    new ManualTimer(),
    new PortBus(),
  ];
  device = new Watchdog(new WatchdogState(), events, clock, timer);
  device.reset();
  ports.map("watchdog", Port.watchdog, watchdogPorts, device);
});

/** Carries an action out; what comes of it. */
function act(action: number, operand = 0): number {
  let result = -1;
  for (let i = 0; i < wdat.getUint32(entriesAt - 4, true); i++) {
    const at = entriesAt + 24 * i;
    if (wdat.getUint8(at) !== action) continue;
    const [port, width] = [Number(wdat.getBigUint64(at + 8, true)), wdat.getUint8(at + 7)];
    const [value, mask] = [wdat.getUint32(at + 16, true), wdat.getUint32(at + 20, true)];
    const size = width === 3 ? 4 : 1;
    const instruction = wdat.getUint8(at + 1);
    if (instruction === readValue) result = (ports.read(port, size) & mask) === value ? 1 : 0;
    if (instruction === readCount) result = (ports.read(port, size) & mask) >>> 0;
    if (instruction === writeValue) ports.write(port, size, value & mask);
    if (instruction === writeCount) ports.write(port, size, (operand & mask) >>> 0);
  }
  return result;
}

function pass(ms: number): void {
  clock.pass(ms);
  if (timer.deadlineNs > 0 && timer.deadlineNs <= clock.monotonic) device.timerExpired();
}

const state = () => [act(Action.isRunning), act(Action.isStopped)];
const msPerCount = () => wdat.getUint32(36 + 12, true);

test("a driver sets a time, starts, pings, and stops", () => {
  expect(state()).toEqual([0, 1]);
  act(Action.setCountdown, 5000 / msPerCount());
  expect(act(Action.countdown) * msPerCount()).toBe(5000);

  act(Action.run);
  pass(4000);
  expect(state()).toEqual([1, 0]);
  expect(act(Action.left) * msPerCount()).toBe(1000);
  act(Action.reset);
  pass(4900);
  act(Action.stop);
  pass(60_000);

  expect(state()).toEqual([0, 1]);
  expect(events.seen).toEqual([]);
});

test("a driver that is gone loses the machine, and the next one is told", () => {
  act(Action.setCountdown, 10);
  act(Action.run);
  pass(10 * msPerCount());
  expect<unknown>(events.seen).toEqual([[EventKind.reset, ResetSource.watchdog]]);

  device.reset();
  expect([...state(), act(Action.status)]).toEqual([0, 1, 1]);
  act(Action.clearStatus);

  expect(act(Action.status)).toBe(0);
});

test("the bounds that it names are those that it keeps", () => {
  const [most, least] = [wdat.getUint32(36 + 16, true), wdat.getUint32(36 + 20, true)];
  expect([most, least]).toEqual([0xffff, 1]);
  for (const count of [most, least]) {
    act(Action.setCountdown, count);
    expect(act(Action.countdown)).toBe(count);
  }
});
