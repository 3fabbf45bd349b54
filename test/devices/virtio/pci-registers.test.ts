/** The registers in the BAR, by the accesses that virtio 1.2 section 4.1.3.1 allows, and by those that it does not. */
import { beforeEach, expect, test } from "bun:test";
import fc from "fast-check";
import type { AccessSize } from "../../../src/bus/device.ts";
import { barOf, offered, Rig, type RigFunction } from "./rig.ts";

const slot = 4;
const bar = barOf(slot);
const [isr, device, notify, table, pba] = [0x1000, 0x2000, 0x3000, 0x8000, 0xc000];
/** linux/virtio_pci.h; pci-layout.test.ts compares them with the header. */
const C = {
  ...{ dfselect: 0, df: 4, gfselect: 8, gf: 12, msix: 16, numq: 18, status: 20, generation: 21 },
  ...{ select: 22, size: 24, vector: 26, enable: 28, off: 30, desc: 32, avail: 40, used: 48 },
};

let rig: Rig;
let disk: RigFunction;

beforeEach(() => {
  rig = new Rig();
  disk = rig.add(slot);
  rig.configWrite(slot, 0x04, 2, 6);
});

const read = (offset: number, size: AccessSize) => rig.read(bar + offset, size);
const write = (offset: number, size: AccessSize, value: number) =>
  rig.write(bar + offset, size, value);

/** As a driver brings a device up (section 3.1.1), with queue 0 alone. */
function bringUp(): void {
  write(C.status, 1, 0);
  write(C.status, 1, 1);
  write(C.status, 1, 3);
  write(C.gfselect, 4, 1);
  write(C.gf, 4, 1);
  write(C.status, 1, 11);
  write(C.select, 2, 0);
  write(C.enable, 2, 1);
  write(C.status, 1, 15);
}

test("a driver finds features and queues", () => {
  write(C.dfselect, 4, 0);
  expect(read(C.df, 4)).toBe(offered.low);
  write(C.dfselect, 4, 1);
  expect(read(C.df, 4)).toBe(offered.high);
  expect(read(C.numq, 2)).toBe(2);
  write(C.select, 2, 1);
  expect([read(C.size, 2), read(C.off, 2), read(C.enable, 2)]).toEqual([64, 1, 0]);
  write(C.select, 2, 2);
  expect([read(C.size, 2), read(C.off, 2), read(C.enable, 2)]).toEqual([0, 0, 0]);
});

test("a driver brings the device up, and resets it", () => {
  bringUp();
  expect([read(C.status, 1), read(C.enable, 2), disk.wakes.count]).toEqual([15, 1, 1]);

  write(C.status, 1, 0);

  expect([read(C.status, 1), read(C.enable, 2), disk.wakes.count]).toEqual([0, 0, 2]);
});

test("queue addresses read back in halves, and 64 bits at once are two halves", () => {
  const at = [C.desc, C.desc + 4, C.avail, C.avail + 4, C.used, C.used + 4];
  for (const [i, offset] of at.entries()) write(offset, 4, 0xf000_0000 + i);
  expect(at.map((offset) => read(offset, 4))).toEqual(at.map((_, i) => 0xf000_0000 + i));

  const wide = new DataView(new ArrayBuffer(8));
  wide.setBigUint64(0, 0x1122_3344_5566_7788n, true);
  rig.mmio.write(bar + C.desc, 8, wide, 0);
  expect([read(C.desc, 4), read(C.desc + 4, 4)]).toEqual([0x5566_7788, 0x1122_3344]);

  write(C.enable, 2, 1);
  for (const offset of at) write(offset, 4, 1);
  expect(read(C.desc, 4)).toBe(0x5566_7788);
});

test("queues are told apart by the select register, and there is none behind the last", () => {
  for (const queue of [0, 1, 7]) {
    write(C.select, 2, queue);
    write(C.desc, 4, 0x1000 * (queue + 1));
    write(C.vector, 2, queue);
  }
  const found = [0, 1, 7].map((queue) => {
    write(C.select, 2, queue);
    return [read(C.desc, 4), read(C.vector, 2)];
  });
  expect(found).toEqual([
    [0x1000, 0],
    [0x2000, 1],
    [0, 0xffff],
  ]);
});

test("vectors that there are not read back as none", () => {
  for (const register of [C.msix, C.vector]) {
    expect(read(register, 2)).toBe(0xffff);
    write(register, 2, 2);
    expect(read(register, 2)).toBe(2);
    write(register, 2, 3);
    expect(read(register, 2)).toBe(0xffff);
  }
});

test("registers of another width than the access read zero, and are not written", () => {
  bringUp();
  const wrong: [offset: number, size: AccessSize][] = [
    ...([
      [C.status, 2],
      [C.status, 4],
      [C.generation, 2],
      [C.numq, 1],
      [C.numq, 4],
    ] as const),
    ...([
      [C.df, 2],
      [C.df + 2, 2],
      [C.desc, 2],
      [C.desc + 1, 1],
      [C.size, 1],
    ] as const),
    ...([
      [C.select, 4],
      [C.select + 1, 1],
      [56, 4],
      [0xffc, 4],
      [C.enable, 4],
    ] as const),
  ].map(([offset, size]) => [offset, size]);
  const before = read(C.select, 2);

  for (const [offset, size] of wrong) {
    write(offset, size, 0);
    expect(read(offset, size)).toBe(0);
  }

  expect([read(C.status, 1), read(C.select, 2), read(C.enable, 2)]).toEqual([15, before, 1]);
});

test("read-only registers stay as they are", () => {
  for (const [offset, size] of [
    [C.df, 4],
    [C.numq, 2],
    [C.generation, 1],
    [C.off, 2],
  ] as const) {
    const before = read(offset, size);
    write(offset, size, 0x55);
    expect(read(offset, size)).toBe(before);
  }
  const addresses = [C.desc, C.avail, C.used].flatMap((at) => [read(at, 4), read(at + 4, 4)]);
  expect(addresses).toEqual([0, 0, 0, 0, 0, 0]); // nor did it go elsewhere
});

test("a queue is made smaller by its size register, of the powers of two", () => {
  write(C.select, 2, 1);
  write(C.size, 2, 16);
  write(C.size, 2, 24);
  write(C.size, 2, 128);
  expect(read(C.size, 2)).toBe(16);
  write(C.select, 2, 0);
  expect(read(C.size, 2)).toBe(256);
});

test("device configuration is read in any width; what may be written is", () => {
  expect([1, 2, 4].map((size) => read(device, size as AccessSize))).toEqual([
    1, 0x0201, 0x0403_0201,
  ]);
  expect(read(device + 5, 2)).toBe(0x0706);
  expect(read(device + 6, 4)).toBe(0x0807);
  expect(read(device + 8, 4)).toBe(0);

  write(device + 4, 4, 0x1111_1199);
  write(device, 1, 0x55);

  expect([read(device, 4), read(device + 4, 4)]).toEqual([0x0403_0201, 0x0807_0699]);
});

test("a change of configuration is a new generation, modulo 256", () => {
  bringUp();
  for (let i = 1; i <= 256; i++) {
    rig.underDevice(() => disk.device.configChanged());
    expect(read(C.generation, 1)).toBe(i % 256);
  }
});

test("the ISR is cleared by reading it, and cannot be written", () => {
  bringUp();
  rig.underDevice(() => disk.device.interrupt(1, 0xffff));
  rig.underDevice(() => disk.device.configChanged());
  write(isr, 1, 0);

  expect([read(isr, 1), read(isr, 1)]).toEqual([3, 0]);
  expect(read(isr + 1, 1)).toBe(0);
});

test("a kick reaches its queue, by KVM and by an exit", () => {
  write(notify, 2, 0);
  write(notify + 4, 2, 1);
  expect([disk.kicks, disk.exits]).toEqual([
    [1, 1],
    [0, 0],
  ]);

  write(notify + 4, 4, 1);
  write(notify + 4, 1, 1);
  write(notify + 8, 2, 2);
  write(notify + 0xffe, 2, 0);

  expect([disk.kicks, disk.exits]).toEqual([
    [1, 3],
    [0, 2],
  ]);
  expect(read(notify, 2)).toBe(0);
});

test("MSI-X table and pending bits are in the BAR", () => {
  expect([read(table + 12, 4), read(table + 32 + 12, 4), read(table + 48 + 12, 4)]).toEqual([
    1, 1, 0,
  ]);
  write(table + 16, 4, 0xfee0_1000);
  expect(read(table + 16, 4)).toBe(0xfee0_1000);

  disk.vectors.signal(2);
  expect([read(pba, 4), read(pba, 1), read(pba + 4, 4)]).toEqual([4, 4, 0]);
});

test("whatever is accessed: no throw, no lock kept, values within their width", () => {
  const offsets = fc.oneof(
    fc.nat(64),
    fc.nat(0xffff),
    fc.nat(64).map((n) => notify + n),
  );
  const access = fc.record({
    offset: fc.oneof(
      offsets,
      fc.nat(160).map((n) => table + n),
    ),
    size: fc.constantFrom<AccessSize>(1, 2, 4),
    value: fc.oneof(fc.nat(16), fc.integer({ min: 0, max: 0xffff_ffff })),
    config: fc.option(fc.nat(255), { freq: 5 }),
    cause: fc.constantFrom(1, 2),
  });
  fc.assert(
    fc.property(fc.array(access, { maxLength: 80 }), (accesses) => {
      const rig = new Rig();
      const disk = rig.add(slot);
      rig.configWrite(slot, 4, 2, 2);
      for (const { offset, size, value, config, cause } of accesses) {
        const fits = value % 2 ** (8 * size);
        if (config === null) rig.write(bar + offset, size, fits);
        else rig.configWrite(slot, config - (config % size), size, fits);
        rig.underDevice(() => disk.device.interrupt(cause, value & 0xffff));
        const values = [rig.read(bar + offset, size), rig.configRead(slot, offset & 0xfc, size)];
        for (const read of values) {
          expect(Number.isInteger(read) && read >= 0 && read < 2 ** (8 * size)).toBe(true);
        }
        expect(rig.locks.held).toEqual([]);
        const on = disk.device.msix.enabled;
        const pin = disk.device.transport.state.isr !== 0 && !on;
        const disabled = (rig.configRead(slot, 4, 2) & 0x400) !== 0;
        expect(rig.pin).toBe(pin && !disabled);
      }
    }),
    { numRuns: 200 },
  );
});
