/** MSI-X as a driver sees it (PCI Local Bus 3.0, section 6.8.2), on irqfds that behave as KVM's. */
import { beforeEach, expect, test } from "bun:test";
import fc from "fast-check";
import type { AccessSize } from "../../../src/bus/device.ts";
import { noLock } from "../../../src/bus/lock.ts";
import { Msix, MsixState } from "../../../src/bus/pci/msix.ts";
import { FakeVectors } from "./parts.ts";

const [enable, functionMask] = [0x8000, 0x4000];
const pba = 0x4000;
const vectors = 40;

let sink: FakeVectors;
let msix: Msix;

beforeEach(() => {
  sink = new FakeVectors();
  msix = new Msix(new MsixState(), vectors, sink, pba, noLock);
  msix.reset();
});

/** Fills an entry as Linux does: masked, address, data, then the mask comes off. */
function program(vector: number, address: number, data: number): void {
  msix.write(16 * vector + 12, 4, 1);
  msix.write(16 * vector, 4, address % 2 ** 32);
  msix.write(16 * vector + 4, 4, Math.floor(address / 2 ** 32));
  msix.write(16 * vector + 8, 4, data);
  msix.write(16 * vector + 12, 4, 0);
}

test("out of reset MSI-X is off, every vector masked, and none pending", () => {
  expect(msix.enabled).toBe(false);
  for (let vector = 0; vector < vectors; vector++) {
    const entry = [0, 4, 8, 12].map((at) => msix.read(16 * vector + at, 4));
    expect(entry).toEqual([0, 0, 0, 1]);
  }
  expect([msix.read(pba, 4), msix.read(pba + 4, 4)]).toEqual([0, 0]);
});

test("a vector is delivered with its own message, once MSI-X is on", () => {
  program(3, 0xfee0_1000, 0x4321);
  expect(sink.irqfds.size).toBe(0);

  msix.setMessageControl(enable);
  sink.signal(3);

  expect(sink.delivered).toEqual([[3, 0xfee0_1000, 0x4321]]);
  expect([...sink.irqfds.keys()]).toEqual([3]);
});

test("the upper half of the address is part of the message", () => {
  msix.setMessageControl(enable);
  program(0, 0x100_fee0_1000, 5);

  sink.signal(0);

  expect(sink.delivered).toEqual([[0, 0x100_fee0_1000, 5]]);
});

test("a masked vector becomes pending, and is delivered once when the mask comes off", () => {
  msix.setMessageControl(enable);
  program(33, 0xfee0_0000, 0x30);
  msix.write(16 * 33 + 12, 4, 1);

  sink.signal(33);
  sink.signal(33);
  expect(sink.delivered).toEqual([]);
  expect([msix.read(pba, 4), msix.read(pba + 4, 4)]).toEqual([0, 2]);
  msix.write(16 * 33 + 12, 4, 0);

  expect(sink.delivered).toEqual([[33, 0xfee0_0000, 0x30]]);
  expect(msix.read(pba + 4, 4)).toBe(0);
});

test("what came before the mask is not pending behind it", () => {
  msix.setMessageControl(enable);
  program(0, 0xfee0_0000, 0x30);
  sink.signal(0);

  msix.write(12, 4, 1);

  expect(msix.read(pba, 4)).toBe(0);
  msix.write(12, 4, 0);
  expect(sink.delivered.length).toBe(1);
});

test("the function mask holds back every vector, and leaves their own masks alone", () => {
  program(0, 0xfee0_0000, 0x30);
  program(1, 0xfee0_0000, 0x31);
  program(2, 0xfee0_0000, 0x32);
  msix.write(16 * 2 + 12, 4, 1);

  msix.setMessageControl(enable | functionMask);
  sink.signal(1);
  sink.signal(2);
  expect(sink.delivered).toEqual([]);
  expect(msix.read(pba, 4)).toBe(0b110);
  msix.setMessageControl(enable);

  expect(sink.delivered).toEqual([[1, 0xfee0_0000, 0x31]]);
  expect(msix.read(pba, 4)).toBe(0b100);
  expect([0, 1, 2].map((vector) => msix.read(16 * vector + 12, 4))).toEqual([0, 0, 1]);
});

test("turned off, nothing is delivered; turned on again, what came meanwhile is", () => {
  msix.setMessageControl(enable);
  program(0, 0xfee0_0000, 0x30);

  msix.setMessageControl(0);
  sink.signal(0);
  expect([sink.delivered.length, sink.irqfds.size]).toEqual([0, 0]);
  msix.setMessageControl(enable);

  expect(sink.delivered).toEqual([[0, 0xfee0_0000, 0x30]]);
});

test("an entry rewritten while it is open takes effect, and nothing breaks", () => {
  msix.setMessageControl(enable);
  program(0, 0xfee0_0000, 0x30);

  msix.write(8, 4, 0x31);
  msix.write(0, 4, 0xfee0_2000);
  msix.write(12, 4, 0);
  sink.signal(0);

  expect(sink.delivered).toEqual([[0, 0xfee0_2000, 0x31]]);
});

test("of the vector control only the mask bit is kept", () => {
  msix.write(12, 4, 0xffff_fffe);
  expect(msix.read(12, 4)).toBe(0);
  msix.write(12, 4, 0xffff_ffff);
  expect(msix.read(12, 4)).toBe(1);
});

test("beyond the last vector there is nothing; pending bits cannot be written", () => {
  msix.setMessageControl(enable);

  for (const at of [16 * vectors, 16 * vectors + 12, 16 * 64, 0x3ff0, pba, pba + 4]) {
    msix.write(at, 4, 0xffff_ffff);
    msix.write(at + 12, 4, 0);
    expect(msix.read(at, 4)).toBe(0);
  }

  expect(sink.irqfds.size).toBe(0);
});

test("pending bits read in bytes, words and dwords; behind the last vector they are zero", () => {
  for (const vector of [0, 9, 15, 31, 39]) sink.signal(vector);

  expect([msix.read(pba, 4), msix.read(pba + 4, 4)]).toEqual([0x8000_8201, 0x80]);
  expect([msix.read(pba, 2), msix.read(pba + 2, 2)]).toEqual([0x8201, 0x8000]);
  expect([0, 1, 2, 3, 4, 5].map((at) => msix.read(pba + at, 1))).toEqual([
    1, 0x82, 0, 0x80, 0x80, 0,
  ]);
  expect(msix.read(0x7ffc, 4)).toBe(0);
});

test("the table is read and written in dwords", () => {
  msix.write(0, 2, 0x1234);
  msix.write(1, 1, 0x12);
  msix.write(2, 4, 0x1234_5678);

  expect([msix.read(0, 4), msix.read(4, 4)]).toEqual([0, 0]);
  expect([msix.read(12, 2), msix.read(12, 1), msix.read(14, 4)]).toEqual([0, 0, 0]);
});

test("a reset masks all, turns MSI-X off, and forgets what was pending", () => {
  msix.setMessageControl(enable);
  program(0, 0xfee0_0000, 0x30);
  sink.signal(1);

  msix.reset();

  expect([msix.enabled, sink.irqfds.size, msix.read(pba, 4)]).toEqual([false, 0, 0]);
  expect([0, 4, 8, 12].map((at) => msix.read(at, 4))).toEqual([0, 0, 0, 1]);
});

test("no vectors, and more than the state has room for, are refused", () => {
  for (const count of [0, 65]) {
    expect(() => new Msix(new MsixState(), count, sink, pba, noLock)).toThrow(RangeError);
  }
});

test("whatever is written, open vectors are those that nothing masks", () => {
  const access = fc.record({
    at: fc.oneof(fc.nat(16 * vectors), fc.nat(0x7fff)),
    aligned: fc.boolean(),
    size: fc.constantFrom<AccessSize>(1, 2, 4),
    value: fc.integer({ min: 0, max: 0xffff_ffff }),
    control: fc.option(fc.integer({ min: 0, max: 0xffff }), { freq: 8 }),
    signal: fc.nat(vectors - 1),
  });
  fc.assert(
    fc.property(fc.array(access, { maxLength: 60 }), (accesses) => {
      const sink = new FakeVectors();
      const msix = new Msix(new MsixState(), vectors, sink, pba, noLock);
      msix.reset();
      let on = false;
      for (const { at, aligned, size, value, control, signal } of accesses) {
        const offset = aligned ? at - (at % 4) : at;
        if (control === null) msix.write(offset, size, value % 2 ** (8 * size));
        else {
          msix.setMessageControl(control);
          on = (control & enable) !== 0 && (control & functionMask) === 0;
        }
        sink.signal(signal);
        const read = msix.read(offset, size);
        expect(Number.isInteger(read) && read >= 0 && read < 2 ** (8 * size)).toBe(true);
        for (let vector = 0; vector < vectors; vector++) {
          const open = on && msix.read(16 * vector + 12, 4) === 0;
          expect(sink.irqfds.has(vector)).toBe(open);
        }
      }
    }),
    { numRuns: 50 },
  );
});
