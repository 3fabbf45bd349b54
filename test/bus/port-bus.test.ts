/** The port bus against a naive model, and who may have what. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { AccessSize } from "../../src/bus/device.ts";
import { BusConflict } from "../../src/bus/mapping.ts";
import { PortBus } from "../../src/bus/port-bus.ts";
import { CountingLock, failing, ranges, Scratch } from "./parts.ts";

test("a device sees the offset, the size and the value", () => {
  const bus = new PortBus();
  const scratch = new Scratch(8);
  bus.map("scratch", 0x3f8, 8, scratch);

  bus.write(0x3fc, 4, 0xdead_beef);
  expect(bus.read(0x3fe, 2)).toBe(0xdead);

  expect(scratch.calls).toEqual([
    ["write", 4, 4, 0xdead_beef],
    ["read", 6, 2, 0xdead],
  ]);
});

test("nobody's ports read all ones, also the last ones with a wide access", () => {
  const bus = new PortBus();
  bus.write(0x80, 1, 0);

  expect([bus.read(0x80, 1), bus.read(0x80, 2), bus.read(0x80, 4)]).toEqual([
    0xff, 0xffff, 0xffff_ffff,
  ]);
  expect(bus.read(0xffff, 4)).toBe(0xffff_ffff);
});

test("an access that straddles an end reaches no device", () => {
  const bus = new PortBus();
  const [low, high] = [new Scratch(2), new Scratch(2)];
  bus.map("low", 0x10, 2, low);
  bus.map("high", 0x12, 2, high);

  expect(bus.read(0x11, 2)).toBe(0xffff); // from one into the next
  expect(bus.read(0x0f, 2)).toBe(0xffff); // from nobody into one
  expect(bus.read(0x13, 4)).toBe(0xffff_ffff); // out of one
  bus.write(0x11, 2, 0x1234);

  expect([...low.calls, ...high.calls]).toEqual([]);
});

test("overlaps are refused with both names and ranges, and the bus stays as it was", () => {
  const bus = new PortBus();
  const serial = new Scratch(8);
  bus.map("serial", 0x3f8, 8, serial);

  expect(() => bus.map("other", 0x3f0, 9, new Scratch(9))).toThrow(
    new BusConflict(
      "ports",
      { toString: () => "other [0x3f0, 0x3f9)" } as never,
      { toString: () => "serial [0x3f8, 0x400)" } as never,
    ),
  );
  expect(bus.read(0x3f0, 1)).toBe(0xff);
  bus.map("before", 0x3f0, 8, new Scratch(8));
  bus.map("after", 0x400, 1, new Scratch(1));
  expect(bus.read(0x3f0, 1)).toBe(0);
});

test("ranges outside the port space, empty ones and a 256th device are refused", () => {
  const bus = new PortBus();
  for (const [port, length] of [
    [-1, 1],
    [0, 0],
    [0xffff, 2],
    [0x1_0000, 1],
  ]) {
    expect(() => bus.map("odd", port!, length!, failing)).toThrow(RangeError);
  }
  for (let i = 0; i < 255; i++) bus.map(`device ${i}`, i, 1, failing);
  expect(() => bus.map("device 255", 255, 1, failing)).toThrow(RangeError);
  bus.write(255, 1, 0); // nobody's
});

test("the lock is held around each call, and given back when the device throws", () => {
  const bus = new PortBus();
  const lock = new CountingLock();
  bus.map("broken", 0, 4, failing, lock);
  let heldInside = 0;
  const honest = {
    read: () => (heldInside = lock.held),
    write: () => {
      heldInside = lock.held;
    },
  };
  bus.map("honest", 8, 4, honest, lock);

  expect(() => bus.read(0, 1)).toThrow("broken");
  expect(() => bus.write(0, 1, 0)).toThrow("broken");
  expect(lock.held).toBe(0);
  expect(bus.read(8, 1)).toBe(1);
  bus.write(8, 1, 0);
  expect(heldInside).toBe(1);
  bus.read(11, 2); // straddles: no call, no lock

  expect([lock.held, lock.acquired]).toEqual([0, 4]);
});

test("behaves as a list of ranges that is searched from the front", () => {
  const part = fc.tuple(fc.nat(20), fc.integer({ min: 1, max: 20 }));
  const access = fc.tuple(fc.nat(300), fc.constantFrom<AccessSize>(1, 2, 4), fc.nat(0xffff_ffff));
  fc.assert(
    fc.property(
      fc.array(part, { maxLength: 12 }),
      fc.array(access, { maxLength: 40 }),
      (parts, accesses) => {
        const bus = new PortBus();
        const owned = ranges(parts, 300).map((range) => ({
          ...range,
          device: new Scratch(range.length),
        }));
        for (const { base, length, device } of [...owned].reverse()) {
          bus.map(`at ${base}`, base, length, device);
        }
        for (const [port, size, value] of accesses) {
          const owner = owned.find(
            ({ base, length }) => base <= port && port + size <= base + length,
          );
          const kept = value % 2 ** (8 * size);
          bus.write(port, size, kept);
          expect(bus.read(port, size)).toBe(owner ? kept : 2 ** (8 * size) - 1);
          expect(owner?.device.calls.splice(0) ?? []).toEqual(
            owner
              ? [
                  ["write", port - owner.base, size, kept],
                  ["read", port - owner.base, size, kept],
                ]
              : [],
          );
        }
      },
    ),
  );
});
