/** The Generic Event Device (ACPI 6.5 section 5.6.9): a byte of events, and an edge for each. */
import { expect, test } from "bun:test";
import { EventDevice, EventDeviceState } from "../../../src/devices/legacy/event-device.ts";
import { Line } from "./parts.ts";

const powerButton = 1;
const other = 4;

function build() {
  const line = new Line();
  const device = new EventDevice(new EventDeviceState(new SharedArrayBuffer(1)), line);
  return { device, line };
}

test("an event is an edge, and is there until it is read", () => {
  const { device, line } = build();
  device.raise(powerButton);

  expect(line.changes).toEqual([true, false]);
  expect([device.read(0, 1), device.read(0, 1)]).toEqual([powerButton, 0]);
});

test("events that were not read add up, each with its edge", () => {
  const { device, line } = build();
  device.raise(powerButton);
  device.raise(other);

  expect(line.changes).toEqual([true, false, true, false]);
  expect(device.read(0, 1)).toBe(powerButton | other);
});

test("other widths and writes do nothing", () => {
  const { device } = build();
  device.raise(powerButton);
  device.write();

  expect([device.read(0, 2), device.read(0, 4)]).toEqual([0, 0]);
  expect(device.read(0, 1)).toBe(powerButton);
});

test("a reset forgets them", () => {
  const { device } = build();
  device.raise(powerButton);
  device.reset();

  expect(device.read(0, 1)).toBe(0);
});
