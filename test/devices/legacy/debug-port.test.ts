/** Port 0x80: codes, their names, and how many of them reach the event ring. */
import { expect, test } from "bun:test";
import { EventKind } from "../../../src/bus/events.ts";
import {
  DebugPort,
  DebugPortState,
  debugCodeRange,
  formatDebugCode,
} from "../../../src/devices/legacy/debug-port.ts";
import { Events, ManualClock } from "./parts.ts";

function build() {
  const events = new Events();
  const clock = new ManualClock();
  const port = new DebugPort(new DebugPortState(new SharedArrayBuffer(272)), events, clock);
  port.reset();
  const codes = () => events.seen.map(([, code]) => code);
  return { port, events, clock, codes };
}

test("a code is told and latched", () => {
  const { port, events } = build();

  port.write(0, 1, 0x41);

  expect(events.seen).toEqual([[EventKind.debugCode, 0x41]]);
  expect(port.read(0, 1)).toBe(0x41);
});

test("a few codes in a row all pass, repeated ones too", () => {
  const { port, codes } = build();
  const written = [0x41, 0x41, 0x42, 0x41, 0x00, 0xff];

  for (const code of written) port.write(0, 1, code);

  expect(codes()).toEqual(written);
});

test("one code written for ever passes eight times in 100 ms, others still pass", () => {
  const { port, clock, codes } = build();

  for (let i = 0; i < 1000; i++) port.write(0, 1, 0xad); // Linux's I/O delay
  port.write(0, 1, 0x42);
  expect(codes()).toEqual([...Array(8).fill(0xad), 0x42]);
  clock.pass(100);
  port.write(0, 1, 0xad);

  expect(codes().length).toBe(10);
});

test("all codes together pass 128 times in 100 ms, and the last one is always latched", () => {
  const { port, clock, codes } = build();

  for (let i = 0; i < 100_000; i++) port.write(0, 1, i % 256);
  expect(codes().length).toBe(128);
  expect(port.read(0, 1)).toBe(99_999 % 256);
  clock.pass(99);
  port.write(0, 1, 0x01);
  expect(codes().length).toBe(128);
  clock.pass(1);
  port.write(0, 1, 0x01);

  expect(codes().length).toBe(129);
});

test("a reset forgets the code but not the flood", () => {
  const { port, codes } = build();
  for (let i = 0; i < 1000; i++) port.write(0, 1, i % 256);

  port.reset();
  port.write(0, 1, 0x41);

  expect(codes().length).toBe(128);
  expect(port.read(0, 1)).toBe(0x41);
});

test.each([
  [0x00, "Firmware"],
  [0x1f, "Firmware"],
  [0x20, "Bootloader"],
  [0x3f, "Bootloader"],
  [0x40, "Kernel"],
  [0x5f, "Kernel"],
  [0x60, "Userspace"],
  [0x7f, "Userspace"],
  [0x80, "Custom"],
  [0xff, "Custom"],
] as const)("code %p is the %s's", (code, name) => {
  expect(debugCodeRange(code)).toBe(name);
});

test("a code's log line", () => {
  expect(formatDebugCode(0x41, 0.412003)).toBe(
    "[Debug I/O port: Kernel code 0x41] 0.412003 seconds",
  );
  expect(formatDebugCode(0x05, 12)).toBe("[Debug I/O port: Firmware code 0x05] 12.000000 seconds");
});
