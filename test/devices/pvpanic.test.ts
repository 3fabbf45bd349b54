/** pvpanic as its PCI driver uses it (linux/misc/pvpanic.h; Linux's drivers/misc/pvpanic/pvpanic-pci.c). */
import { expect, test } from "bun:test";
import { EventKind, PvpanicEvent } from "../../src/bus/events.ts";
import { PciConfigState } from "../../src/bus/pci/config-space.ts";
import { Pvpanic, PvpanicState } from "../../src/devices/pvpanic.ts";
import { valuesInC } from "../headers.ts";
import { Events } from "./legacy/parts.ts";

const bar = 0xc003_0000;
const [command, bar0] = [0x04, 0x10];

function build() {
  const events = new Events();
  const held = { count: 0 };
  const moves = { count: 0 };
  const lock = { acquire: () => held.count++, release: () => held.count-- };
  const states = { config: new PciConfigState(), device: new PvpanicState() };
  const device = new Pvpanic(states, lock, events, () => moves.count++);
  device.powerOn(bar);
  const writeConfig = (offset: number, size: 1 | 2 | 4, value: number) => {
    device.config.write(offset, size, value);
    device.configWritten(offset, size);
  };
  return { device, events, held, moves, writeConfig };
}

test("it is the function that Linux's driver looks for, a system peripheral with one BAR of 4 KiB", () => {
  const { device, writeConfig } = build();

  expect(device.config.read(0, 4)).toBe(0x0011_1b36);
  expect(device.config.read(0x0a, 2)).toBe(0x0880);
  expect(device.config.read(bar0, 4)).toBe(bar); // 32 bits, memory, not prefetchable
  writeConfig(bar0, 4, 0xffff_ffff);
  expect(device.config.read(bar0, 4)).toBe(0xffff_f000);
  expect([0x14, 0x18, 0x1c, 0x20, 0x24].map((at) => device.config.read(at, 4))).toEqual(
    Array(5).fill(0),
  );
});

test("the BAR answers while decode is on, wherever it is; moves are told", () => {
  const { device, held, moves, writeConfig } = build();
  expect(device.barAddress).toBeUndefined();

  writeConfig(command, 2, 2);
  expect([device.barAddress, moves.count]).toEqual([bar, 1]);
  writeConfig(bar0 + 2, 2, 0xd000);
  expect([device.barAddress, moves.count]).toEqual([0xd000_0000, 2]);
  writeConfig(0x3c, 1, 7); // interrupt line
  expect([moves.count, held.count]).toEqual([2, 0]);
});

test("the events are the header's, and both are offered", () => {
  const names = ["PVPANIC_PANICKED", "PVPANIC_CRASH_LOADED"] as const;
  const { PVPANIC_PANICKED: panicked, PVPANIC_CRASH_LOADED: crashLoaded } = valuesInC(
    ["misc/pvpanic"],
    names,
  );
  const { device } = build();

  expect<unknown>(PvpanicEvent).toEqual({ panicked, crashLoaded });
  expect(device.read(0)).toBe(panicked | crashLoaded);
  expect([1, 2, 4095].map((offset) => device.read(offset))).toEqual([0, 0, 0]);
});

test("a panic is told, and a panic that goes on in a crash kernel", () => {
  const { device, events } = build();

  device.write(0, 1, 2);
  device.write(0, 1, 1);

  expect(events.seen).toEqual([
    [EventKind.guestPanic, 2],
    [EventKind.guestPanic, 1],
  ]);
});

test("both at once are two events; other bits and other offsets are none", () => {
  const { device, events } = build();

  device.write(0, 1, 0xfc);
  device.write(1, 1, 1);
  device.write(0, 4, 0xffff_fff0);
  expect(events.seen).toEqual([]);
  device.write(0, 4, 0xffff_ffff);

  expect(events.seen.map(([, what]) => what)).toEqual([2, 1]);
});

test("each is told once until the machine is reset, however often it is written", () => {
  const { device, events } = build();

  for (let i = 0; i < 1000; i++) device.write(0, 1, (i & 3) | 1);
  expect(events.seen.length).toBe(2);
  device.powerOn(bar);
  device.write(0, 1, 1);

  expect(events.seen.length).toBe(3);
});
