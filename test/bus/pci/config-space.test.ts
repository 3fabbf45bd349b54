/** Configuration space as a driver finds it: PCI Local Bus 3.0, sections 6.1, 6.2 and 6.7. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { AccessSize } from "../../../src/bus/device.ts";
import { PciConfigSpace, PciConfigState } from "../../../src/bus/pci/config-space.ts";

const identity = {
  ...{ vendor: 0x1234, device: 0xabcd, subsystemVendor: 0x5678, subsystem: 0xef01 },
  ...{ classCode: 0x01_80_02, revision: 7 },
};
const [command, status, bar0, bar1, bar4] = [0x04, 0x06, 0x10, 0x14, 0x20];
const memory = 2;

/** A function that is set up by `declare`, after its first reset. */
function space(declare: (config: PciConfigSpace) => void = () => {}): PciConfigSpace {
  const config = new PciConfigSpace(new PciConfigState(), identity);
  declare(config);
  config.reset();
  return config;
}

const withBar = (index: number, size: number, is64: boolean, prefetchable = false) =>
  space((config) => config.addBar({ index, size, is64, prefetchable }));

/** Writes all ones, reads back, puts the old value back: section 6.2.5.1. */
function probe(config: PciConfigSpace, offset: number): number {
  const before = config.read(offset, 4);
  config.write(offset, 4, 0xffff_ffff);
  const after = config.read(offset, 4);
  config.write(offset, 4, before);
  return after;
}

test("a header of type 0 says who the function is, in every width", () => {
  const config = space((config) => config.setInterruptPin(1));

  expect(config.read(0x00, 4)).toBe(0xabcd_1234);
  expect(config.read(0x02, 2)).toBe(0xabcd);
  expect(config.read(0x08, 4)).toBe(0x0180_0207);
  expect(config.read(0x0a, 2)).toBe(0x0180);
  expect(config.read(0x0e, 1)).toBe(0);
  expect(config.read(0x2c, 4)).toBe(0xef01_5678);
  expect(config.read(0x3d, 1)).toBe(1);
});

test("identity, status, header type and unused registers are read-only", () => {
  const config = space((config) => config.setInterruptPin(1));
  const before = Array.from({ length: 64 }, (_, i) => config.read(4 * i, 4));

  for (let offset = 0; offset < 256; offset += 4) config.write(offset, 4, 0xffff_ffff);

  const after = Array.from({ length: 64 }, (_, i) => config.read(4 * i, 4));
  before[1] = 0x0000_0406; // memory, bus master, interrupt disable
  before[15] = 0x0000_01ff; // the interrupt line is software's own
  expect(after).toEqual(before);
});

test("writes of one and two bytes reach their bytes alone", () => {
  const config = withBar(0, 0x1000, false);

  config.write(bar0 + 2, 2, 0xfedc);
  config.write(bar0 + 1, 1, 0xff);
  config.write(0x3c, 1, 0x0b);

  expect(config.read(bar0, 4)).toBe(0xfedc_f000);
  expect(config.read(0x3c, 4)).toBe(0x0000_000b);
});

test.each([
  [0x10, 0xffff_fff0],
  [0x1000, 0xffff_f000],
  [0x1_0000, 0xffff_0000],
  [0x8000_0000, 0x8000_0000],
])("a 32-bit BAR of %p bytes answers the sizing probe", (size, answer) => {
  const config = withBar(4, size, false);

  expect(probe(config, bar4)).toBe(answer);
  expect(probe(config, bar4 + 4)).toBe(0);
  expect(config.read(bar4, 4)).toBe(0);
});

test.each([
  [0x4000, 0xffff_c00c, 0xffff_ffff],
  [0x8000_0000, 0x8000_000c, 0xffff_ffff],
  [0x1_0000_0000, 0x0000_000c, 0xffff_ffff],
  [0x2_0000_0000, 0x0000_000c, 0xffff_fffe],
  [0x80_0000_0000, 0x0000_000c, 0xffff_ff80],
])("a 64-bit prefetchable BAR of %p bytes answers it in two halves", (size, low, high) => {
  const config = withBar(0, size, true, true);

  expect(probe(config, bar0)).toBe(low);
  expect(probe(config, bar1)).toBe(high);
  expect(config.read(bar0, 4)).toBe(0xc);
});

test("a BAR answers where it was put, while memory decode is on", () => {
  const config = withBar(0, 0x1_0000, true);

  config.write(bar0, 4, 0x8765_ffff);
  config.write(bar1, 4, 0x12);
  expect(config.decodedAddress(0)).toBeUndefined();
  config.write(command, 2, memory);

  expect(config.read(bar0, 4)).toBe(0x8765_0004);
  expect(config.decodedAddress(0)).toBe(0x12_8765_0000);
  expect(config.decodedAddress(1)).toBeUndefined();
});

test("a BAR that ends beyond 52 bits of address answers nowhere", () => {
  const config = withBar(0, 0x1_0000, true);
  config.write(command, 2, memory);

  config.write(bar0, 4, 0xffff_0000);
  config.write(bar1, 4, 0x000f_ffff);
  expect(config.decodedAddress(0)).toBe(2 ** 52 - 0x1_0000);

  config.write(bar1, 4, 0x0010_0000);
  expect(config.decodedAddress(0)).toBeUndefined();
  config.write(bar1, 4, 0xffff_ffff); // the sizing probe, decode left on
  expect(config.decodedAddress(0)).toBeUndefined();
});

test("a BAR can be put where firmware would have, and a reset takes it away", () => {
  const config = space((config) => {
    config.addBar({ index: 0, size: 0x1_0000, is64: true, prefetchable: false });
    config.addBar({ index: 2, size: 0x1000, is64: false, prefetchable: false });
  });

  config.placeBar(0, 0x5_c001_0000);
  config.placeBar(2, 0xc002_0000);
  expect([0, 4, 8].map((at) => config.read(bar0 + at, 4))).toEqual([0xc001_0004, 5, 0xc002_0000]);

  config.reset();
  expect([0, 4, 8].map((at) => config.read(bar0 + at, 4))).toEqual([4, 0, 0]);
});

test.each([
  ["no power of two", 0, 0x3000, false],
  ["too small", 0, 8, false],
  ["too large for 32 bits", 0, 2 ** 32, false],
  ["beyond the last", 6, 16, false],
  ["64 bits in the last", 5, 16, true],
  ["over another's upper half", 3, 16, false],
  ["upper half over another", 1, 16, true],
])("a BAR is refused: %s", (_, index, size, is64) => {
  const config = space((config) =>
    config.addBar({ index: 2, size: 0x1000, is64: true, prefetchable: false }),
  );

  expect(() => config.addBar({ index, size, is64, prefetchable: false })).toThrow(RangeError);
});

test("capabilities are a list of dword-aligned entries; masked bits alone can be written", () => {
  const at: number[] = [];
  const config = space((config) => {
    at.push(config.addCapability(0x09, Uint8Array.of(5, 6, 7)));
    at.push(config.addCapability(0x11, Uint8Array.of(1, 2), Uint8Array.of(0x0f, 0)));
  });

  expect(at).toEqual([0x40, 0x48]);
  expect(config.read(status, 2) & 0x10).toBe(0x10);
  expect(config.read(0x34, 1)).toBe(0x40);
  expect(config.read(0x40, 4)).toBe(0x0605_4809);
  expect(config.read(0x48, 4)).toBe(0x0201_0011);
  config.write(0x40, 4, 0xffff_ffff);
  config.write(0x48, 4, 0xffff_ffff);
  expect(config.read(0x40, 4)).toBe(0x0605_4809);
  expect(config.read(0x48, 4)).toBe(0x020f_0011);
});

test("a function without capabilities says so; one too many is refused", () => {
  expect(space().read(status, 2)).toBe(0);
  expect(() =>
    space((config) => {
      config.addCapability(9, new Uint8Array(100));
      config.addCapability(9, new Uint8Array(100));
    }),
  ).toThrow("no room for a capability");
});

test("what lies beyond 256 bytes reads zero, and cannot be written", () => {
  const config = space();

  config.write(0x100, 4, 0xffff_ffff);
  config.write(0xfe, 4, 0xffff_ffff);

  expect(config.read(0x100, 4)).toBe(0);
  expect(config.read(0xffc, 4)).toBe(0);
  expect(config.read(0xfc, 4)).toBe(0);
});

test("whatever is written: no throw, values within their width, what is fixed stays", () => {
  const sizes = fc.constantFrom<AccessSize>(1, 2, 4);
  const write = fc.tuple(fc.nat(4095), sizes, fc.integer({ min: 0, max: 0xffff_ffff }));
  fc.assert(
    fc.property(fc.array(write, { maxLength: 60 }), (writes) => {
      const config = space((config) => {
        config.addBar({ index: 0, size: 0x1_0000, is64: true, prefetchable: false });
        config.addCapability(9, new Uint8Array(14), new Uint8Array(14).fill(0xff));
      });
      for (const [offset, size, value] of writes) {
        config.write(offset, size, value % 2 ** (8 * size));
        const read = config.read(offset, size);
        expect(Number.isInteger(read) && read >= 0 && read < 2 ** (8 * size)).toBe(true);
        expect(config.read(0, 4)).toBe(0xabcd_1234);
        expect(config.read(bar0, 4) % 0x1_0000).toBe(4);
        const address = config.decodedAddress(0) ?? 0;
        expect(address % 0x1_0000 === 0 && address < 2 ** 52).toBe(true);
      }
    }),
  );
});
