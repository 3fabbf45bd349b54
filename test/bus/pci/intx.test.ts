/** A pin that functions share. */
import { expect, test } from "bun:test";
import { noLock } from "../../../src/bus/lock.ts";
import { SharedPin } from "../../../src/bus/pci/intx.ts";
import { CountingLock } from "../parts.ts";

const word = () => new Int32Array(new SharedArrayBuffer(4));

test("the pin is asserted from the first function that asserts it to the last that stops", () => {
  const levels: boolean[] = [];
  const lock = new CountingLock();
  const pin = new SharedPin(word(), lock, { set: (level) => levels.push(level) });

  pin.set(1, true);
  pin.set(31, true);
  pin.set(31, true);
  pin.set(1, false);
  expect(levels).toEqual([true]);
  pin.set(31, false);
  pin.set(31, false);
  pin.set(7, false);

  expect(levels).toEqual([true, false]);
  expect([lock.held, lock.acquired]).toEqual([0, 7]);
});

test("two views of one word are one pin", () => {
  const levels: boolean[] = [];
  const shared = word();
  const line = { set: (level: boolean) => void levels.push(level) };
  const [here, there] = [0, 1].map(() => new SharedPin(shared, noLock, line));

  here!.set(3, true);
  there!.set(4, true);
  there!.set(3, false);
  here!.set(4, false);

  expect(levels).toEqual([true, false]);
});
