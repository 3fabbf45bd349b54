/** The board without KVM: what answers at which address, one state for all threads, and the reset. */
import { expect, test } from "bun:test";
import { ByteRing } from "../../src/bus/byte-ring.ts";
import { EventRing } from "../../src/bus/event-ring.ts";
import { EventKind, ResetSource } from "../../src/bus/events.ts";
import { type Board, buildBoard } from "../../src/machine/board.ts";
import type { MachineSpec } from "../../src/machine/spec.ts";
import { stateBytes } from "../../src/machine/spec.ts";

const MiB = 2 ** 20;

function spec(serial = true): MachineSpec {
  const ring = (size: number) => new SharedArrayBuffer(ByteRing.bytesFor(size));
  const console = { name: "serial", mode: "null", escapeKeys: false, outBlocks: false } as const;
  const ends = { outFd: -1, inFd: -1, listenFd: -1, output: ring(64), input: ring(64) };
  return {
    vmFd: -1,
    vcpuFds: [-1, -1],
    runPageBytes: 4096,
    syncRegs: false,
    ram: [{ start: 0, length: 64 * MiB, hostAddress: 0 }],
    state: new SharedArrayBuffer(stateBytes),
    events: new SharedArrayBuffer(EventRing.byteLength),
    control: new SharedArrayBuffer(256),
    serial: serial ? { ...console, ...ends } : undefined,
    virtio: [],
    ioWakeFd: -1,
    rtcTimerFd: -1,
  };
}

/** The board of one thread, after power-on. */
function boardOf(machine: MachineSpec): Board {
  const board = buildBoard(machine, new EventRing(machine.events, 0));
  board.reset();
  return board;
}

function read32({ mmio }: Board, address: number): number {
  const data = new DataView(new ArrayBuffer(4));
  mmio.read(address, 4, data, 0);
  return data.getUint32(0, true);
}

function write32({ mmio }: Board, address: number, value: number): void {
  const data = new DataView(new ArrayBuffer(4));
  data.setUint32(0, value, true);
  mmio.write(address, 4, data, 0);
}

test("every port of the map answers, and the 8259's do not", () => {
  const { ports } = boardOf(spec());

  expect(ports.read(0x64, 1)).toBe(0); // the keyboard controller's status: ready
  expect(ports.read(0x3fd, 1)).toBe(0x60); // an idle transmitter
  expect([0x20, 0x21, 0xa0, 0xa1].map((port) => ports.read(port, 1))).toEqual(Array(4).fill(0xff));
  ports.write(0x70, 1, 0x34); // CMOS: RAM above 16 MiB in pieces of 64 KiB
  expect(ports.read(0x71, 1)).toBe((48 * 16) & 0xff);
  const [first, second] = [ports.read(0x608, 4), ports.read(0x608, 4)];
  expect(second).toBeGreaterThanOrEqual(first);
});

test("the IOAPIC is where the MADT says, with 24 pins", () => {
  const board = boardOf(spec());
  write32(board, 0xfec0_0000, 1); // IOREGSEL: version

  expect((read32(board, 0xfec0_0010) >>> 16) & 0xff).toBe(23); // the last pin
  expect(read32(board, 0xfec0_1000)).toBe(0xffff_ffff);
});

test("without a serial port nobody is at its ports", () => {
  const board = boardOf(spec(false));

  expect(board.serial).toBeUndefined();
  expect(board.ports.read(0x3fd, 1)).toBe(0xff);
});

test("the boards of two threads are one machine, with or without a serial port", () => {
  for (const serial of [true, false]) {
    const machine = spec(serial);
    const [one, other] = [boardOf(machine), buildBoard(machine, new EventRing(machine.events, 1))];
    one.ports.write(0x3ff, 1, 0x5a);
    one.ports.write(0x70, 1, 0x0f);
    write32(one, 0xfec0_0000, 0x13);

    expect(other.ports.read(0x3ff, 1)).toBe(serial ? 0x5a : 0xff);
    expect(read32(other, 0xfec0_0000)).toBe(0x13);
    expect(other.ports.read(0x70, 1)).toBe(one.ports.read(0x70, 1));
    one.expectFirstEntry();
    expect([other.takeFirstEntry(), one.takeFirstEntry()]).toEqual([true, false]);
  }
});

test("a reset puts the registers back", () => {
  const board = boardOf(spec());
  board.ports.write(0x3ff, 1, 0x5a);
  write32(board, 0xfec0_0000, 0x13);
  board.reset();

  expect(board.ports.read(0x3ff, 1)).toBe(0);
  expect(read32(board, 0xfec0_0000)).toBe(0);
});

test("reset and power-off are events, which tell who asked", () => {
  const machine = spec();
  const events = new EventRing(machine.events, 7);
  const { ports } = buildBoard(machine, events);
  ports.write(0x64, 1, 0xfe); // pulse the reset line
  ports.write(0x602, 1, 1); // RESET_REG
  ports.write(0x600, 1, 0x34); // SLEEP_CONTROL: SLP_EN, and the type of S5

  const seen = [events.take(), events.take(), events.take()].map((event) => event?.kind);
  expect(seen).toEqual([EventKind.reset, EventKind.reset, EventKind.poweroff]);
  ports.write(0x64, 1, 0xfe);
  expect(events.take()).toMatchObject({ a: ResetSource.i8042, source: 7 });
});
