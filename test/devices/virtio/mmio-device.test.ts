/** A device on virtio-mmio: its interrupt and its pin, its kicks, and what power-on leaves of it. */
import { beforeEach, expect, test } from "bun:test";
import { MmioRig, type MmioRigDevice } from "./mmio-rig.ts";

const [notify, isr, ack, status, generation] = [0x50, 0x60, 0x64, 0x70, 0xfc];
const queueInterrupt = 1;
const configInterrupt = 2;

let rig: MmioRig;
let disk: MmioRigDevice;
let other: MmioRigDevice;

beforeEach(() => {
  rig = new MmioRig();
  disk = rig.add();
  other = rig.add();
});

function bringUp({ base }: MmioRigDevice): void {
  for (const value of [1, 3]) rig.write(base + status, value);
  rig.write(base + 0x24, 1);
  rig.write(base + 0x20, 1); // VERSION_1
  for (const value of [11, 15]) rig.write(base + status, value);
}

const interrupt = ({ device }: MmioRigDevice, cause = queueInterrupt) =>
  rig.underDevice(() => device.interrupt(cause));

test("an interrupt asserts the pin until the driver acknowledges it", () => {
  bringUp(disk);
  interrupt(disk);
  expect([rig.read(disk.base + isr), rig.pin]).toEqual([1, true]);
  expect([rig.read(disk.base + isr), rig.pin]).toEqual([1, true]); // reading takes nothing back

  rig.write(disk.base + ack, queueInterrupt);

  expect([rig.read(disk.base + isr), rig.pin]).toEqual([0, false]);
});

test("each cause is acknowledged for itself; the pin falls with the last", () => {
  bringUp(disk);
  interrupt(disk);
  interrupt(disk, configInterrupt);
  expect(rig.read(disk.base + isr)).toBe(3);

  rig.write(disk.base + ack, 0);
  rig.write(disk.base + ack, 4);
  rig.write(disk.base + ack, configInterrupt);
  expect([rig.read(disk.base + isr), rig.pin]).toEqual([1, true]);
  rig.write(disk.base + ack, 0xffff_ffff);

  expect([rig.read(disk.base + isr), rig.pin, rig.rises]).toEqual([0, false, 1]);
});

test("two devices share a pin: it is up as long as one of them asserts it", () => {
  for (const device of [disk, other]) {
    bringUp(device);
    interrupt(device);
  }
  rig.write(disk.base + ack, 1);
  expect(rig.pin).toBe(true);
  rig.write(other.base + ack, 1);
  expect(rig.pin).toBe(false);
});

test("a driver that is not ready is told nothing, nor one that has reset the device", () => {
  interrupt(disk);
  expect([rig.read(disk.base + isr), rig.pin]).toEqual([0, false]);
  bringUp(disk);
  interrupt(disk);
  rig.write(disk.base + status, 0);
  expect([rig.read(disk.base + isr), rig.pin]).toEqual([0, false]);
  interrupt(disk);
  expect(rig.pin).toBe(false);
});

test("a change of configuration is a new generation, and an interrupt of its own kind", () => {
  bringUp(disk);
  for (let i = 1; i <= 256; i++) {
    rig.underDevice(() => disk.device.configChanged());
    expect(rig.read(disk.base + generation)).toBe(i % 256);
  }
  expect(rig.read(disk.base + isr)).toBe(configInterrupt);
});

test("a kick reaches the queue whose number is written, by KVM and by an exit", () => {
  rig.write(disk.base + notify, 0);
  rig.write(disk.base + notify, 1);
  expect([disk.kicks, disk.exits, other.kicks]).toEqual([
    [1, 1],
    [0, 0],
    [0, 0],
  ]);

  for (const nobody of [2, 0x1_0000, 0xffff_ffff]) rig.write(disk.base + notify, nobody);
  rig.write(disk.base + notify, 1, 2);
  expect(disk.kicks).toEqual([1, 1]);
});

test("where KVM has no ioeventfd, a kick comes as an exit; power-on asks again", () => {
  rig.kickable = false;
  const late = rig.add();
  rig.write(late.base + notify, 1);
  expect([late.kicks, late.exits]).toEqual([
    [0, 1],
    [0, 1],
  ]);

  rig.kickable = true;
  late.device.powerOn();
  late.device.powerOn();
  rig.write(late.base + notify, 1);

  expect([late.kicks, late.exits]).toEqual([
    [0, 2],
    [0, 1],
  ]);
});

test("power-on lowers the pin and forgets what the driver set", () => {
  bringUp(disk);
  interrupt(disk);
  disk.device.powerOn();
  expect([rig.read(disk.base + status), rig.read(disk.base + isr), rig.pin]).toEqual([0, 0, false]);
});
