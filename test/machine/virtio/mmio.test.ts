/** The machine's virtio-mmio devices on the host's own KVM: where they are, what they are told by, what a reset leaves. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { EventRing } from "../../../src/bus/event-ring.ts";
import { locked } from "../../../src/bus/lock.ts";
import { createTimerfd } from "../../../src/ffi/epoll.ts";
import { createEventfd, drainEventfd } from "../../../src/ffi/eventfd.ts";
import { createVcpu, createVm, enableCap, setIoeventfd } from "../../../src/ffi/kvm.ts";
import { Cap } from "../../../src/ffi/kvm-abi.ts";
import { type Board, buildBoard } from "../../../src/machine/board.ts";
import { openHostKvm } from "../../../src/machine/kvm-host.ts";
import { Owned } from "../../../src/machine/owned.ts";
import type { MachineSpec } from "../../../src/machine/spec.ts";
import { stateBytes } from "../../../src/machine/spec.ts";
import { plugMmio } from "../../../src/machine/virtio/mmio.ts";
import { disk } from "./disk.ts";

const ioapic = 0xfec0_0000;
const [notify, isr, ack, status, config] = [0x50, 0x60, 0x64, 0x70, 0x100];
const page = (index: number) => 0xf800_0000 + index * 0x1000;

let owned: Owned;
let spec: MachineSpec;
/** Two threads' views of one machine. */
let board: Board;
let other: Board;

/** Ten devices: the ninth has the first's pin. */
beforeEach(() => {
  owned = new Owned();
  const kvm = owned.fd(openHostKvm());
  const vmFd = owned.fd(createVm(kvm));
  enableCap(vmFd, Cap.KVM_CAP_SPLIT_IRQCHIP, 24n);
  const disks = Array.from({ length: 10 }, (_, index) => disk(`_disk${index}`));
  spec = {
    ...{ vmFd, vcpuFds: [owned.fd(createVcpu(vmFd, 0))], runPageBytes: 4096, syncRegs: false },
    ...{ ram: [], state: new SharedArrayBuffer(stateBytes) },
    events: new SharedArrayBuffer(EventRing.byteLength),
    ...{ control: new SharedArrayBuffer(256), serial: undefined, virtio: [] },
    virtioMmio: plugMmio(disks, owned),
    ...{ ioWakeFd: owned.fd(createEventfd()), rtcTimerFd: owned.fd(createTimerfd()) },
  };
  board = buildBoard(spec, new EventRing(spec.events, 0));
  board.reset();
  other = buildBoard(spec, new EventRing(spec.events, 1));
});
afterEach(() => owned.close());

const data = new DataView(new ArrayBuffer(8));

function read(address: number, through = board): number {
  through.mmio.read(address, 4, data, 0);
  return data.getUint32(0, true);
}

function write(address: number, value: number, through = board): void {
  data.setUint32(0, value, true);
  through.mmio.write(address, 4, data, 0);
}

/** As a driver does, with a backend that is where it is asked to be. */
function bringUp(index: number): void {
  const base = page(index);
  for (const value of [1, 3]) write(base + status, value);
  write(base + 0x24, 1);
  write(base + 0x20, 1); // VERSION_1
  for (const value of [11, 15]) write(base + status, value);
  settle(index);
}

function settle(index: number): void {
  const { handOver } = board.virtio[index]!.device.transport;
  handOver.reach(handOver.wanted);
}

/** Whether KVM has an ioeventfd for that value: then another is refused. */
function hasIoeventfd(address: number, value: number): boolean {
  const scratch = new Owned();
  const probe = scratch.fd(createEventfd());
  const free = setIoeventfd(spec.vmFd, probe, address, 4, true, value);
  if (free) setIoeventfd(spec.vmFd, probe, address, 4, false, value);
  scratch.close();
  return !free;
}

function interrupt(index: number, through = other): void {
  const { device, lock } = through.virtio[index]!;
  locked(lock, () => device.interrupt(1, 0xffff));
}

test("each device is a page, in their order; PCI has the host bridge alone", () => {
  const ids = [0, 9, 10].map((index) => [read(page(index)), read(page(index) + 8, other)]);
  const nobody = 0xffff_ffff;
  expect(ids).toEqual([
    [0x7472_6976, 2],
    [0x7472_6976, 2],
    [nobody, nobody],
  ]);
  const functions = [0, 1, 31].map((slot) => read(0xe800_0000 + slot * 0x8000));
  expect(functions).toEqual([0x0d57_8086, nobody, nobody]);
});

test("KVM has an ioeventfd for each queue's number, from power-on, and for no other value", () => {
  board.reset(); // asks for none a second time
  const values = [0, 1, 2].map((value) => hasIoeventfd(page(3) + notify, value));
  expect(values).toEqual([true, true, false]);
});

test("a kick by an exit reaches the queue's eventfd", () => {
  write(page(2) + notify, 1);
  expect(spec.virtioMmio![2]!.kickFds.map(drainEventfd)).toEqual([false, true]);
});

test("an interrupt is a level on the device's pin, which the ninth device has in common with the first", () => {
  const pin = 16;
  expect(spec.virtioMmio!.map(({ gsi }) => gsi).slice(6)).toEqual([22, 23, 16, 17]);
  write(ioapic, 0x10 + 2 * pin);
  write(ioapic + 0x10, 0x8050); // level, vector 0x50, open
  const remoteIrr = () => (read(ioapic + 0x10) & 0x4000) !== 0;
  for (const index of [0, 8]) bringUp(index);

  interrupt(0);
  interrupt(8);
  expect(remoteIrr()).toBe(true);
  write(page(0) + ack, 1);
  board.endOfInterrupt(0x50);
  expect(remoteIrr()).toBe(true); // the ninth still asserts it
  write(page(8) + ack, 1);
  board.endOfInterrupt(0x50);

  expect(remoteIrr()).toBe(false);
});

test("a reset holds the thread that wrote it until the backend stands still, and no other", () => {
  bringUp(4);
  write(page(4) + status, 0, board);
  expect([board.hold.on, other.hold.on]).toEqual([true, false]);
  settle(4);

  write(page(4) + status, 0, other);
  expect(other.hold.on).toBe(false);
});

test("after a machine reset devices are as at the start", () => {
  bringUp(5);
  interrupt(5);
  write(page(5) + config, 0x9999_9999);
  expect([read(page(5) + isr), read(page(5) + config)]).toEqual([1, 0x9903_0201]);
  locked(board.virtio[5]!.lock, () => board.virtio[5]!.device.transport.writeStatus(0));
  settle(5);

  board.reset();

  const found = [status, isr, config].map((at) => read(page(5) + at, other));
  expect(found).toEqual([0, 0, 0x0403_0201]);
});

test("32 devices have room, one more is refused, and then no descriptor is left", () => {
  const many = (length: number) => Array.from({ length }, (_, index) => disk(`${index}`));
  const scratch = new Owned();
  const specs = plugMmio(many(32), scratch);
  expect([specs.at(-1)!.address, specs.at(-1)!.gsi]).toEqual([0xf801_f000, 23]);
  expect(() => plugMmio(many(33), scratch)).toThrow("33 devices for 32 pages");
  scratch.close();
});
