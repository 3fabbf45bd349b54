/** Sleep control, sleep status and reset register (ACPI 6.5 sections 4.8.3.6 and 4.8.3.7). */
import { expect, test } from "bun:test";
import { EventKind, ResetSource } from "../../../src/bus/events.ts";
import {
  AcpiPower,
  AcpiPowerState,
  resetValue,
  s5SleepType,
} from "../../../src/devices/legacy/acpi-power.ts";
import { s5SleepType as announcedSleepType } from "../../../src/firmware/acpi/dsdt.ts";
import { resetValue as announcedResetValue } from "../../../src/machine/memory-map.ts";
import { Events } from "./parts.ts";

const [sleepControl, sleepStatus, resetRegister] = [0, 1, 2];

function build() {
  const events = new Events();
  const device = new AcpiPower(new AcpiPowerState(new SharedArrayBuffer(1)), events);
  device.reset();
  return { device, events };
}

test("sleep type 5 with SLP_EN powers off", () => {
  const { device, events } = build();

  device.write(sleepControl, 1, (5 << 2) | 0x20);

  expect(events.seen).toEqual([[EventKind.poweroff, 0]]);
});

test("the type alone, or another type, does nothing", () => {
  const { device, events } = build();

  for (const value of [5 << 2, 0x20, (3 << 2) | 0x20, (7 << 2) | 0x20, 0]) {
    device.write(sleepControl, 1, value);
  }

  expect(events.seen).toEqual([]);
});

test("the type reads back, SLP_EN never does", () => {
  const { device } = build();

  device.write(sleepControl, 1, 0xff);

  expect(device.read(sleepControl, 1)).toBe(7 << 2);
  device.reset();
  expect(device.read(sleepControl, 1)).toBe(0);
});

test("the status reads 0, also after WAK_STS was cleared", () => {
  const { device, events } = build();

  device.write(sleepStatus, 1, 0x80);

  expect(device.read(sleepStatus, 1)).toBe(0);
  expect(events.seen).toEqual([]);
});

test("the reset register takes 1 alone", () => {
  const { device, events } = build();

  for (const value of [0, 2, 0xff]) device.write(resetRegister, 1, value);
  expect(events.seen).toEqual([]);
  device.write(resetRegister, 1, 1);

  expect(events.seen).toEqual([[EventKind.reset, ResetSource.acpi]]);
  expect(device.read(resetRegister, 1)).toBe(0);
});

test("a wide access reaches each register", () => {
  const { device, events } = build();

  device.write(sleepControl, 2, 0x80_34);

  expect(events.seen).toEqual([[EventKind.poweroff, 0]]);
  expect(device.read(sleepControl, 2)).toBe(0x14);
  expect(device.read(sleepStatus, 2)).toBe(0);
  device.write(sleepStatus, 2, 0x01_20);
  expect(events.seen.slice(1)).toEqual([[EventKind.reset, ResetSource.acpi]]);
});

test("the ACPI tables announce the values that the device takes", () => {
  expect(s5SleepType).toBe(announcedSleepType);
  expect(resetValue).toBe(announcedResetValue);
});
