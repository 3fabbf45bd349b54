/** A vCPU whose write resets a device on virtio-mmio, on the host's own KVM; no I/O worker, so the test is the backend. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EventRing } from "../../src/bus/event-ring.ts";
import { EventKind } from "../../src/bus/events.ts";
import { createTimerfd } from "../../src/ffi/epoll.ts";
import { createEventfd } from "../../src/ffi/eventfd.ts";
import { type Board, buildBoard } from "../../src/machine/board.ts";
import { prepareBoot } from "../../src/machine/boot.ts";
import { GuestMemory } from "../../src/machine/guest-memory.ts";
import { openInput } from "../../src/machine/input-file.ts";
import { openHostKvm } from "../../src/machine/kvm-host.ts";
import { Owned } from "../../src/machine/owned.ts";
import { createBacking } from "../../src/machine/ram-backing.ts";
import type { MachineSpec } from "../../src/machine/spec.ts";
import { stateBytes } from "../../src/machine/spec.ts";
import { MachineThreads } from "../../src/machine/threads.ts";
import { applyBootState } from "../../src/machine/vcpu-state.ts";
import { plugMmio } from "../../src/machine/virtio/mmio.ts";
import { createVirtualMachine } from "../../src/machine/virtual-machine.ts";
import { elf, pvhNote } from "../firmware/images.ts";
import { disk } from "./virtio/disk.ts";

/** Of the first device (docs/memory-map.md), and its register (virtio 1.2, table 4.1). */
const statusAt = 0xf800_0070;
const entry = 0x10_0000;
const code = 0x61;
/** PVH: 32-bit protected mode without paging. */
const program = Uint8Array.of(
  ...[0xc7, 0x05, 0x70, 0x00, 0x00, 0xf8, 0, 0, 0, 0], // mov dword [statusAt], 0
  ...[0xb0, code, 0xe6, 0x80], //                         mov al, code; out 0x80, al
  0xf4, //                                                hlt
);

let owned: Owned;
let board: Board;
let events: EventRing;
let threads: MachineThreads;

beforeEach(() => {
  owned = new Owned();
  const folder = mkdtempSync(join(tmpdir(), "chv-hold-"));
  owned.add(() => rmSync(folder, { recursive: true }));
  const kernelPath = join(folder, "kernel");
  const segments = [{ address: entry, data: program }];
  writeFileSync(kernelPath, elf({ entry, segments, notes: pvhNote(entry) }));

  const size = 16 * 2 ** 20;
  const backing = createBacking({
    ...{ size, shared: false, hugepages: false, mergeable: false, prefault: false, thp: false },
  });
  owned.add(() => backing.close());
  const memory = new GuestMemory(size, backing);
  const cpus = { boot_vcpus: 1, max_vcpus: 1, max_phys_bits: 46 };
  const vm = createVirtualMachine(owned.fd(openHostKvm()), cpus, memory, owned);
  threads = new MachineThreads(1, (_, why) => {
    throw new Error(why);
  });
  const spec: MachineSpec = {
    ...vm.numbers,
    ram: memory.regions,
    state: new SharedArrayBuffer(stateBytes),
    events: new SharedArrayBuffer(EventRing.byteLength),
    ...{ control: threads.control, serial: undefined, virtio: [] },
    virtioMmio: plugMmio([disk("_disk0")], owned),
    ...{ ioWakeFd: owned.fd(createEventfd()), rtcTimerFd: owned.fd(createTimerfd()) },
  };
  events = new EventRing(spec.events, 0);
  board = buildBoard(spec, events);
  board.reset();
  threads.assign(spec);
  threads.vmArrived(spec);
  const kernel = owned.file(openInput("--kernel", kernelPath));
  const boot = prepareBoot({
    ...{ kernel, initramfs: undefined, cmdline: "", entry: "auto", serial: false },
    ...{ memory, cpus: [{ apicId: 0, enabled: true }] },
  });
  applyBootState(vm.numbers.vcpuFds[0]!, boot);
});

afterEach(async () => {
  await threads.leave();
  await threads.terminate();
  owned.close();
});

/** The device as a driver has it that is done with its set-up, and its backend at work. */
function bringUp(): void {
  const data = new DataView(new ArrayBuffer(4));
  const write = (address: number, value: number) => {
    data.setUint32(0, value, true);
    board.mmio.write(address, 4, data, 0);
  };
  for (const status of [1, 3]) write(statusAt, status);
  write(0xf800_0024, 1);
  write(0xf800_0020, 1); // VERSION_1
  for (const status of [11, 15]) write(statusAt, status);
  handOver().reach(handOver().wanted);
}

const handOver = () => board.virtio[0]!.device.transport.handOver;

/** The codes that the guest has put out. */
function codes(): number[] {
  const found: number[] = [];
  for (let event = events.take(); event; event = events.take()) {
    if (event.kind === EventKind.debugCode) found.push(event.a);
    if (event.kind === EventKind.threadFailed) throw new Error(event.text);
  }
  return found;
}

test("the write of a reset does not end before the backend stands still; its vCPU pauses all the same", async () => {
  bringUp();
  threads.runVcpus();
  while (handOver().wanted % 2 === 1) await Bun.sleep(1); // until the guest has written

  await threads.parkVcpus();
  expect(codes()).toEqual([]);
  threads.runVcpus();
  await threads.parkVcpus();
  expect(codes()).toEqual([]);
  expect(handOver().settled).toBe(false);

  threads.runVcpus();
  handOver().reach(handOver().wanted);
  let said: number[] = [];
  while ((said = codes()).length === 0) await events.arrival();
  expect(said).toEqual([code]);
});

test("one whose backend stands still already goes on at once", async () => {
  threads.runVcpus();
  let said: number[] = [];
  while ((said = codes()).length === 0) await events.arrival();
  expect(said).toEqual([code]);
});
