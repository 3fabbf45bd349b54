/** The page of registers, by the accesses that virtio 1.2 section 4.2.2 allows, and by those that it does not. */
import { beforeEach, expect, test } from "bun:test";
import fc from "fast-check";
import type { AccessSize } from "../../../src/bus/device.ts";
import { Mmio } from "../../../src/devices/virtio/mmio-registers.ts";
import { valuesInC } from "../../headers.ts";
import { MmioRig, type MmioRigDevice, offered } from "./mmio-rig.ts";

/** Table 4.1, as a driver has it. */
const R = {
  ...{ magic: 0x00, version: 0x04, device: 0x08, vendor: 0x0c, features: 0x10, featuresSel: 0x14 },
  ...{ driverFeatures: 0x20, driverFeaturesSel: 0x24, select: 0x30, most: 0x34, size: 0x38 },
  ...{ ready: 0x44, notify: 0x50, isr: 0x60, ack: 0x64, status: 0x70, desc: 0x80, avail: 0x90 },
  ...{ used: 0xa0, shmSel: 0xac, shmLen: 0xb0, shmBase: 0xb8, queueReset: 0xc0, generation: 0xfc },
  config: 0x100,
};

let rig: MmioRig;
let disk: MmioRigDevice;

beforeEach(() => {
  rig = new MmioRig();
  disk = rig.add();
});

const read = (offset: number, size: AccessSize = 4) => rig.read(disk.base + offset, size);
const write = (offset: number, value: number, size: AccessSize = 4) =>
  rig.write(disk.base + offset, value, size);

/** As a driver brings a device up (section 3.1.1), with queue 0 alone. */
function bringUp(): void {
  for (const status of [0, 1, 3]) write(R.status, status);
  write(R.driverFeaturesSel, 1);
  write(R.driverFeatures, 1);
  write(R.status, 11);
  write(R.select, 0);
  write(R.ready, 1);
  write(R.status, 15);
}

test("offsets are those of <linux/virtio_mmio.h>", () => {
  const ours: Record<string, number> = {};
  for (const [name, at] of Object.entries(Mmio)) ours[`VIRTIO_MMIO_${name}`] = at;
  for (const [name, at] of Object.entries({ DESC: R.desc, AVAIL: R.avail, USED: R.used })) {
    ours[`VIRTIO_MMIO_QUEUE_${name}_LOW`] = at;
  }

  expect(ours).toEqual(valuesInC(["linux/virtio_mmio"], Object.keys(ours)));
  expect(Object.keys(ours).length).toBe(29);
});

test("a driver finds a device of version 2, its features and its queues", () => {
  const ids = [R.magic, R.version, R.device, R.vendor].map((offset) => read(offset));
  expect(ids).toEqual([0x7472_6976, 2, 2, 0x1af4]); // "virt"
  write(R.featuresSel, 0);
  expect(read(R.features)).toBe(offered.low);
  write(R.featuresSel, 1);
  expect(read(R.features)).toBe(offered.high);
  write(R.featuresSel, 2);
  expect(read(R.features)).toBe(0);
  const most = [0, 1, 2, 0xffff, 0x1_0000, 0xffff_ffff].map((queue) => {
    write(R.select, queue);
    return read(R.most);
  });
  expect(most).toEqual([256, 64, 0, 0, 0, 0]); // 65536 is not queue 0
});

test("a driver brings the device up, and resets it", () => {
  bringUp();
  expect([read(R.status), read(R.ready), disk.wakes.count]).toEqual([15, 1, 1]);

  write(R.status, 0);

  expect([read(R.status), read(R.ready), disk.wakes.count]).toEqual([0, 0, 2]);
});

test("each of a vCPU's resets is one that it waits for, with no lock held", () => {
  bringUp();
  disk.resets.length = 0;
  write(R.status, 0);
  write(R.status, 0, 1);
  write(R.status, 1);
  expect(disk.resets).toEqual([[]]);
});

test("after a reset the device takes nothing until its backend stands still", () => {
  const slow = rig.add({ settles: false });
  const { handOver } = slow.device.transport;
  const status = () => rig.read(slow.base + R.status);
  for (const value of [1, 3]) rig.write(slow.base + R.status, value);
  rig.write(slow.base + R.driverFeaturesSel, 1);
  rig.write(slow.base + R.driverFeatures, 1);
  for (const value of [11, 15]) rig.write(slow.base + R.status, value);
  handOver.reach(handOver.wanted);

  rig.write(slow.base + R.status, 0);
  expect(status()).not.toBe(0);
  rig.write(slow.base + R.status, 3);
  handOver.reach(handOver.wanted);

  expect(status()).toBe(0);
});

test("FEATURES_OK is refused with a bit that was not offered, and without VERSION_1", () => {
  write(R.status, 3);
  write(R.driverFeaturesSel, 1);
  for (const [low, high] of [
    [0, 0],
    [1, 1],
    [0, 3],
  ]) {
    write(R.driverFeaturesSel, 0);
    write(R.driverFeatures, low!);
    write(R.driverFeaturesSel, 1);
    write(R.driverFeatures, high!);
    write(R.status, 11);
    expect(read(R.status)).toBe(3);
  }
  write(R.driverFeaturesSel, 0);
  write(R.driverFeatures, 0);
  write(R.driverFeaturesSel, 1);
  write(R.driverFeatures, 1);
  write(R.driverFeaturesSel, 2);
  write(R.driverFeatures, 0xffff_ffff); // there is no such half
  write(R.status, 11);
  expect(read(R.status)).toBe(11);
});

test("queue addresses and sizes are the selected queue's, until it is ready", () => {
  const { state } = disk.device.transport;
  const at = [R.desc, R.desc + 4, R.avail, R.avail + 4, R.used, R.used + 4];
  const set = (value: number) => {
    for (const [i, offset] of at.entries()) write(offset, value + i);
  };
  const found = (queue: number) => {
    const { descLow, descHigh, driverLow, driverHigh, deviceLow, deviceHigh, size } =
      state.queues.get(queue);
    return [descLow, descHigh, driverLow, driverHigh, deviceLow, deviceHigh, size];
  };
  write(R.select, 1);
  set(0xf000_0000);
  write(R.size, 32);
  expect(found(1)).toEqual([...at.map((_, i) => 0xf000_0000 + i), 32]);
  expect(found(0)).toEqual([0, 0, 0, 0, 0, 0, 256]);

  for (const size of [0, 3, 128, 0x1_0020, 0xffff_ffff]) write(R.size, size);
  write(R.ready, 1);
  set(1);
  write(R.size, 16);
  expect(found(1)).toEqual([...at.map((_, i) => 0xf000_0000 + i), 32]);

  for (const queue of [2, 0xffff_ffff]) {
    write(R.select, queue);
    set(5);
    write(R.ready, 1);
    expect(read(R.ready)).toBe(0);
  }
  expect([found(0)[0], state.queues.get(0).enable]).toEqual([0, 0]);
});

test("a queue is closed again by 0, until the device is live; then by a reset alone", () => {
  write(R.ready, 1);
  write(R.ready, 2);
  expect(read(R.ready)).toBe(1);
  write(R.ready, 0);
  expect(read(R.ready)).toBe(0);
  write(R.ready, 2);
  expect(read(R.ready)).toBe(0);

  bringUp();
  write(R.ready, 0);
  expect(read(R.ready)).toBe(1);
  write(R.select, 1);
  write(R.ready, 1);
  expect(read(R.ready)).toBe(0);
});

test("another width than 32 bits reads 0 and writes nothing, as do offsets without a register", () => {
  bringUp();
  for (const [offset, size] of [
    ...([R.status, R.magic, R.ready, R.most] as const).flatMap((at) =>
      ([1, 2] as const).map((size) => [at, size] as const),
    ),
    ...([R.status + 1, R.status + 3, R.magic + 2] as const).map((at) => [at, 1] as const),
    ...([R.status + 2, R.magic + 1, R.notify + 4, 0x28, 0x3c, 0x40] as const).map(
      (at) => [at, 4] as const,
    ),
    ...([R.queueReset, 0xc4, 0xf8] as const).map((at) => [at, 4] as const),
  ]) {
    write(offset, 0, size);
    write(offset, 1, size);
    expect([offset, size, read(offset, size)]).toEqual([offset, size, 0]);
  }
  expect([read(R.status), read(R.ready)]).toEqual([15, 1]);
});

test("registers to read are not written, registers to write read 0", () => {
  bringUp();
  for (const offset of [R.magic, R.version, R.device, R.vendor, R.features, R.most, R.isr]) {
    const before = read(offset);
    write(offset, 0x55);
    expect(read(offset)).toBe(before);
  }
  write(R.select, 1); // a queue that takes addresses: they are not taken for one
  for (const offset of [R.magic, R.most, R.isr, R.shmLen]) write(offset, 0x55);
  const { descLow, descHigh, driverLow, driverHigh, deviceLow, deviceHigh } =
    disk.device.transport.state.queues.get(1);
  const addresses = [descLow, descHigh, driverLow, driverHigh, deviceLow, deviceHigh];
  expect(addresses).toEqual([0, 0, 0, 0, 0, 0]);
  for (const offset of [R.featuresSel, R.driverFeatures, R.select, R.size, R.notify, R.ack]) {
    expect(read(offset)).toBe(0);
  }
});

test("there is no shared memory region, whichever is asked for", () => {
  for (const region of [0, 1, 0xffff_ffff]) {
    write(R.shmSel, region);
    const halves = [R.shmLen, R.shmLen + 4, R.shmBase, R.shmBase + 4].map((at) => read(at));
    expect(halves).toEqual(Array(4).fill(0xffff_ffff)); // a length of -1
  }
});

test("configuration space is read in any width; what may be written is", () => {
  const widths = [1, 2, 4] as const;
  expect(widths.map((size) => read(R.config, size))).toEqual([1, 0x0201, 0x0403_0201]);
  expect(read(R.config + 5, 2)).toBe(0x0706);
  expect(read(R.config + 6)).toBe(0x0807);
  expect(read(0xffc)).toBe(0);

  write(R.config + 4, 0x1111_1199);
  write(R.config, 0x55, 1);

  expect([read(R.config), read(R.config + 4)]).toEqual([0x0403_0201, 0x0807_0699]);
});

test("64 bits at once are two halves; an access across the end of the page is nobody's", () => {
  const wide = new DataView(new ArrayBuffer(8));
  wide.setBigUint64(0, 0x1122_3344_5566_7788n, true);
  rig.mmio.write(disk.base + R.desc, 8, wide, 0);
  const { descLow, descHigh } = disk.device.transport.state.queues.get(0);
  expect([descLow, descHigh]).toEqual([0x5566_7788, 0x1122_3344]);
  expect(read(0xffe)).toBe(0xffff_ffff);
});

test("whatever is accessed: no throw, no lock kept, values within their width", () => {
  const access = fc.record({
    offset: fc.oneof(fc.constantFrom(...Object.values(R)), fc.nat(0x110), fc.nat(0xfff)),
    size: fc.constantFrom<AccessSize>(1, 2, 4),
    value: fc.oneof(fc.nat(16), fc.integer({ min: 0, max: 0xffff_ffff })),
    cause: fc.constantFrom(0, 1, 2),
  });
  fc.assert(
    fc.property(fc.array(access, { maxLength: 80 }), (accesses) => {
      const rig = new MmioRig();
      const { base, device } = rig.add();
      for (const { offset, size, value, cause } of accesses) {
        rig.write(base + offset, value % 2 ** (8 * size), size);
        if (cause > 0) rig.underDevice(() => device.interrupt(cause));
        const read = rig.read(base + offset, size);
        expect(Number.isInteger(read) && read >= 0 && read < 2 ** (8 * size)).toBe(true);
        expect(rig.locks.held).toEqual([]);
        expect(rig.pin).toBe(rig.read(base + R.isr) !== 0);
      }
    }),
    { numRuns: 200 },
  );
});
