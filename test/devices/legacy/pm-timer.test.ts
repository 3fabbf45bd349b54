/** The ACPI PM timer: 3.579545 MHz, 32 bits (ACPI 6.5 section 4.8.3.3). */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { PmTimer, PmTimerState } from "../../../src/devices/legacy/pm-timer.ts";
import { ManualClock } from "./parts.ts";

function build(startNs = 0) {
  const clock = new ManualClock(0, startNs);
  const timer = new PmTimer(new PmTimerState(new SharedArrayBuffer(8)), clock);
  timer.reset();
  return { clock, timer };
}

test.each([
  [0, 0],
  [279, 0], // one tick takes 279.365 ns
  [280, 1],
  [1e9, 3_579_545],
  [60e9, 214_772_700],
  [1_199_864_031_881, 0xffff_ffff], // the last tick before the carry
  [1_199_864_031_882, 0],
  [100 * 86_400e9, 0xd0de_e600],
])("after %p ns it reads %p", (ns, ticks) => {
  const { clock, timer } = build(123_456_789);

  clock.monotonic += ns;

  expect(timer.read(0, 4)).toBe(ticks);
});

test("narrow reads give the bytes of the count", () => {
  const { clock, timer } = build();
  clock.monotonic += 60e9; // 0x0ccd2bdc

  expect([0, 1, 2, 3].map((offset) => timer.read(offset, 1))).toEqual([0xdc, 0x2b, 0xcd, 0x0c]);
  expect([timer.read(0, 2), timer.read(2, 2)]).toEqual([0x2bdc, 0x0ccd]);
});

test("writes change nothing, a reset starts from 0", () => {
  const { clock, timer } = build();
  clock.monotonic += 1e9;

  timer.write();
  expect(timer.read(0, 4)).toBe(3_579_545);
  timer.reset();

  expect(timer.read(0, 4)).toBe(0);
});

test("it never goes back, but for the carry", () => {
  fc.assert(
    fc.property(fc.nat(2 ** 52), fc.nat(1e9), (start, step) => {
      const { clock, timer } = build();
      clock.monotonic = start;
      const before = timer.read(0, 4);
      clock.monotonic += step;
      const ticks = (timer.read(0, 4) - before + 2 ** 32) % 2 ** 32;
      expect(Math.abs(ticks - step / 279.365)).toBeLessThan(20);
    }),
  );
});
