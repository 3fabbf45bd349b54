/** A virtio function on its bus: ioeventfds that follow the BAR, interrupts by pin and by vector, the window on the BAR. */
import { beforeEach, expect, test } from "bun:test";
import { barOf, Rig, type RigFunction } from "./rig.ts";

const [command, bar0, bar1] = [0x04, 0x10, 0x14];
const [memory, master, intxDisable] = [2, 4, 0x400];
const [isr, notify] = [0x1000, 0x3000];
const interruptStatus = 0x08;

let rig: Rig;
let disk: RigFunction;
let net: RigFunction;

beforeEach(() => {
  rig = new Rig();
  disk = rig.add(2);
  net = rig.add(3, { type: 1, queues: [256] });
});

const decode = (slot: number, on: boolean) => rig.configWrite(slot, command, 2, on ? memory : 0);

/** As Linux moves a 64-bit BAR: decode off, both halves, decode on. */
function move(slot: number, address: number): void {
  decode(slot, false);
  rig.configWrite(slot, bar0, 4, address % 2 ** 32);
  rig.configWrite(slot, bar1, 4, Math.floor(address / 2 ** 32));
  decode(slot, true);
}

const kicksOf = (slot: number) =>
  [...rig.ioeventfds].filter(([, owner]) => owner.slot === slot).map(([address]) => address);
const kick = (address: number) => rig.write(address + notify, 2, 0);
/** The number of queues: only a function that answers says so. */
const queuesAt = (address: number) => rig.read(address + 18, 2);

/** DRIVER_OK by the registers of the function at `address`. */
function bringUp(address: number): void {
  for (const status of [0, 1, 3]) rig.write(address + 20, 1, status);
  rig.write(address + 8, 4, 1);
  rig.write(address + 12, 4, 1);
  for (const status of [11, 15]) rig.write(address + 20, 1, status);
}

test("out of power-on nothing answers; with decode on the BAR and the ioeventfds are there", () => {
  expect([queuesAt(barOf(2)), rig.ioeventfds.size]).toEqual([0xffff, 0]);

  decode(2, true);

  expect(queuesAt(barOf(2))).toBe(2);
  expect(kicksOf(2)).toEqual([barOf(2) + notify, barOf(2) + notify + 4]);
  decode(2, true);
  expect(rig.kickCalls.length).toBe(2);
});

test("the BAR is 64 KiB, of 64 bits", () => {
  rig.configWrite(2, bar0, 4, 0xffff_ffff);
  rig.configWrite(2, bar1, 4, 0xffff_ffff);

  expect([rig.configRead(2, bar0, 4), rig.configRead(2, bar1, 4)]).toEqual([
    0xffff_0004, 0xffff_ffff,
  ]);
  expect([2, 3, 4, 5].map((index) => rig.configRead(2, bar0 + 4 * index, 4))).toEqual([0, 0, 0, 0]);
});

test("decode off leaves the ioeventfds; on again, none is touched", () => {
  decode(2, true);
  decode(2, false);
  expect([queuesAt(barOf(2)), kicksOf(2).length]).toEqual([0xffff, 2]);
  decode(2, true);
  expect([queuesAt(barOf(2)), rig.kickCalls.length]).toEqual([2, 2]);
});

test("on a move the new ioeventfds are there before the old ones go", () => {
  decode(2, true);
  rig.kickCalls.length = 0;

  move(2, 0x40_0000_0000);

  expect(rig.kickCalls).toEqual([
    "+2.0@4000003000",
    "+2.1@4000003004",
    "-2.0@c0023000",
    "-2.1@c0023004",
  ]);
  expect([queuesAt(barOf(2)), queuesAt(0x40_0000_0000)]).toEqual([0xffff, 2]);
  kick(0x40_0000_0000);
  kick(barOf(2));
  expect(disk.kicks).toEqual([1, 0]);
});

test("one half of the address written with decode on moves it at once", () => {
  decode(2, true);
  rig.configWrite(2, bar1, 4, 1);
  expect([queuesAt(barOf(2)), queuesAt(2 ** 32 + barOf(2))]).toEqual([0xffff, 2]);
  expect(kicksOf(2)).toEqual([0, 4].map((at) => 2 ** 32 + barOf(2) + notify + at));
});

test("sized with decode on, it comes back with its ioeventfds", () => {
  decode(2, true);
  for (const bar of [bar0, bar1]) {
    const before = rig.configRead(2, bar, 4);
    rig.configWrite(2, bar, 4, 0xffff_ffff);
    rig.configWrite(2, bar, 4, before);
  }
  expect(queuesAt(barOf(2))).toBe(2);
  expect(kicksOf(2)).toEqual([barOf(2) + notify, barOf(2) + notify + 4]);
});

test("beyond 52 bits of address nothing answers, and no ioeventfd is asked for", () => {
  decode(2, true);
  rig.kickCalls.length = 0;
  rig.configWrite(2, bar1, 4, 0x0010_0000);
  expect([rig.kickCalls, disk.device.barAddress]).toEqual([[], undefined]);
});

test("two functions change places: each is kicked at its own, at every step", () => {
  move(2, 0xd000_0000);
  move(3, 0xd100_0000);

  decode(2, false);
  decode(3, false);
  rig.configWrite(2, bar0, 4, 0xd100_0000);
  rig.configWrite(3, bar0, 4, 0xd000_0000);
  decode(2, true);
  kick(0xd100_0000);
  expect([disk.kicks, net.kicks]).toEqual([[1, 0], [0]]);
  decode(3, true);
  kick(0xd000_0000);

  expect([disk.kicks, net.kicks]).toEqual([[1, 0], [1]]);
  expect([disk.exits, net.exits]).toEqual([[0, 0], [0]]);
  expect([kicksOf(2).length, kicksOf(3).length]).toEqual([2, 1]);
});

test("on another's place an ioeventfd is refused; not taken from that one later, nor a kick lost", () => {
  move(2, 0xd000_0000);
  rig.kickCalls.length = 0;
  move(3, 0xd000_0000);
  expect(rig.kickCalls).toEqual(["+3.0@d0003000 refused"]);
  expect(queuesAt(0xd000_0000)).toBe(2);

  move(3, 0xd200_0000);
  expect(rig.kickCalls.slice(1)).toEqual(["+3.0@d2003000"]);
  kick(0xd000_0000);
  expect([disk.kicks, net.kicks]).toEqual([[1, 0], [0]]);
});

test("who stays when the other leaves is kicked, by exits until its next write to the command", () => {
  move(2, 0xd000_0000);
  move(3, 0xd000_0000);

  decode(2, false);
  expect([queuesAt(0xd000_0000), kicksOf(2)]).toEqual([1, []]);
  kick(0xd000_0000);
  expect([net.kicks, net.exits]).toEqual([[1], [1]]);
  rig.configWrite(3, command, 2, memory | master);
  kick(0xd000_0000);

  expect([net.kicks, net.exits, disk.kicks]).toEqual([[2], [1], [0, 0]]);
});

test("where another took the place of its ioeventfds, it has them anew when it comes back", () => {
  move(2, 0xd000_0000);
  decode(2, false);
  move(3, 0xd000_0000);
  move(3, 0xd200_0000);
  rig.kickCalls.length = 0;

  decode(2, true);

  expect(rig.kickCalls).toEqual(["+2.0@d0003000", "+2.1@d0003004"]);
  kick(0xd000_0000);
  expect([disk.kicks, disk.exits]).toEqual([
    [1, 0],
    [0, 0],
  ]);
});

test("a neighbour leaves the ioeventfds of one that does not answer where they are", () => {
  move(2, 0xd001_0000);
  decode(2, false);
  rig.kickCalls.length = 0;

  move(3, 0xd000_0000); // ends where the other begins
  move(3, 0xd002_0000);
  decode(2, true);

  expect(rig.kickCalls.filter((call) => call.includes("2."))).toEqual([]);
  expect(kicksOf(2)).toEqual([0xd001_3000, 0xd001_3004]);
});

test("over MMCONFIG a BAR is not served", () => {
  move(2, 0xe800_0000);
  expect(rig.configRead(3, 0, 4)).toBe(0x1041_1af4);
  move(2, 0xd000_0000);
  expect(queuesAt(0xd000_0000)).toBe(2);
});

test("power-on puts the BAR back, decode off, and takes ioeventfds from elsewhere away", () => {
  move(2, 0xd000_0000);
  bringUp(0xd000_0000);
  rig.underDevice(() => disk.device.interrupt(1, 0));
  disk.device.transport.handOver.reach(disk.device.transport.handOver.wanted);

  disk.device.powerOn(barOf(2));

  expect([kicksOf(2), rig.pin, rig.configRead(2, command, 2)]).toEqual([[], false, 0]);
  expect(rig.configRead(2, bar0, 4)).toBe(barOf(2) + 4);
  decode(2, true);
  expect([queuesAt(barOf(2)), rig.read(barOf(2) + 20, 1), rig.read(barOf(2) + isr, 1)]).toEqual([
    2, 0, 0,
  ]);
  expect(kicksOf(2)).toEqual([barOf(2) + notify, barOf(2) + notify + 4]);
});

test("power-on leaves the ioeventfds that are in place where they are", () => {
  decode(2, true);
  bringUp(barOf(2));
  disk.device.transport.handOver.reach(disk.device.transport.handOver.wanted);
  rig.kickCalls.length = 0;

  disk.device.powerOn(barOf(2));
  expect(rig.configRead(2, command, 2)).toBe(0);
  decode(2, true);

  expect(rig.kickCalls).toEqual([]);
  expect(kicksOf(2)).toEqual([barOf(2) + notify, barOf(2) + notify + 4]);
});

const status = (slot: number) => rig.configRead(slot, 0x06, 2) & interruptStatus;
const interrupt = ({ device }: RigFunction, cause = 1, vector = 0xffff) =>
  rig.underDevice(() => device.interrupt(cause, vector));

/** Both functions run, with decode on where they are. */
function start(): void {
  for (const slot of [2, 3]) {
    decode(slot, true);
    bringUp(barOf(slot));
  }
}

test("without MSI-X an interrupt sets ISR, status and pin; reading the ISR takes them back", () => {
  start();
  interrupt(disk);
  expect([rig.pin, status(2), status(3)]).toEqual([true, 8, 0]);

  expect([rig.read(barOf(3) + isr, 1), rig.pin]).toEqual([0, true]);
  expect([rig.read(barOf(2) + isr, 1), rig.pin, status(2)]).toEqual([1, false, 0]);
});

test("a pin that two functions share falls with the last", () => {
  start();
  interrupt(disk);
  interrupt(net);
  rig.read(barOf(2) + isr, 1);
  expect([rig.pin, status(2), status(3)]).toEqual([true, 0, 8]);
  rig.read(barOf(3) + isr, 1);
  expect(rig.pin).toBe(false);
});

test("INTX_DISABLE lowers the pin, not the status, and gives it back", () => {
  start();
  interrupt(disk);
  rig.configWrite(2, command, 2, memory | intxDisable);
  expect([rig.pin, status(2)]).toEqual([false, 8]);
  rig.configWrite(2, command, 2, memory);
  expect(rig.pin).toBe(true);

  rig.read(barOf(2) + isr, 1);
  rig.configWrite(2, command, 2, memory | intxDisable);
  interrupt(disk);
  expect([rig.pin, status(2)]).toEqual([false, 8]);
});

test("a device reset takes the interrupt back, and none comes from what is still in flight", () => {
  start();
  interrupt(disk);
  rig.write(barOf(2) + 20, 1, 0);
  expect([rig.pin, status(2), rig.read(barOf(2) + isr, 1)]).toEqual([false, 0, 0]);

  interrupt(disk);
  rig.underDevice(() => disk.device.configChanged());
  expect([rig.pin, status(2), rig.read(barOf(2) + isr, 1)]).toEqual([false, 0, 0]);
});

/** The MSI-X capability, found in the list. */
function msixOf(slot: number): number {
  let at = rig.configRead(slot, 0x34, 1);
  while (rig.configRead(slot, at, 1) !== 0x11) at = rig.configRead(slot, at + 1, 1);
  return at;
}

/** Opens a vector with a message of its own. */
function openVector(slot: number, vector: number): void {
  const entry = barOf(slot) + 0x8000 + 16 * vector;
  rig.write(entry, 4, 0xfee0_0000);
  rig.write(entry + 8, 4, 0x40 + vector);
  rig.write(entry + 12, 4, 0);
}

test("with MSI-X an interrupt is its vector's message, and neither pin nor ISR", () => {
  start();
  rig.configWrite(2, msixOf(2) + 2, 2, 0x8000);
  openVector(2, 1);

  interrupt(disk, 1, 1);
  interrupt(disk, 1, 0xffff);
  interrupt(disk, 1, 3);

  expect(disk.vectors.delivered).toEqual([[1, 0xfee0_0000, 0x41]]);
  expect([rig.pin, status(2), rig.read(barOf(2) + isr, 1)]).toEqual([false, 0, 0]);
});

test("a change of configuration shows in the ISR, with MSI-X too (section 4.1.4.5.1)", () => {
  start();
  rig.configWrite(2, msixOf(2) + 2, 2, 0x8000);
  openVector(2, 0);
  rig.write(barOf(2) + 16, 2, 0);

  rig.underDevice(() => disk.device.configChanged());

  expect(disk.vectors.delivered).toEqual([[0, 0xfee0_0000, 0x40]]);
  expect([rig.pin, status(2), rig.read(barOf(2) + isr, 1)]).toEqual([false, 0, 2]);
});

test("MSI-X on lowers a pin that was raised; off again, it is back", () => {
  start();
  interrupt(disk);
  rig.configWrite(2, msixOf(2), 4, 0x8000_0000);
  expect([rig.pin, status(2)]).toEqual([false, 0]);
  rig.configWrite(2, msixOf(2) + 3, 1, 0);
  expect([rig.pin, status(2)]).toEqual([true, 8]);
});

/** The window of virtio 1.2 section 4.1.4.9: the vendor capability of type 5. */
function windowOf(slot: number): number {
  let at = rig.configRead(slot, 0x34, 1);
  while (rig.configRead(slot, at + 3, 1) !== 5) at = rig.configRead(slot, at + 1, 1);
  return at;
}

function aim(bar: number, offset: number, length: number): void {
  const at = windowOf(2);
  rig.configWrite(2, at + 4, 1, bar);
  rig.configWrite(2, at + 8, 4, offset);
  rig.configWrite(2, at + 12, 4, length);
}

test("by the window a driver reaches all registers with decode off", () => {
  const data = windowOf(2) + 16;
  aim(0, 20, 1);
  rig.configWrite(2, data, 1, 1);
  rig.configWrite(2, data, 4, 0xffff_ff03);
  expect(rig.configRead(2, data, 1)).toBe(3);
  aim(0, 18, 2);
  expect(rig.configRead(2, data, 4) % 0x1_0000).toBe(2);
  aim(0, 0x2000, 4);
  expect(rig.configRead(2, data, 4)).toBe(0x0403_0201);
  aim(0, notify + 4, 2);
  rig.configWrite(2, data, 2, 1);
  expect(disk.exits).toEqual([0, 1]);
  aim(0, 0x8000 + 12, 4);
  rig.configWrite(2, data, 4, 0);
  expect(rig.configRead(2, data, 4)).toBe(0);
});

test("reading the ISR by the window lowers the pin", () => {
  start();
  interrupt(disk);
  aim(0, isr, 1);
  expect([rig.configRead(2, windowOf(2) + 16, 1), rig.pin]).toEqual([1, false]);
});

test.each([
  ["another BAR", 1, 20, 1],
  ["no length", 0, 20, 0],
  ["a length of 3", 0, 20, 3],
  ["a length of 8", 0, 0, 8],
  ["an offset that is not a multiple of the length", 0, 18, 4],
  ["the end of the BAR", 0, 0x1_0000, 1],
  ["far away", 0, 0xffff_fffc, 4],
])("a window on nothing does nothing: %s", (_, bar, offset, length) => {
  const before = [...new Uint8Array(disk.device.transport.state.view.buffer)];
  aim(bar, offset, length);

  rig.configWrite(2, windowOf(2) + 16, 4, 0x0101_0101);

  expect(rig.configRead(2, windowOf(2) + 16, 4)).toBe(0x0101_0101);
  expect([...new Uint8Array(disk.device.transport.state.view.buffer)]).toEqual(before);
});
