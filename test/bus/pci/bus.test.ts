/** Configuration mechanism 1, MMCONFIG, the window on a BAR, and what functions leave behind. */
import { beforeEach, expect, test } from "bun:test";
import fc from "fast-check";
import type { AccessSize } from "../../../src/bus/device.ts";
import {
  PciBus,
  PciBusState,
  PciConfigPorts,
  type PciFunction,
  PciMmconfig,
  type PciWindow,
} from "../../../src/bus/pci/bus.ts";
import { PciConfigSpace, PciConfigState } from "../../../src/bus/pci/config-space.ts";
import { PortBus } from "../../../src/bus/port-bus.ts";
import { Scratch } from "../parts.ts";
import { LockOrder } from "./parts.ts";

const nobody = 0xffff_ffff;
const [command, bar0] = [0x04, 0x10];

class Slot implements PciFunction {
  readonly config: PciConfigSpace;
  readonly written: [offset: number, size: number][] = [];
  readonly vacated: [start: number, end: number][] = [];
  readonly window?: PciWindow;

  constructor(device: number, window?: PciWindow) {
    this.config = new PciConfigSpace(new PciConfigState(), {
      ...{ vendor: 0x1af4, device, subsystemVendor: 0, subsystem: 0, classCode: 0, revision: 0 },
    });
    this.config.addBar({ index: 0, size: 0x1000, is64: false, prefetchable: false });
    if (window) this.config.addCapability(9, new Uint8Array(6), new Uint8Array(6).fill(0xff));
    this.config.reset();
    this.window = window;
  }

  configWritten(offset: number, size: AccessSize): void {
    locks.lock("below the bus").acquire();
    locks.lock("below the bus").release();
    this.written.push([offset, size]);
  }

  vacate(start: number, end: number): void {
    this.vacated.push([start, end]);
  }
}

let locks: LockOrder;
let bus: PciBus;
let ports: PortBus;
let mmconfig: PciMmconfig;
let first: Slot;
let second: Slot;
/** What the window shows, and where it points. */
let registers: Scratch;
let target: { offset: number; size: AccessSize } | undefined;

beforeEach(() => {
  locks = new LockOrder(["registers", "bus", "below the bus"]);
  bus = new PciBus(new PciBusState(), locks.lock("bus"));
  ports = new PortBus();
  ports.map("PCI configuration", 0xcf8, 8, new PciConfigPorts(bus));
  mmconfig = new PciMmconfig(bus);
  registers = new Scratch(16);
  target = undefined;
  first = new Slot(0x1111);
  second = new Slot(0x2222, {
    data: 0x44,
    target: () => target,
    registers,
    lock: locks.lock("registers"),
  });
  bus.add(1, first);
  bus.add(31, second);
});

const outl = (port: number, value: number) => ports.write(port, 4, value);
const inl = (port: number) => ports.read(port, 4);
const latch = (place: number, offset: number) => (0x8000_0000 + place * 0x100 + offset) >>> 0;
const [firstPlace, secondPlace] = [1 << 3, 31 << 3];
const ecam = (place: number, offset: number) => place * 4096 + offset;

test("the latch keeps enable, bus, device, function and dword; the rest reads zero", () => {
  outl(0xcf8, 0xffff_ffff);
  expect(inl(0xcf8)).toBe(0x80ff_fffc);
  outl(0xcf8, 0x7f00_0003);
  expect(inl(0xcf8)).toBe(0);
});

test("only whole dwords reach the latch (Linux writes a byte to 0xcfb to tell mechanism 2)", () => {
  outl(0xcf8, latch(firstPlace, 0));

  ports.write(0xcfb, 1, 0x01);
  ports.write(0xcf8, 1, 0xff);
  ports.write(0xcf8, 2, 0xffff);
  ports.write(0xcfa, 2, 0);
  ports.write(0xcf9, 1, 6);

  expect(inl(0xcf8)).toBe(latch(firstPlace, 0));
  expect([ports.read(0xcf8, 1), ports.read(0xcf9, 1)]).toEqual([0xff, 0xff]);
  expect([ports.read(0xcf8, 2), ports.read(0xcfa, 2)]).toEqual([0xffff, 0xffff]);
});

test("accesses that straddle latch and data, or the end, are nobody's", () => {
  outl(0xcf8, latch(firstPlace, 0));

  expect([ports.read(0xcf9, 4), ports.read(0xcfb, 2), ports.read(0xcfd, 4)]).toEqual([
    nobody,
    0xffff,
    nobody,
  ]);
  ports.write(0xcfa, 4, 0);
  ports.write(0xcff, 2, 0);
  expect(inl(0xcf8)).toBe(latch(firstPlace, 0));
  expect(first.written).toEqual([]);
});

test("the data ports show the dword that the latch names, byte by byte and word by word", () => {
  outl(0xcf8, latch(firstPlace, 0));

  expect(inl(0xcfc)).toBe(0x1111_1af4);
  expect([0, 1, 2, 3].map((i) => ports.read(0xcfc + i, 1))).toEqual([0xf4, 0x1a, 0x11, 0x11]);
  expect([0, 1, 2].map((i) => ports.read(0xcfc + i, 2))).toEqual([0x1af4, 0x111a, 0x1111]);
  outl(0xcf8, latch(firstPlace, 0x3c));
  ports.write(0xcfc, 1, 0x0b);
  expect(ports.read(0xcfc, 1)).toBe(0x0b);
  expect(first.written).toEqual([[0x3c, 1]]);
});

test("with the enable bit clear the data ports are nobody's", () => {
  outl(0xcf8, latch(firstPlace, 0x3c) - 0x8000_0000);

  ports.write(0xcfc, 1, 0x0b);

  expect(inl(0xcfc)).toBe(nobody);
  expect(first.written).toEqual([]);
});

test.each([
  ["an empty slot", 2 << 3],
  ["function 1 of a device that is there", firstPlace + 1],
  ["function 7", firstPlace + 7],
  ["device 0 of bus 1", 0x100],
  ["the same device on bus 1", 0x100 + firstPlace],
  ["the last function of bus 255", 0xffff],
])("%s reads all ones, and writes vanish, both ways", (_, place) => {
  outl(0xcf8, latch(place, 0));
  outl(0xcfc, 0);
  mmconfig.write(ecam(place, 0), 4, 0);

  expect([inl(0xcfc), ports.read(0xcfe, 2), ports.read(0xcff, 1)]).toEqual([nobody, 0xffff, 0xff]);
  const sizes: AccessSize[] = [1, 2, 4];
  expect(sizes.map((size) => mmconfig.read(ecam(place, 0), size))).toEqual([0xff, 0xffff, nobody]);
});

test("MMCONFIG shows the same functions, with zeroes beyond 256 bytes", () => {
  expect(mmconfig.read(ecam(firstPlace, 0), 4)).toBe(0x1111_1af4);
  expect(mmconfig.read(ecam(secondPlace, 2), 2)).toBe(0x2222);
  expect(mmconfig.read(ecam(secondPlace, 0x100), 4)).toBe(0);
  expect(mmconfig.read(ecam(secondPlace, 0xfff), 1)).toBe(0);

  mmconfig.write(ecam(firstPlace, 0x3c), 1, 0x77);
  outl(0xcf8, latch(firstPlace, 0x3c));
  expect(ports.read(0xcfc, 1)).toBe(0x77);
});

test("an unaligned access to MMCONFIG is nobody's", () => {
  mmconfig.write(ecam(firstPlace, 0x3b), 2, 0);
  mmconfig.write(ecam(firstPlace, 0x3a), 4, 0);

  expect(mmconfig.read(ecam(firstPlace, 1), 2)).toBe(0xffff);
  expect(mmconfig.read(ecam(firstPlace, 2), 4)).toBe(nobody);
  expect(mmconfig.read(ecam(firstPlace, 0xffe), 4)).toBe(nobody);
  expect(first.written).toEqual([]);
});

test("a slot holds one function, and there are 32", () => {
  expect(() => bus.add(1, first)).toThrow("device 1 is taken");
  for (const slot of [32, -1, 1.5]) expect(() => bus.add(slot, first)).toThrow(RangeError);
});

test("a reset clears the latch", () => {
  outl(0xcf8, latch(firstPlace, 0));
  bus.reset();
  expect([inl(0xcf8), inl(0xcfc)]).toEqual([0, nobody]);
});

test("the window reads and writes the registers by its own length, whatever the access", () => {
  registers.bytes.setUint32(4, 0x8877_6655, true);
  target = { offset: 4, size: 2 };

  expect(mmconfig.read(ecam(secondPlace, 0x44), 4)).toBe(0x6655);
  expect(mmconfig.read(ecam(secondPlace, 0x45), 1)).toBe(0x66);
  target = { offset: 8, size: 1 };
  outl(0xcf8, latch(secondPlace, 0x44));
  outl(0xcfc, 0x4433_2211);

  expect(registers.calls).toEqual([
    ["read", 4, 2, 0x6655],
    ["read", 4, 2, 0x6655],
    ["write", 8, 1, 0x11],
  ]);
});

test("a window that points nowhere keeps what is written, and touches nothing", () => {
  mmconfig.write(ecam(secondPlace, 0x44), 4, 0x1234_5678);

  expect(mmconfig.read(ecam(secondPlace, 0x44), 4)).toBe(0x1234_5678);
  expect(mmconfig.read(ecam(secondPlace, 0x48), 4)).toBe(0);
  expect(registers.calls).toEqual([]);
});

test("locks are released when the registers throw", () => {
  target = { offset: 100, size: 4 };

  expect(() => mmconfig.read(ecam(secondPlace, 0x44), 4)).toThrow();
  expect(() => mmconfig.write(ecam(secondPlace, 0x44), 4, 0)).toThrow();
  expect(locks.held).toEqual([]);
});

test("who comes to answer somewhere makes the others leave, and leaves what is theirs", () => {
  mmconfig.write(ecam(firstPlace, bar0), 4, 0xc000_0000);
  expect(second.vacated).toEqual([]);
  mmconfig.write(ecam(firstPlace, command), 2, 2);
  expect(second.vacated).toEqual([[0xc000_0000, 0xc000_1000]]);
  mmconfig.write(ecam(firstPlace, 0x3c), 1, 0);
  mmconfig.write(ecam(firstPlace, 0x40), 4, 0);
  expect(second.vacated.length).toBe(1);

  mmconfig.write(ecam(secondPlace, bar0), 4, 0xd000_0000);

  expect(second.vacated.at(-1)).toEqual([0xc000_0000, 0xc000_1000]);
  expect(first.vacated).toEqual([]);
});

test("whatever is accessed: no throw, no lock kept, values within their width", () => {
  const access = fc.record({
    port: fc.integer({ min: 0xcf8, max: 0xcff }),
    offset: fc.nat(256 * 2 ** 20 - 1),
    low: fc.boolean(),
    size: fc.constantFrom<AccessSize>(1, 2, 4),
    value: fc.integer({ min: 0, max: 0xffff_ffff }),
    points: fc.option(fc.nat(3)),
  });
  fc.assert(
    fc.property(fc.array(access, { maxLength: 60 }), (accesses) => {
      for (const { port, offset, low, size, value, points } of accesses) {
        target = points === null ? undefined : { offset: points * 4, size };
        const fits = value % 2 ** (8 * size);
        const at = low
          ? ecam([firstPlace, secondPlace][offset & 1]!, (offset >> 1) & 0xfff)
          : offset;
        ports.write(port, size, fits);
        mmconfig.write(at, size, fits);
        for (const read of [ports.read(port, size), mmconfig.read(at, size)]) {
          expect(Number.isInteger(read) && read >= 0 && read < 2 ** (8 * size)).toBe(true);
        }
        expect(locks.held).toEqual([]);
      }
    }),
  );
});
