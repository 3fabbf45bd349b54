/** The watchdog's registers, as the WDAT of the ACPI tables has a driver use them. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { EventKind, ResetSource } from "../../../src/bus/events.ts";
import { Watchdog, WatchdogState } from "../../../src/devices/legacy/watchdog.ts";
import { Events, ManualClock, ManualTimer } from "./parts.ts";

const [count, left, running, restart, status] = [0, 4, 8, 9, 10];
const periodMs = 100;

function build() {
  const [events, clock, timer] = [new Events(), new ManualClock(), new ManualTimer()];
  const device = new Watchdog(new WatchdogState(), events, clock, timer);
  device.reset();
  /** Time passes, and the timer expires as a timerfd does: once, when it is due. */
  const pass = (ms: number) => {
    const until = clock.monotonic + ms * 1e6;
    while (timer.deadlineNs > 0 && timer.deadlineNs <= until) {
      clock.pass(Math.max(0, (timer.deadlineNs - clock.monotonic) / 1e6));
      timer.deadlineNs = 0;
      device.timerExpired();
    }
    clock.pass((until - clock.monotonic) / 1e6);
  };
  const start = (periods: number) => {
    device.write(count, 4, periods);
    device.write(running, 1, 1);
  };
  return { device, events, clock, timer, pass, start };
}

const fired = [[EventKind.reset, ResetSource.watchdog]];

test("out of power-on it stands still, with 30 s to count", () => {
  const { device, events, pass } = build();

  pass(3_600_000);

  expect([device.read(running, 1), device.read(status, 1)]).toEqual([0, 0]);
  expect(device.read(count, 4) * periodMs).toBe(30_000);
  expect(device.read(left, 4)).toBe(device.read(count, 4));
  expect(events.seen).toEqual([]);
});

test("it fires when the count is over, once, and not before", () => {
  const { device, events, pass, start } = build();
  start(20);

  pass(1999);
  expect(events.seen).toEqual([]);
  expect(device.read(left, 4)).toBe(1);
  pass(1);
  expect([events.seen, device.read(left, 4)] as unknown[]).toEqual([fired, 0]);
  pass(60_000);

  expect<unknown>(events.seen).toEqual(fired);
});

test("a restart counts from the start again", () => {
  const { device, events, pass, start } = build();
  start(10);

  for (let i = 0; i < 10; i++) {
    pass(900);
    device.write(restart, 1, 1);
    expect(device.read(left, 4)).toBe(10);
  }
  expect(events.seen).toEqual([]);
  pass(1000);

  expect<unknown>(events.seen).toEqual(fired);
});

test("a new count is for the next restart on", () => {
  const { device, events, pass, start } = build();
  start(50);

  device.write(count, 4, 5);
  pass(600);
  expect(events.seen).toEqual([]);
  device.write(restart, 1, 1);
  pass(500);

  expect<unknown>(events.seen).toEqual(fired);
});

test("stopped, it does not fire; starting again is from the whole count; starting twice is once", () => {
  const { device, events, timer, pass, start } = build();
  start(10);
  pass(900);

  device.write(running, 1, 0);
  expect(timer.deadlineNs).toBe(0);
  pass(60_000);
  device.write(running, 1, 1);
  pass(500);
  device.write(running, 1, 1);
  pass(499);
  expect(events.seen).toEqual([]);
  pass(1);

  expect<unknown>(events.seen).toEqual(fired);
});

test("a timer that expires late, for a count that has been restarted, is not taken for its end", () => {
  const { device, events, clock, timer, start } = build();
  start(10);
  clock.pass(1000);
  device.write(restart, 1, 1); // before the worker has come to it

  device.timerExpired();
  expect(events.seen).toEqual([]);
  expect(timer.deadlineNs).toBe(clock.monotonic + 1000e6);
  device.write(running, 1, 0);
  clock.pass(60_000);
  device.timerExpired();

  expect(events.seen).toEqual([]);
});

test("while the machine is paused time stands still", () => {
  const { device, events, timer, pass, start } = build();
  start(10);
  pass(700);

  device.pause();
  expect([timer.deadlineNs, device.read(left, 4)]).toEqual([0, 3]);
  pass(3_600_000);
  device.timerExpired(); // on its way when the machine was paused
  expect([events.seen.length, device.read(left, 4)]).toEqual([0, 3]);
  device.resume();
  pass(299);
  expect(events.seen).toEqual([]);
  pass(1);

  expect<unknown>(events.seen).toEqual(fired);
});

test("a resume without a pause changes nothing; after a reset in a pause it counts", () => {
  const { device, events, pass, start } = build();
  start(20);
  pass(1000);
  device.resume();
  expect(device.read(left, 4)).toBe(10);

  device.pause();
  device.reset();
  start(20);
  pass(2000);
  expect<unknown>(events.seen).toEqual(fired);
});

test("it says whether it runs, in its own width", () => {
  const { device, start } = build();
  start(20);
  expect([1, 2, 4].map((size) => device.read(running, size as 1 | 2 | 4))).toEqual([1, 0, 0]);
  device.write(running, 1, 0);
  expect(device.read(running, 1)).toBe(0);
});

test("one that stands still stays so over a pause", () => {
  const { device, timer } = build();

  device.pause();
  device.resume();

  expect(timer.deadlineNs).toBe(0);
});

test("after the reset that it caused its status says so, until the driver clears it or the next reset", () => {
  const { device, pass, start, timer } = build();
  start(1);
  pass(100);
  expect(device.read(status, 1)).toBe(0);

  device.reset();
  expect([running, status].map((at) => device.read(at, 1))).toEqual([0, 1]);
  expect([device.read(count, 4), timer.deadlineNs]).toEqual([300, 0]);
  device.write(status, 1, 1);
  expect(device.read(status, 1)).toBe(1);
  device.write(status, 1, 0);
  expect(device.read(status, 1)).toBe(0);

  start(1);
  pass(100);
  device.reset();
  device.reset(); // by somebody else
  expect(device.read(status, 1)).toBe(0);
});

test.each([
  [0, 1],
  [0xffff, 0xffff],
  [0x1_0000, 0xffff],
  [0xffff_ffff, 0xffff],
])("a count of %d becomes %d", (written, kept) => {
  const { device } = build();
  device.write(count, 4, written);
  expect(device.read(count, 4)).toBe(kept);
});

test("registers take and give their own width alone", () => {
  const { device } = build();

  device.write(count, 2, 7);
  device.write(left, 4, 7);
  device.write(running, 4, 1);
  device.write(running, 2, 1);

  expect([device.read(count, 4), device.read(left, 4), device.read(running, 1)]).toEqual([
    300, 300, 0,
  ]);
  expect([device.read(count, 1), device.read(count, 2), device.read(running, 4)]).toEqual([
    0, 0, 0,
  ]);
  expect([1, 3, 7, 9, 11].map((offset) => device.read(offset, 1))).toEqual([0, 0, 0, 0, 0]);
});

test("whatever is written, whenever: it fires only when it has run for a whole count without a restart", () => {
  const step = fc.oneof(
    fc.record({ write: fc.constantFrom(0, 4, 8, 9, 10, 11), size: fc.constantFrom(1, 2, 4) }),
    fc.record({ pass: fc.nat(400) }),
    fc.constantFrom({ pause: true }, { resume: true }),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(step, fc.nat(5)), { maxLength: 40 }), (steps) => {
      const { device, events, pass } = build();
      let model = { count: 300, left: 300 * periodMs, running: false, paused: false, fired: false };
      for (const [what, value] of steps) {
        if ("pass" in what) {
          pass(what.pass);
          if (model.running && !model.paused) model.left -= what.pass;
          if (model.left <= 0) model.fired = true;
        } else if ("pause" in what) {
          device.pause();
          model.paused = true;
        } else if ("resume" in what) {
          device.resume();
          model.paused = false;
        } else {
          device.write(what.write, what.size as 1 | 2 | 4, value);
          model = after(model, what.write, what.size, value);
        }
        expect(events.seen.length > 0).toBe(model.fired);
        if (model.fired) return;
      }
    }),
  );
});

interface Model {
  count: number;
  left: number;
  running: boolean;
  paused: boolean;
  fired: boolean;
}

function after(model: Model, offset: number, size: number, value: number): Model {
  const whole = model.count * periodMs;
  if (offset === count && size === 4) return { ...model, count: Math.max(value, 1) };
  if (offset === running && size === 1) {
    const wanted = value % 2 === 1;
    return wanted === model.running ? model : { ...model, running: wanted, left: whole };
  }
  return offset === restart && size === 1 ? { ...model, left: whole } : model;
}
