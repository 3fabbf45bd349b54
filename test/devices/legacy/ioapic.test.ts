/** The IOAPIC as a kernel drives it. Values are the 82093AA data sheet's (1996) and the Intel SDM's, volume 3, 11.11. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { AccessSize } from "../../../src/bus/device.ts";
import { Ioapic, IoapicPin, IoapicState } from "../../../src/devices/legacy/ioapic.ts";

const [masked, level, remoteIrr] = [0x1_0000, 0x8000, 0x4000];

function build() {
  const sent: [number, number][] = [];
  const log: string[] = [];
  const ioapic = new Ioapic(
    new IoapicState(new SharedArrayBuffer(IoapicState.size)),
    {
      send: (address, data) => {
        sent.push([address, data]);
        log.push("send");
      },
    },
    { changed: (pin) => void log.push(`changed ${pin}`) },
  );
  ioapic.reset();
  const read = (index: number) => {
    ioapic.write(0x00, 4, index);
    return ioapic.read(0x10, 4);
  };
  const write = (index: number, value: number) => {
    ioapic.write(0x00, 4, index);
    ioapic.write(0x10, 4, value);
  };
  const low = (pin: number) => read(0x10 + 2 * pin);
  /** As Linux does it: the high half first. */
  const program = (pin: number, entry: number, destination = 0) => {
    write(0x11 + 2 * pin, destination * 2 ** 24);
    write(0x10 + 2 * pin, entry);
  };
  return { ioapic, sent, log, read, write, low, program };
}

test("after reset: identification 0, version 0x20, 24 pins, all masked", () => {
  const { read } = build();

  expect([0, 1, 2].map(read)).toEqual([0, 0x0017_0020, 0]);
  for (let pin = 0; pin < 24; pin++) {
    expect([read(0x10 + 2 * pin), read(0x11 + 2 * pin)]).toEqual([0x0001_0000, 0]);
  }
});

test("registers keep their writable bits alone", () => {
  const { read, write } = build();

  for (const index of [0, 1, 2, 0x10, 0x11, 0x3e, 0x3f, 0x40, 0xff]) write(index, 0xffff_ffff);

  expect([0, 1, 2].map(read)).toEqual([0x0f00_0000, 0x0017_0020, 0x0f00_0000]);
  expect([0x10, 0x11, 0x3e, 0x3f].map(read)).toEqual([
    0x0001_afff, 0xff00_0000, 0x0001_afff, 0xff00_0000,
  ]);
  expect([0x40, 0xff].map(read)).toEqual([0, 0]);
});

test("the select register reads back, other offsets read 0", () => {
  const { ioapic } = build();

  ioapic.write(0x00, 1, 0x12);

  expect(ioapic.read(0x00, 4)).toBe(0x12);
  expect([0x04, 0x11, 0x14, 0x20, 0x40, 0xffc].map((at) => ioapic.read(at, 4))).toEqual([
    0, 0, 0, 0, 0, 0,
  ]);
});

test("narrow reads of the window give its low part, narrow writes are ignored", () => {
  const { ioapic } = build();
  ioapic.write(0x00, 4, 0x01);
  expect([ioapic.read(0x10, 1), ioapic.read(0x10, 2)]).toEqual([0x20, 0x0020]);

  ioapic.write(0x00, 4, 0x10);
  ioapic.write(0x10, 1, 0x31);
  ioapic.write(0x10, 2, 0x31);

  expect(ioapic.read(0x10, 4)).toBe(0x0001_0000);
});

/** Entry's low half, destination, message address and data. */
test.each([
  ["fixed, physical, edge", 0x0031, 0x00, 0xfee0_0000, 0x0031],
  ["fixed, logical, edge", 0x0831, 0x01, 0xfee0_1004, 0x0031],
  ["lowest priority, logical, level", 0x8941, 0xff, 0xfeef_f004, 0xc141],
  ["NMI, physical, active low", 0x2400, 0x03, 0xfee0_3000, 0x0400],
  ["ExtINT, physical", 0x0700, 0x00, 0xfee0_0000, 0x0700],
])("%s: the message", (_, entry, destination, address, data) => {
  const { ioapic, sent, program } = build();
  program(5, entry, destination);

  ioapic.set(5, true);

  expect(sent).toEqual([[address, data]]);
  expect([ioapic.messageAddress(5), ioapic.messageData(5)]).toEqual([address, data]);
});

test("an edge pin delivers once for each rise", () => {
  const { ioapic, sent, program } = build();
  program(4, 0x34);

  for (const asserted of [true, true, false, false, true]) ioapic.set(4, asserted);

  expect(sent.length).toBe(2);
});

test("edges on a masked pin are ignored, not held pending", () => {
  const { ioapic, sent, program } = build();
  program(4, masked | 0x34);

  ioapic.set(4, true);
  program(4, 0x34);

  expect(sent).toEqual([]);
  ioapic.set(4, false);
  ioapic.set(4, true);
  expect(sent.length).toBe(1);
});

test("a level pin delivers once until its end of interrupt, then again if still asserted", () => {
  const { ioapic, sent, low, program } = build();
  program(9, level | 0x39);

  ioapic.set(9, true);
  ioapic.set(9, false);
  ioapic.set(9, true);
  expect(sent.length).toBe(1);
  expect(low(9)).toBe(level | remoteIrr | 0x39);
  ioapic.endOfInterrupt(0x39);
  expect(sent.length).toBe(2);
  ioapic.set(9, false);
  ioapic.endOfInterrupt(0x39);

  expect(sent.length).toBe(2);
  expect(low(9)).toBe(level | 0x39);
});

test("an end of interrupt by the EOI register counts too, and only for its vector", () => {
  const { ioapic, low, program } = build();
  program(9, level | 0x39);
  ioapic.set(9, true);
  ioapic.set(9, false);

  ioapic.write(0x40, 4, 0x38);
  expect(low(9) & remoteIrr).toBe(remoteIrr);
  ioapic.write(0x40, 4, 0x39);

  expect(low(9) & remoteIrr).toBe(0);
});

test("two level pins with one vector are both ended and both come again", () => {
  const { ioapic, sent, program } = build();
  program(10, level | 0x50);
  program(11, level | 0x50);
  ioapic.set(10, true);
  ioapic.set(11, true);
  expect(sent.length).toBe(2);

  ioapic.endOfInterrupt(0x50);

  expect(sent.length).toBe(4);
});

test("a level that waits on a masked pin is delivered when it is unmasked", () => {
  const { ioapic, sent, program } = build();
  program(9, masked | level | 0x39);
  ioapic.set(9, true);
  expect(sent).toEqual([]);

  program(9, level | 0x39);

  expect(sent).toEqual([[0xfee0_0000, 0xc039]]);
});

test("a level that went away while masked is not delivered", () => {
  const { ioapic, sent, program } = build();
  program(9, masked | level | 0x39);
  ioapic.set(9, true);
  ioapic.set(9, false);

  program(9, level | 0x39);

  expect(sent).toEqual([]);
});

test("an end of interrupt on a masked pin delivers at the unmasking", () => {
  const { ioapic, sent, program } = build(); // how Linux serves a threaded handler
  program(9, level | 0x39);
  ioapic.set(9, true);

  program(9, masked | level | 0x39);
  ioapic.endOfInterrupt(0x39);
  expect(sent.length).toBe(1);
  program(9, level | 0x39);

  expect(sent.length).toBe(2);
});

test("switching a pin to edge and back clears its remote IRR", () => {
  const { ioapic, sent, low, program } = build();
  program(9, level | 0x39);
  ioapic.set(9, true);

  program(9, masked | 0x39);
  program(9, level | 0x39);

  expect(sent.length).toBe(2);
  expect(low(9)).toBe(level | remoteIrr | 0x39);
});

test("a guest cannot write the remote IRR or the delivery status", () => {
  const { low, program } = build();

  program(9, level | remoteIrr | 0x1000 | 0x39);

  expect(low(9)).toBe(level | 0x39);
});

test("routes hear of an unmasked pin before it delivers, and not of masking", () => {
  const { ioapic, log, program } = build();
  program(9, masked | level | 0x39, 1);
  ioapic.set(9, true);
  expect(log).toEqual([]);

  program(9, level | 0x39, 1);
  expect(log).toEqual(["changed 9", "send"]);
  ioapic.set(9, false);
  ioapic.endOfInterrupt(0x39);
  program(9, masked | level | 0x39, 1);
  program(9, level | 0x39, 1);

  expect(log).toEqual(["changed 9", "send"]);
});

test("routes hear of each new vector and destination of an unmasked pin", () => {
  const { log, write, program } = build();
  program(9, level | 0x39, 1);

  write(0x22, level | 0x3a);
  write(0x23, 0x0200_0000);
  write(0x23, 0x0200_0000);

  expect(log).toEqual(["changed 9", "changed 9", "changed 9"]);
});

test("behind the last pin there is none: nothing is told or sent", () => {
  const { ioapic, log, write } = build();

  for (let index = 0x40; index < 0x100; index++) write(index, 0x8031);
  for (let index = 3; index < 0x10; index++) write(index, 0x8031);
  ioapic.endOfInterrupt(0x31);

  expect(log).toEqual([]);
});

test("after a reset routes are told anew, and a level is not remembered", () => {
  const { ioapic, sent, log, program } = build();
  program(9, level | 0x39);
  ioapic.set(9, true);
  ioapic.reset();

  program(9, level | 0x39);

  expect(log.filter((entry) => entry === "changed 9").length).toBe(2);
  expect(sent.length).toBe(1);
  expect(ioapic.masked(9)).toBe(false);
  expect(ioapic.masked(8)).toBe(true);
});

test("a pin takes the lock around its change, and gives it back when that throws", () => {
  const { ioapic, sent, program } = build();
  const log: string[] = [];
  const lock = {
    acquire: () => void log.push(`acquire ${sent.length}`),
    release: () => void log.push(`release ${sent.length}`),
  };
  program(4, 0x34);

  new IoapicPin(ioapic, 4, lock).set(true);
  expect(log).toEqual(["acquire 0", "release 1"]);
  const broken = new Ioapic(
    ioapic.state,
    {
      send() {
        throw new Error("no such machine");
      },
    },
    ioapic.routes,
  );
  ioapic.set(4, false);

  expect(() => new IoapicPin(broken, 4, lock).set(true)).toThrow("no such machine");
  expect(log.at(-1)).toBe("release 1");
});

test("whatever a guest does: no value is wider than its access, no level is lost", () => {
  const step = fc.record({
    offset: fc.oneof(fc.constantFrom(0x00, 0x10, 0x40), fc.nat(0xfff)),
    size: fc.constantFrom<AccessSize>(1, 2, 4, 4),
    value: fc.oneof(fc.integer({ min: 0x10, max: 0x3f }), fc.nat(0xffff_ffff)),
    pin: fc.nat(23),
    asserted: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const { ioapic, sent, low } = build();
      for (const { offset, size, value, pin, asserted } of steps) {
        ioapic.write(offset, size, value % 2 ** (8 * size));
        const got = ioapic.read(offset, size);
        expect(Number.isInteger(got) && got >= 0 && got < 2 ** (8 * size)).toBe(true);
        ioapic.set(pin, asserted);
        const entry = low(pin);
        const waits = asserted && (entry & (masked | level)) === level;
        expect(waits && !(entry & remoteIrr)).toBe(false);
      }
      for (const [address, data] of sent) {
        expect(address & 0xfff0_0ffb).toBe(0xfee0_0000 | 0);
        expect(data & ~0xc7ff).toBe(0);
      }
    }),
  );
});
