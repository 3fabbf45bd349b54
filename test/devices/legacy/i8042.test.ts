/** Ports 0x60 to 0x64 as kernels use them (IBM PC/AT Technical Reference, 1984). */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { AccessSize } from "../../../src/bus/device.ts";
import { EventKind, ResetSource } from "../../../src/bus/events.ts";
import { I8042, I8042State } from "../../../src/devices/legacy/i8042.ts";
import { Events } from "./parts.ts";

/** Offsets of ports 0x60, 0x61, 0x64. */
const [data, systemControl, command] = [0, 1, 4];
const reset: [number, number] = [EventKind.reset, ResetSource.i8042];

function build() {
  const events = new Events();
  const device = new I8042(new I8042State(new SharedArrayBuffer(2)), events);
  device.reset();
  const read = (offset: number) => device.read(offset, 1);
  const write = (offset: number, value: number) => device.write(offset, 1, value);
  return { device, events, read, write };
}

test("the status says ready with nothing to fetch, the data port is empty, the rest is not there", () => {
  const { read } = build();

  expect([command, data, 2, 3].map(read)).toEqual([0, 0, 0xff, 0xff]);
});

test.each([0xfe, 0xf0, 0xfc])("command %p pulses the reset line", (value) => {
  const { events, write } = build();

  write(command, value);

  expect(events.seen).toEqual([reset]);
});

test("a wide access is one of each port, lowest first", () => {
  const { device, events } = build();

  device.write(3, 2, 0xfe_00);

  expect(events.seen).toEqual([reset]);
  expect(device.read(systemControl, 4)).toBe(0x00_ff_ff_30);
});

test.each([0xff, 0xf1, 0xaa, 0xad, 0x20, 0xd1, 0xee, 0x00])(
  "command %p resets nothing",
  (value) => {
    const { events, write } = build();

    write(command, value);

    expect(events.seen).toEqual([]);
  },
);

test("the output port with its reset line low resets the machine", () => {
  const { events, write } = build();

  write(command, 0xd1);
  write(data, 0xdf); // A20 on, as boot loaders do it: no reset
  write(data, 0xfe); // not the output port any more
  expect(events.seen).toEqual([]);
  write(command, 0xd1);
  write(data, 0xfe);

  expect(events.seen).toEqual([reset]);
});

test("another command in between takes the output port away", () => {
  const { events, write } = build();

  write(command, 0xd1);
  write(command, 0xad);
  write(data, 0xfe);

  expect(events.seen).toEqual([]);
});

test("the refresh bit and timer 2's output change at every read, so nobody waits for ever", () => {
  const { read } = build();

  const seen = [1, 2, 3, 4].map(() => read(systemControl) & 0x30);

  expect(seen).toEqual([0x30, 0, 0x30, 0]);
});

test("the low four bits of port 0x61 are the guest's, the others are not", () => {
  const { read, write } = build();

  write(systemControl, 0xff);

  expect(read(systemControl) & ~0x30).toBe(0x0f);
});

test("a reset closes the gates", () => {
  const { device, read, write } = build();
  write(systemControl, 0x03);
  write(command, 0xd1);

  device.reset();

  expect(read(systemControl) & 0x0f).toBe(0);
  expect(device.state.outputPortNext).toBe(0);
});

test("whatever a guest does, no value is wider than its access", () => {
  const access = fc.record({
    offset: fc.nat(4),
    size: fc.constantFrom<AccessSize>(1, 2, 4),
    value: fc.nat(0xffff_ffff),
  });
  fc.assert(
    fc.property(fc.array(access), (accesses) => {
      const { device } = build();
      for (const { offset, size, value } of accesses) {
        device.write(offset, size, value % 2 ** (8 * size));
        const got = device.read(offset, size);
        expect(Number.isInteger(got) && got >= 0 && got < 2 ** (8 * size)).toBe(true);
      }
    }),
  );
});
