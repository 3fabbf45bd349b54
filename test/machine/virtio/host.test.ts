/** A device's hand-over between its registers and its backend: start, stop, kicks, and rings that are broken. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { EventRing } from "../../../src/bus/event-ring.ts";
import { EventKind, LogLevel } from "../../../src/bus/events.ts";
import { Lock } from "../../../src/bus/lock.ts";
import type { Backend, BackendHost } from "../../../src/devices/virtio/backend.ts";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import type { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { Epoll, EpollSet } from "../../../src/ffi/epoll.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../../../src/ffi/eventfd.ts";
import { close } from "../../../src/ffi/file.ts";
import { VirtioDeviceHost } from "../../../src/machine/virtio/host.ts";
import { counterCount, type PluggedVirtio } from "../../../src/machine/virtio/spec.ts";
import { Watcher } from "../../../src/machine/watcher.ts";
import { FakeRam } from "../../devices/virtio/fake-ram.ts";
import { barOf, Rig, type RigFunction } from "../../devices/virtio/rig.ts";

const slot = 1;
const bar = barOf(slot);
const [statusAt, isr] = [20, 0x1000];
const needsReset = 0x40;
/** Of four vectors; nobody writes to them here. */
const callFds = [1000, 1001, 1002, 1003];

/** A backend that notes what is asked of it, and does what it is told to. */
class FakeBackend implements Backend {
  readonly calls: string[] = [];
  queues: readonly (Virtqueue | undefined)[] = [];
  /** Called when the last request has ended; set while it is asked to stand still with requests in flight. */
  quiet: (() => void) | undefined;
  busy = false;
  fault: Error | undefined;

  constructor(readonly host: BackendHost) {}

  start(queues: readonly (Virtqueue | undefined)[], features: bigint): void {
    this.queues = queues;
    const sizes = queues.map((queue) => queue?.size ?? 0);
    this.calls.push(`start ${sizes} ${features.toString(16)}`);
  }
  kicked(index: number): void {
    this.calls.push(`kicked ${index}`);
    if (this.fault) throw this.fault;
  }
  stop(quiet: () => void): boolean {
    this.calls.push("stop");
    if (this.busy) this.quiet = quiet;
    return !this.busy;
  }
  close(): void {
    this.calls.push("close");
  }
  take(): string[] {
    return this.calls.splice(0);
  }
}

let rig: Rig;
let disk: RigFunction;
let backend: FakeBackend;
let host: VirtioDeviceHost;
let events: EventRing;
let epoll: EpollSet;
let watcher: Watcher;
let kickFds: number[];

beforeEach(() => {
  rig = new Rig();
  disk = rig.add(slot, { queues: [256, 64, 8], settles: false });
  rig.configWrite(slot, 4, 2, 2);
  epoll = new EpollSet();
  watcher = new Watcher(epoll, 10);
  events = new EventRing(new SharedArrayBuffer(EventRing.byteLength), 0);
  kickFds = [0, 1, 2].map(() => createEventfd());
  const { windows } = new FakeRam([{ start: 0, length: 0x10_0000 }]);
  host = new VirtioDeviceHost(plugged(), windows, watcher, events, (side) => {
    backend = new FakeBackend(side);
    return backend;
  });
});
afterEach(() => {
  epoll.close();
  for (const fd of kickFds) close(fd);
});

function plugged(): PluggedVirtio {
  const config = new Uint8Array(8);
  const image = { fd: -1, sectors: 8, readonly: true, direct: false, serial: "" };
  const shape = { queues: 3, queueSize: 256, blockSize: 512, physicalBlockSize: 512 };
  const habits = { writeback: false, discard: false, uring: false };
  return {
    spec: {
      ...{ id: "_disk0", label: "--disk", identity: disk.device.transport.identity, config },
      ...{ writable: new Uint8Array(8), kickFds, callFds, workers: [0] },
      backend: { kind: "block", spec: { ...image, ...shape, ...habits } },
    },
    device: disk.device,
    lock: new Lock(new Int32Array(new SharedArrayBuffer(4)), 0),
    config,
    counters: new Float64Array(counterCount),
  };
}

const status = () => rig.read(bar + statusAt, 1);
const writeStatus = (value: number) => rig.write(bar + statusAt, 1, value);

function enableMsix(): void {
  let msix = rig.configRead(slot, 0x34, 1);
  while (rig.configRead(slot, msix, 1) !== 0x11) msix = rig.configRead(slot, msix + 1, 1);
  rig.configWrite(slot, msix + 2, 2, 0x8000);
}

/** Queues 0 and 2 enabled, at addresses from `base` on, and DRIVER_OK; the worker has not looked yet. */
function bringUp(base = 0x1000): void {
  for (const value of [0, 1, 3]) writeStatus(value);
  rig.write(bar + 12, 4, 0x2000_0000);
  rig.write(bar + 8, 4, 1);
  rig.write(bar + 12, 4, 1);
  writeStatus(11);
  for (const index of [0, 2]) {
    rig.write(bar + 22, 2, index);
    for (const [i, at] of [32, 40, 48].entries()) {
      rig.write(bar + at, 4, base + index * 0x1_0000 + i * 0x2000);
    }
    rig.write(bar + 26, 2, index);
    rig.write(bar + 28, 2, 1);
  }
  writeStatus(15);
}

/** The worker handles what is ready. */
function round(): void {
  const count = epoll.wait(0);
  const ready = Array.from({ length: count }, (_, i) => [epoll.tokenAt(i), epoll.eventsAt(i)]);
  for (const [token, what] of ready) watcher.handle(token!, what!);
}

function run(): void {
  bringUp();
  host.settle();
  backend.take();
}

const started = "start 256,0,8 120000000";

test("DRIVER_OK starts the backend with the queues and features that the driver chose, and looks at each", () => {
  host.settle();
  expect(backend.take()).toEqual([]);

  bringUp();
  host.settle();
  host.settle();

  expect(backend.take()).toEqual([started, "kicked 0", "kicked 2"]);
  expect([status(), disk.device.transport.handOver.settled]).toEqual([15, true]);
});

test("a kick reaches its queue, once for as many as there were", () => {
  run();
  signalEventfd(kickFds[2]!);
  signalEventfd(kickFds[2]!);
  round();
  round();
  expect(backend.take()).toEqual(["kicked 2"]);
});

test("a kick before the device runs is not lost: every queue is looked at when it starts", () => {
  bringUp();
  signalEventfd(kickFds[0]!);
  round();
  expect(backend.take()).toEqual([]);

  host.settle();
  expect(backend.take()).toEqual([started, "kicked 0", "kicked 2"]);
});

test("a reset of an idle device is over as soon as the worker has looked", () => {
  run();
  writeStatus(0);
  expect(status()).not.toBe(0);

  host.settle();

  expect([status(), backend.take()]).toEqual([0, ["stop"]]);
});

test("a reset with requests in flight is over when the last has ended; kicks are not passed on", () => {
  run();
  backend.busy = true;
  writeStatus(0);
  host.settle();
  signalEventfd(kickFds[0]!);
  round();
  host.settle();
  expect(status()).not.toBe(0);
  expect(backend.take()).toEqual(["stop"]);

  backend.quiet!();

  expect([status(), backend.take()]).toEqual([0, []]);
  backend.busy = false;
  bringUp();
  host.settle();
  expect([status(), backend.take()[0]]).toEqual([15, started]);
});

test("asked to run again before it stood still, it stands still first", () => {
  run();
  backend.busy = true;
  const { handOver } = disk.device.transport;
  handOver.want(false);
  host.settle();
  handOver.want(true);
  host.settle();
  expect(backend.take()).toEqual(["stop"]);

  backend.quiet!();

  expect(backend.take()).toEqual([started, "kicked 0", "kicked 2"]);
  expect(handOver.settled).toBe(true);
});

test("stopped and started between two looks, it is stopped and started", () => {
  run();
  const { handOver } = disk.device.transport;
  handOver.want(false);
  handOver.want(true);
  host.settle();
  expect(backend.take()).toEqual(["stop", started, "kicked 0", "kicked 2"]);
  expect(handOver.settled).toBe(true);
});

test("started and reset between two looks, it never runs", () => {
  bringUp();
  writeStatus(0);
  host.settle();
  expect([status(), backend.take()]).toEqual([0, []]);
});

describe("held while its worker is parked", () => {
  test("a device stands still, kicks wait, and its queues go on where they were", () => {
    run();
    for (const head of [3, 1]) backend.queues[0]!.complete(head, 0);

    host.hold();
    signalEventfd(kickFds[0]!);
    round();
    expect([backend.take(), host.atRest]).toEqual([["stop"], true]);

    host.release();
    expect(backend.take()).toEqual([started, "kicked 0", "kicked 2"]);
    expect(backend.queues.map((queue) => queue?.nextAvail)).toEqual([2, undefined, 0]);
    expect(backend.queues[0]!.nextUsed).toBe(2);
    expect(status()).toBe(15);
  });

  test("a device with requests in flight is at rest when the last has ended", () => {
    run();
    backend.busy = true;
    host.hold();
    expect([backend.take(), host.atRest]).toEqual([["stop"], false]);

    backend.quiet!();
    expect([backend.take(), host.atRest]).toEqual([[], true]);
    host.release();
    expect(backend.take()[0]).toBe(started);
  });

  test("a device that was being reset is reset afterwards", () => {
    run();
    backend.busy = true;
    writeStatus(0);
    host.settle();
    host.hold();
    backend.quiet!();
    expect([backend.take(), host.atRest]).toEqual([["stop"], true]);

    backend.busy = false;
    host.release();
    expect([status(), backend.take()]).toEqual([0, []]); // it stood still already
  });

  test("a device that its driver had just reset is not started anew for that", () => {
    run();
    writeStatus(0);
    host.hold();
    expect([backend.take(), status()]).toEqual([["stop"], 1]);

    host.release();
    expect([status(), backend.take()]).toEqual([0, []]);
    bringUp();
    host.settle();
    expect(backend.take()).toEqual([started, "kicked 0", "kicked 2"]);
    expect(backend.queues[0]!.nextAvail).toBe(0);
  });

  test("a device without a driver has nothing to do, then or afterwards", () => {
    host.hold();
    expect(host.atRest).toBe(true);
    bringUp();
    host.settle();
    expect(backend.take()).toEqual([]);

    host.release();
    expect(backend.take()).toEqual([started, "kicked 0", "kicked 2"]);
  });

  test("a device is held once, and let go once", () => {
    run();
    host.release();
    expect(backend.take()).toEqual([]);
    for (let i = 0; i < 2; i++) host.hold();
    expect([backend.take(), host.atRest]).toEqual([["stop"], true]);
    for (let i = 0; i < 2; i++) host.release();
    expect(backend.take()).toEqual([started, "kicked 0", "kicked 2"]);
  });

  test("a broken device stays broken", () => {
    bringUp(0x4000_0000);
    host.settle();
    host.hold();
    host.release();
    expect(status()).toBe(15 | needsReset);
  });
});

/** The log lines so far, failures of the device among them. */
function warnings(): string[] {
  const lines: string[] = [];
  for (let event = events.take(); event; event = events.take()) {
    if (event.kind === EventKind.deviceFailed) {
      lines.push(event.text.replace("\0", ": "));
      continue;
    }
    expect([event.kind, event.a]).toEqual([EventKind.log, LogLevel.warn]);
    lines.push(event.text);
  }
  return lines;
}

test("rings that are not RAM: DEVICE_NEEDS_RESET, one line, an interrupt; a reset helps", () => {
  bringUp(0x4000_0000);
  host.settle();

  expect(status()).toBe(15 | needsReset);
  expect(warnings()).toEqual([
    expect.stringMatching(/^_disk0: the driver broke its queue: .*not RAM/),
  ]);
  expect([rig.pin, rig.read(bar + isr, 1)]).toEqual([true, 2]);
  expect(backend.take()).toEqual([]);
  signalEventfd(kickFds[0]!);
  round();
  expect(backend.take()).toEqual([]);

  writeStatus(0);
  host.settle();
  expect(status()).toBe(0);
  backend.take();
  bringUp();
  host.settle();
  expect([status(), backend.take()[0]]).toEqual([15, started]);
});

test("a ring that breaks in use: the device stands still until the reset, and works again", () => {
  run();
  backend.fault = new GuestFault("a loop");
  signalEventfd(kickFds[0]!);
  round();
  expect([status(), warnings().length]).toEqual([15 | needsReset, 1]);
  signalEventfd(kickFds[2]!);
  round();
  expect([backend.take(), warnings()]).toEqual([["kicked 0"], []]);

  backend.fault = undefined;
  writeStatus(0);
  host.settle();
  run();
  signalEventfd(kickFds[0]!);
  round();
  expect([status(), backend.take()]).toEqual([15, ["kicked 0"]]);
});

test("a fault found by a descriptor of the backend's is contained, too", () => {
  run();
  const fd = createEventfd();
  backend.host.watch(fd, Epoll.in, () => {
    drainEventfd(fd);
    throw new GuestFault("in flight");
  });
  signalEventfd(fd);
  round();
  expect(status()).toBe(15 | needsReset);

  backend.host.unwatch(fd);
  signalEventfd(fd);
  round();
  expect(warnings().length).toBe(1);
  close(fd);
});

test("an error of our own is not the guest's: it goes through", () => {
  run();
  backend.fault = new TypeError("ours");
  signalEventfd(kickFds[0]!);
  expect(round).toThrow("ours");
});

test("a call is the queue's vector, or the pin; after a reset it is neither", () => {
  run();
  backend.host.call(2);
  expect([rig.pin, rig.read(bar + isr, 1), rig.pin]).toEqual([true, 1, false]);

  enableMsix();
  backend.host.call(2);
  expect([disk.vectors.isPending(2), rig.pin]).toEqual([true, false]);

  disk.vectors.forget(2);
  writeStatus(0);
  backend.host.call(2);
  backend.host.configChanged();
  expect([disk.vectors.isPending(2), rig.pin]).toEqual([false, false]);
});

test("a queue's call goes to the eventfd of its vector, where it has one", () => {
  run();
  const { host: side } = backend;
  expect(side.callFd!(2)).toBeUndefined(); // the pin's interrupts go by way of the ISR
  enableMsix();
  expect(side.callFd!(2)).toBe(callFds[2]!);
  rig.write(bar + 22, 2, 2);
  rig.write(bar + 26, 2, 0xffff);

  expect(side.callFd!(2)).toBeUndefined(); // no vector
});

test("a change of configuration is a new generation and an interrupt", () => {
  run();
  backend.host.configChanged();
  expect([rig.read(bar + 21, 1), rig.read(bar + isr, 1)]).toEqual([1, 2]);
});

test("closing it closes the backend", () => {
  host.close();
  expect(backend.take()).toEqual(["close"]);
});
