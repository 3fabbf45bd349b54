/** pvpanic on the board: its slot, its range, its power-on. */
import { expect, test } from "bun:test";
import { EventRing } from "../../src/bus/event-ring.ts";
import { EventKind } from "../../src/bus/events.ts";
import { ConfigError } from "../../src/exit-codes.ts";
import { buildBoard } from "../../src/machine/board.ts";
import type { MachineSpec } from "../../src/machine/spec.ts";
import { stateBytes } from "../../src/machine/spec.ts";
import { freeSlot, type VirtioSpec } from "../../src/machine/virtio/spec.ts";

const mmconfig = 0xe800_0000;
const slot = 3;
/** Where firmware would have put the BAR of a slot (docs/pci.md). */
const bar = 0xc000_0000 + slot * 0x1_0000;
const [command, bar0] = [4, 0x10];
const data = new DataView(new ArrayBuffer(8));

function build(pvpanicSlot: number | undefined) {
  const spec: MachineSpec = {
    ...{ vmFd: -1, vcpuFds: [], runPageBytes: 4096, syncRegs: false, ram: [], serial: undefined },
    state: new SharedArrayBuffer(stateBytes),
    events: new SharedArrayBuffer(EventRing.byteLength),
    control: new SharedArrayBuffer(64),
    ...{ virtio: [], ioWakeFd: -1, rtcTimerFd: -1, pvpanicSlot },
  };
  const events = new EventRing(spec.events, 0);
  const board = buildBoard(spec, events);
  board.reset();
  const other = buildBoard(spec, events);
  const read = (address: number, size: 1 | 2 | 4, through = board) => {
    data.setUint32(0, 0, true);
    through.mmio.read(address, size, data, 0);
    return data.getUint32(0, true);
  };
  const write = (address: number, size: 1 | 2 | 4, value: number, through = board) => {
    data.setUint32(0, value, true);
    through.mmio.write(address, size, data, 0);
  };
  const config = (offset: number) => mmconfig + slot * 0x8000 + offset;
  return { board, other, events, read, write, config };
}

test("it is in its slot when it was asked for, and nobody is there when not", () => {
  const { read, config } = build(slot);
  expect([read(config(0), 4), read(config(bar0), 4)]).toEqual([0x0011_1b36, bar]);
  const without = build(undefined);
  expect(without.read(without.config(0), 4)).toBe(0xffff_ffff);
});

test("its register answers where the BAR is, in every thread, and its words become events", () => {
  const { read, write, config, other, events } = build(slot);
  expect(read(bar, 1)).toBe(0xff);

  write(config(command), 2, 2);
  expect([read(bar, 1), read(bar, 1, other), read(bar + 4096, 1)]).toEqual([3, 3, 0xff]);
  write(config(bar0), 4, 0xd000_0000, other);
  expect([read(bar, 1), read(0xd000_0000, 1)]).toEqual([0xff, 3]);
  write(0xd000_0000, 1, 1, other);
  write(0xd000_0000, 1, 1);

  expect(events.take()).toMatchObject({ kind: EventKind.guestPanic, a: 1 });
  expect(events.take()).toBeUndefined();
});

test("a machine reset puts it back, and lets it speak again", () => {
  const { board, read, write, config, events } = build(slot);
  for (let boot = 0; boot < 2; boot++) {
    write(config(command), 2, 2);
    write(config(bar0), 4, 0xd000_0000);
    write(0xd000_0000, 1, 2);
    board.reset();
    expect([read(config(bar0), 4), read(config(command), 2)]).toEqual([bar, 0]);
  }
  expect([events.take()?.a, events.take()?.a, events.take()]).toEqual([2, 2, undefined]);
});

test("it stands behind the virtio devices, if there is a slot left", () => {
  const devices = (count: number) => Array.from({ length: count }, () => ({}) as VirtioSpec);

  expect([freeSlot("--pvpanic", devices(0)), freeSlot("--pvpanic", devices(30))]).toEqual([1, 31]);
  expect(() => freeSlot("--pvpanic", devices(31))).toThrow(ConfigError);
  expect(() => freeSlot("--pvpanic", devices(31))).toThrow(
    "--pvpanic: no PCI slot is left beside 31 devices; give fewer",
  );
});
