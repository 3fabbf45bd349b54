/** The machine's PCI segment on the host's own KVM: what is assigned to it, and what two threads see of one another. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { EventRing } from "../../src/bus/event-ring.ts";
import { locked } from "../../src/bus/lock.ts";
import { createTimerfd } from "../../src/ffi/epoll.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../../src/ffi/eventfd.ts";
import { createVcpu, createVm, enableCap, setIoeventfd, setIrqfd } from "../../src/ffi/kvm.ts";
import { Cap } from "../../src/ffi/kvm-abi.ts";
import { type Board, buildBoard } from "../../src/machine/board.ts";
import { openHostKvm } from "../../src/machine/kvm-host.ts";
import { intxOf } from "../../src/machine/memory-map.ts";
import { Owned } from "../../src/machine/owned.ts";
import type { MachineSpec } from "../../src/machine/spec.ts";
import { stateBytes } from "../../src/machine/spec.ts";
import { plug, type VirtioDevice } from "../../src/machine/virtio/spec.ts";

const [mmconfig, ioapic] = [0xe800_0000, 0xfec0_0000];
const [command, bar0, bar1] = [0x04, 0x10, 0x14];
const [statusAt, isr, notify, table, pba] = [20, 0x1000, 0x3000, 0x8000, 0xc000];
const ioapicPins = 24;

let owned: Owned;
let spec: MachineSpec;
/** Two threads' views of one machine. */
let board: Board;
let other: Board;
/** Where the disks' BARs are out of power-on. */
const firstBar = 0xc001_0000;
const secondBar = 0xc002_0000;

function disk(id: string): VirtioDevice {
  const image = { fd: -1, sectors: 8, readonly: true, direct: false, serial: "" };
  const shape = { queues: 2, queueSize: 256, blockSize: 512, physicalBlockSize: 512 };
  const habits = { writeback: false, discard: false, uring: false };
  return {
    ...{
      id,
      label: "--disk",
      config: Uint8Array.of(1, 2, 3, 4),
      writable: Uint8Array.of(0, 0, 0, 1),
    },
    identity: { type: 2, featuresLow: 0, featuresHigh: 1, queueSizes: [256, 256] },
    backend: { kind: "block", spec: { ...image, ...shape, ...habits } },
  };
}

beforeEach(() => {
  owned = new Owned();
  const kvm = owned.fd(openHostKvm());
  const vmFd = owned.fd(createVm(kvm));
  enableCap(vmFd, Cap.KVM_CAP_SPLIT_IRQCHIP, BigInt(ioapicPins));
  spec = {
    ...{ vmFd, vcpuFds: [owned.fd(createVcpu(vmFd, 0))], runPageBytes: 4096, syncRegs: false },
    ram: [],
    state: new SharedArrayBuffer(stateBytes),
    events: new SharedArrayBuffer(EventRing.byteLength),
    control: new SharedArrayBuffer(256),
    serial: undefined,
    virtio: plug([disk("_disk0"), disk("_disk1")], owned),
    ioWakeFd: owned.fd(createEventfd()),
    rtcTimerFd: owned.fd(createTimerfd()),
  };
  board = buildBoard(spec, new EventRing(spec.events, 0));
  board.reset();
  other = buildBoard(spec, new EventRing(spec.events, 1));
});
afterEach(() => owned.close());

const data = new DataView(new ArrayBuffer(8));

function read(address: number, size: 1 | 2 | 4, through = board): number {
  data.setUint32(0, 0, true);
  through.mmio.read(address, size, data, 0);
  return data.getUint32(0, true);
}

function write(address: number, size: 1 | 2 | 4, value: number, through = board): void {
  data.setUint32(0, value, true);
  through.mmio.write(address, size, data, 0);
}

const config = (slot: number, offset: number) => mmconfig + slot * 0x8000 + offset;
const decode = (slot: number, on: boolean) => write(config(slot, command), 2, on ? 2 : 0);

/** Whether KVM has an ioeventfd there: then another is refused. */
function hasIoeventfd(address: number): boolean {
  const probe = createEventfd();
  const scratch = new Owned();
  scratch.fd(probe);
  const free = setIoeventfd(spec.vmFd, probe, address, 2, true);
  if (free) setIoeventfd(spec.vmFd, probe, address, 2, false);
  scratch.close();
  return !free;
}

/** Whether a vector's eventfd has an irqfd: then it gets no other. */
function hasIrqfd(fd: number): boolean {
  try {
    setIrqfd(spec.vmFd, fd, 30, true);
  } catch (error) {
    expect((error as Error).message).toContain("EBUSY");
    return true;
  }
  setIrqfd(spec.vmFd, fd, 30, false);
  return false;
}

function bringUp(bar: number): void {
  for (const status of [1, 3]) write(bar + statusAt, 1, status);
  write(bar + 8, 4, 1);
  write(bar + 12, 4, 1);
  for (const status of [11, 15]) write(bar + statusAt, 1, status);
}

const msixAt = 0x40;
const callFd = (slot: number, vector: number) => spec.virtio[slot - 1]!.callFds[vector]!;

test("the host bridge is at 00:00.0, the devices behind it in their order; ports show the same", () => {
  const ids = [0, 1, 2, 3].map((slot) => read(config(slot, 0), 4));
  expect(ids).toEqual([0x0d57_8086, 0x1042_1af4, 0x1042_1af4, 0xffff_ffff]);
  expect(read(config(0, 8), 4) >>> 8).toBe(0x06_00_00);

  board.ports.write(0xcf8, 4, 0x8000_0000);
  expect(board.ports.read(0xcfc, 4)).toBe(0x0d57_8086);
});

test("BARs are in the 32-bit window, apart; decode is off", () => {
  expect([1, 2].map((slot) => read(config(slot, bar0), 4))).toEqual([firstBar + 4, secondBar + 4]);
  expect(read(firstBar + 18, 2)).toBe(0xffff);
  expect(hasIoeventfd(firstBar + notify)).toBe(false);
});

test("KVM has an ioeventfd for each queue where the BAR is, and after a move nowhere else", () => {
  decode(1, true);
  const at = (bar: number) => [0, 4, 8].map((offset) => hasIoeventfd(bar + notify + offset));
  expect(at(firstBar)).toEqual([true, true, false]);

  decode(1, false);
  write(config(1, bar1), 4, 0x10);
  decode(1, true);

  expect(at(firstBar)).toEqual([false, false, false]);
  expect(at(0x10_0000_0000 + firstBar)).toEqual([true, true, false]);
});

test("a move by one thread is seen by the other's next access", () => {
  decode(1, true);
  expect(read(firstBar + 18, 2, other)).toBe(2);

  write(config(1, bar0), 4, 0xd000_0000, board);

  expect([read(firstBar + 18, 2, other), read(0xd000_0000 + 18, 2, other)]).toEqual([0xffff, 2]);
});

test("a kick by an exit reaches the queue's eventfd", () => {
  decode(1, true);
  write(firstBar + notify + 4, 4, 1);
  expect(spec.virtio[0]!.kickFds.map(drainEventfd)).toEqual([false, true]);
});

test("after a machine reset nothing is left at the old place, and another's BAR can come there", () => {
  decode(1, true);
  write(config(1, bar0), 4, 0xd000_0000);

  board.reset();

  expect([firstBar, 0xd000_0000].map((bar) => hasIoeventfd(bar + notify))).toEqual([false, false]);
  expect([read(config(1, bar0), 4), read(config(1, command), 2)]).toEqual([firstBar + 4, 0]);
  expect(read(0xd000_0000 + 18, 2, other)).toBe(0xffff);
  write(config(2, bar0), 4, 0xd000_0000);
  decode(2, true);
  expect(hasIoeventfd(0xd000_0000 + notify)).toBe(true);
});

test("a vector that opens has its irqfd; one that is rewritten keeps it, one that closes does not", () => {
  decode(1, true);
  const entry = firstBar + table + 16;
  write(entry, 4, 0xfee0_0000);
  write(entry + 8, 4, 0x40);
  write(entry + 12, 4, 0);
  expect(hasIrqfd(callFd(1, 1))).toBe(false);

  write(config(1, msixAt + 2), 2, 0x8000);
  expect([0, 1, 2].map((vector) => hasIrqfd(callFd(1, vector)))).toEqual([false, true, false]);
  write(entry + 8, 4, 0x41);
  write(entry + 4, 4, 0xffff_ffff); // no local APIC's address
  write(entry, 4, 0);
  expect(hasIrqfd(callFd(1, 1))).toBe(true);
  write(config(1, msixAt + 2), 2, 0xc000, other);

  expect(hasIrqfd(callFd(1, 1))).toBe(false);
});

test("what came for a masked vector is pending until it opens; a machine reset forgets it", () => {
  decode(1, true);
  write(config(1, msixAt + 2), 2, 0x8000);
  signalEventfd(callFd(1, 2));
  expect([read(firstBar + pba, 4), read(firstBar + pba, 4, other)]).toEqual([4, 4]);

  board.reset();
  decode(1, true);

  expect(read(firstBar + pba, 4)).toBe(0);
  expect(read(config(1, msixAt + 2), 2)).toBe(2);
});

test("without MSI-X a device's interrupt is its pin of the IOAPIC, taken back by the ISR", () => {
  const pin = 16 + (2 % 8);
  expect(intxOf(2)).toBe(2);
  write(ioapic, 4, 0x10 + 2 * pin);
  write(ioapic + 0x10, 4, 0x8050); // level, vector 0x50, open
  decode(2, true);
  bringUp(secondBar);
  const { device, lock } = other.virtio[1]!;

  locked(lock, () => device.interrupt(1, 0xffff));
  expect(read(ioapic + 0x10, 4)).toBe(0xc050); // remote IRR: accepted by the local APIC
  expect(read(secondBar + isr, 1)).toBe(1);
  board.endOfInterrupt(0x50);

  expect(read(ioapic + 0x10, 4)).toBe(0x8050);
});

test("configuration space is as at the start again after a machine reset", () => {
  decode(1, true);
  write(firstBar + 0x2000, 4, 0x9999_9999);
  expect(read(firstBar + 0x2000, 4)).toBe(0x9903_0201);

  board.reset();
  decode(1, true);

  expect(read(firstBar + 0x2000, 4)).toBe(0x0403_0201);
});
