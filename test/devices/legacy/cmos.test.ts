/** The RTC and CMOS memory as a driver sees them. Values are the MC146818 data sheet's (1984). */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { AccessSize } from "../../../src/bus/device.ts";
import { Cmos, CmosState } from "../../../src/devices/legacy/cmos.ts";
import { Line, ManualClock, ManualTimer } from "./parts.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const [A, B, C, D] = [0x0a, 0x0b, 0x0c, 0x0d];
const centuryByte = 0x32;
/** Second, minute, hour, weekday, day, month, year, century. */
const time = [0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, centuryByte];

/** Sunday, 2026-11-22 10:41:05 UTC; 512 MiB. */
function build({ below4GiB = 512 * MiB, above4GiB = 0, clock = new ManualClock() } = {}) {
  const line = new Line();
  const timer = new ManualTimer();
  const state = new CmosState(new SharedArrayBuffer(168));
  const cmos = new Cmos(state, line, clock, timer, { below4GiB, above4GiB });
  cmos.reset();
  const read = (address: number) => {
    cmos.write(0, 1, address);
    return cmos.read(1, 1);
  };
  const write = (address: number, value: number) => {
    cmos.write(0, 1, address);
    cmos.write(1, 1, value);
  };
  /** Lets time pass, and the timer fire if it is due by then. */
  const pass = (ms: number) => {
    clock.pass(ms);
    if (timer.deadlineNs === 0 || timer.deadlineNs > clock.monotonic) return;
    timer.deadlineNs = 0;
    cmos.timerExpired();
  };
  return { cmos, line, timer, clock, read, write, pass };
}

test("after reset: 24 hours, BCD, 32.768 kHz, 1024 Hz, good battery, no flags", () => {
  const { read } = build();

  expect([A, B, C, D].map(read)).toEqual([0x26, 0x02, 0x00, 0x80]);
});

test.each([
  ["24 hours, BCD", 0x02, [0x05, 0x41, 0x10, 0x01, 0x22, 0x11, 0x26, 0x20]],
  ["24 hours, binary", 0x06, [5, 41, 10, 1, 22, 11, 26, 20]],
  ["12 hours, BCD", 0x00, [0x05, 0x41, 0x10, 0x01, 0x22, 0x11, 0x26, 0x20]],
  ["12 hours, binary", 0x04, [5, 41, 10, 1, 22, 11, 26, 20]],
])("the time reads right in %s", (_, b, bytes) => {
  const { read, write } = build();

  write(B, b);

  expect(time.map(read)).toEqual(bytes);
});

test.each([
  [0, 0x12], // midnight is 12 AM
  [1, 0x01],
  [11, 0x11],
  [12, 0x92], // noon is 12 PM
  [13, 0x81],
  [23, 0x91],
])("hour %p reads as %p with 12 hours and BCD", (hour, byte) => {
  const { read, write } = build({ clock: new ManualClock(Date.UTC(2026, 0, 1, hour)) });

  write(B, 0x00);

  expect(read(0x04)).toBe(byte);
});

test("a driver sets the time under SET; it runs on from there and outlives a reset", () => {
  const { cmos, read, write, pass } = build();

  write(B, 0x82);
  const bytes = [0x58, 0x59, 0x23, 0x05, 0x31, 0x12, 0x99, 0x19]; // 1999-12-31 23:59:58
  time.forEach((address, i) => void write(address, bytes[i]!));
  pass(60_000); // the clock stands still meanwhile
  expect(time.map(read)).toEqual(bytes);
  write(B, 0x02);
  pass(3_000);

  const rolled = [0x01, 0x00, 0x00, 0x07, 0x01, 0x01, 0x00, 0x20]; // 2000-01-01 00:00:01, Saturday
  expect(time.map(read)).toEqual(rolled);
  cmos.reset();
  expect(time.map(read)).toEqual(rolled);
});

test("under SET the time reads as it was when that was set, however long", () => {
  const { read, write, pass } = build();
  pass(2_000);
  write(B, 0x82);

  pass(3_600_000);

  expect(time.map(read)).toEqual([0x07, 0x41, 0x10, 0x01, 0x22, 0x11, 0x26, 0x20]);
});

test("after a divider reset the first update comes half a second later", () => {
  const { read, write, pass } = build(); // Linux's mc146818_set_time: SET, divider reset, time, SET off, divider on
  write(B, 0x82);
  write(A, 0x76);
  write(0x00, 0x30);
  write(B, 0x02);
  write(A, 0x26);

  pass(499);
  expect(read(0x00)).toBe(0x30);
  pass(1);

  expect(read(0x00)).toBe(0x31);
});

test("a time byte written while the clock runs changes that byte alone", () => {
  const { read, write } = build();

  write(0x04, 0x17);

  expect(time.map(read)).toEqual([0x05, 0x41, 0x17, 0x01, 0x22, 0x11, 0x26, 0x20]);
});

test("UIP shows in the last millisecond of a second, never while the clock stands still", () => {
  const { read, write, pass } = build();

  expect(read(A) & 0x80).toBe(0);
  pass(998);
  expect(read(A) & 0x80).toBe(0);
  pass(1);
  expect(read(A) & 0x80).toBe(0x80);
  write(B, 0x82);
  expect(read(A) & 0x80).toBe(0);
  write(B, 0x02);
  expect(read(A) & 0x80).toBe(0x80);
  pass(1);
  expect(read(A) & 0x80).toBe(0);
});

test("UIP cannot be written", () => {
  const { read, write } = build();

  write(A, 0xaf);

  expect(read(A)).toBe(0x2f);
});

test("the update-ended interrupt comes with the next second, and reading C ends it", () => {
  const { line, timer, read, write, pass, clock } = build();
  pass(250);

  write(B, 0x12);
  expect(timer.deadlineNs - clock.monotonic).toBe(750e6);
  pass(750);

  expect(line.level).toBe(true);
  expect(timer.deadlineNs).toBe(0); // nothing more to tell until C is read
  expect(read(C)).toBe(0xd0); // the periodic flag comes at its rate, enabled or not
  expect(line.level).toBe(false);
  expect(read(C)).toBe(0x00);
  expect(timer.deadlineNs - clock.monotonic).toBe(1000e6);
});

test("flags appear without interrupts enabled, for a driver that polls C", () => {
  const { line, timer, read, pass } = build();
  read(C);

  pass(1000);

  expect(read(C)).toBe(0x50); // periodic and update-ended, no IRQF
  expect([line.level, timer.deadlineNs]).toEqual([false, 0]);
});

test.each([
  [0x06, 976_562.5], // 1024 Hz
  [0x0f, 500e6], // 2 Hz
  [0x03, 122_070.3125], // 8192 Hz
  [0x01, 3_906_250], // 256 Hz: rates 1 and 2 repeat 8 and 9
  [0x02, 7_812_500],
])("rate %p is periodic with %p ns", (rate, periodNs) => {
  const clock = new ManualClock(0, 0);
  const { cmos, timer, line, read, write } = build({ clock });
  write(A, 0x20 | rate);

  write(B, 0x42);
  expect(timer.deadlineNs).toBe(Math.ceil(periodNs));
  clock.monotonic = timer.deadlineNs;
  cmos.timerExpired();

  expect(line.level).toBe(true);
  expect(read(C) & 0xc0).toBe(0xc0);
  expect(timer.deadlineNs).toBe(Math.ceil(2 * periodNs));
});

test("rate 0 has no periodic interrupt", () => {
  const { timer, write } = build();
  write(A, 0x20);

  write(B, 0x42);

  expect(timer.deadlineNs).toBe(0);
});

test("a timer that fires early raises nothing and is armed again", () => {
  const { cmos, timer, line, write } = build();
  write(B, 0x12);
  const due = timer.deadlineNs;

  cmos.timerExpired();

  expect(line.level).toBe(false);
  expect(timer.deadlineNs).toBe(due);
});

/** Alarm bytes (second, minute, hour) and after how many seconds from 10:41:05 they ring; 0 for never. */
test.each([
  [[0x06, 0x41, 0x10], 1],
  [[0x00, 0x42, 0x10], 55],
  [[0x05, 0x41, 0x10], 86_400],
  [[0x04, 0x41, 0x10], 86_399],
  [[0x00, 0x00, 0x00], 47_935],
  [[0xff, 0xff, 0xff], 1],
  [[0x00, 0xff, 0xff], 55],
  [[0x30, 0x40, 0xc0], 3_565],
  [[0x00, 0x60, 0x10], 0],
  [[0x7a, 0xff, 0xff], 0],
  [[0x00, 0x00, 0x24], 0],
] as [number[], number][])("alarm %p rings after %p seconds", ([s, m, h], seconds) => {
  const { cmos, timer, line, clock, read, write } = build();
  write(0x01, s!);
  write(0x03, m!);
  write(0x05, h!);

  write(B, 0x22);

  expect(timer.deadlineNs).toBe(seconds && clock.monotonic + seconds * 1e9);
  clock.pass(Math.max(seconds - 1, 0) * 1000);
  cmos.timerExpired();
  expect(line.level).toBe(false);
  clock.pass(1000);
  cmos.timerExpired();
  expect(line.level).toBe(seconds > 0);
  expect(read(C) & 0xa0).toBe(seconds > 0 ? 0xa0 : 0);
});

test("an alarm at 1 PM rings with 12 hours", () => {
  const { timer, clock, write } = build();
  write(B, 0x00);
  write(0x01, 0x00);
  write(0x03, 0x00);
  write(0x05, 0x81);

  write(B, 0x20);

  expect(timer.deadlineNs - clock.monotonic).toBe(8_335e9); // from 10:41:05 to 13:00:00
});

test("SET clears the update-ended enable and stops updates", () => {
  const { line, timer, read, write, pass } = build();
  write(B, 0x12);

  write(B, 0x92);

  expect(read(B)).toBe(0x82);
  pass(5_000);
  expect([line.level, timer.deadlineNs]).toEqual([false, 0]);
  expect(read(C) & 0x10).toBe(0);
});

test("a host clock that is set back raises nothing and stops nothing", () => {
  const { clock, read, write, line, pass } = build();
  write(B, 0x12);

  clock.wall -= 3_600_000;
  pass(1000);

  expect(read(0x04)).toBe(0x09);
  read(C);
  pass(1000);
  pass(1000);
  expect(line.level).toBe(true);
});

/** Below and above 4 GiB; base and extended in KiB, then in units of 64 KiB above 16 MiB and above 4 GiB. */
test.each([
  [1 * MiB, 0, 640, 0, 0, 0],
  [16 * MiB, 0, 640, 15_360, 0, 0],
  [64 * MiB, 0, 640, 64_512, 768, 0],
  [512 * MiB, 0, 640, 65_535, 7_936, 0],
  [3 * GiB, 2 * GiB, 640, 65_535, 48_896, 32_768],
  [3 * GiB, 1021 * GiB, 640, 65_535, 48_896, 16_728_064],
])("%p and %p bytes of RAM are told", (below4GiB, above4GiB, base, extended, high, above) => {
  const { read } = build({ below4GiB, above4GiB });
  const number = (...bytes: number[]) => bytes.reduceRight((sum, at) => sum * 256 + read(at), 0);

  expect(number(0x15, 0x16)).toBe(base);
  expect(number(0x17, 0x18)).toBe(extended);
  expect(number(0x30, 0x31)).toBe(extended);
  expect(number(0x34, 0x35)).toBe(high);
  expect(number(0x5b, 0x5c, 0x5d)).toBe(above);
});

test("memory bytes keep what is written, across a reset; C and D do not take writes", () => {
  const { cmos, read, write } = build();

  write(0x0f, 0x0a);
  write(0x7f, 0x55);
  write(C, 0xff);
  write(D, 0x00);
  cmos.reset();

  expect([0x0f, 0x7f, C, D].map(read)).toEqual([0x0a, 0x55, 0x00, 0x80]);
});

test("the NMI mask in the index does not change the address; the index reads all ones", () => {
  const { cmos } = build();

  cmos.write(0, 1, 0x80 | 0x0d);

  expect(cmos.read(1, 1)).toBe(0x80);
  expect(cmos.read(0, 1)).toBe(0xff);
  expect(cmos.state.index).toBe(0x8d);
});

test("one 16-bit read of both ports has the index port's all ones below the data", () => {
  const { cmos, write } = build();
  write(0x40, 0x5a);

  expect(cmos.read(0, 2)).toBe(0x5aff);
});

test("one 16-bit write to the index port selects and writes", () => {
  const { cmos, read } = build();

  cmos.write(0, 2, 0x77_40);

  expect(read(0x40)).toBe(0x77);
});

test("whatever a guest does, values are bytes and line changes alternate", () => {
  const step = fc.record({
    address: fc.oneof(fc.nat(0x0d), fc.nat(0xff)),
    value: fc.option(fc.nat(0xff)),
    size: fc.constantFrom<AccessSize>(1, 1, 2),
    ms: fc.nat(3_000),
  });
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const { cmos, line, timer, pass } = build();
      for (const { address, value, size, ms } of steps) {
        cmos.write(0, 1, address);
        if (value !== null) cmos.write(1, 1, value);
        if (size === 2) cmos.write(0, 2, (value ?? 0) * 256 + address);
        const got = cmos.read(1, 1);
        expect(Number.isInteger(got) && got >= 0 && got <= 0xff).toBe(true);
        expect(Number.isSafeInteger(timer.deadlineNs) && timer.deadlineNs >= 0).toBe(true);
        pass(ms);
      }
      expect(line.changes.every((level, i) => level === (i % 2 === 0))).toBe(true);
    }),
  );
});
