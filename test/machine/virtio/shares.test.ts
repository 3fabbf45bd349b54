/** A device whose queues are dealt to several workers: what each of them does, and what they do together. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { EventRing } from "../../../src/bus/event-ring.ts";
import { EventKind } from "../../../src/bus/events.ts";
import { Lock } from "../../../src/bus/lock.ts";
import type { Backend, BackendHost } from "../../../src/devices/virtio/backend.ts";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import type { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { EpollSet } from "../../../src/ffi/epoll.ts";
import { signalEventfd } from "../../../src/ffi/eventfd.ts";
import { Owned } from "../../../src/machine/owned.ts";
import { counterNames, readCounters } from "../../../src/machine/virtio/counters.ts";
import { VirtioDeviceHost, type VirtioShare } from "../../../src/machine/virtio/host.ts";
import {
  counterCount,
  interruptsAt,
  ownWorkers,
  type PluggedVirtio,
  plug,
  type VirtioDevice,
} from "../../../src/machine/virtio/spec.ts";
import { Watcher } from "../../../src/machine/watcher.ts";
import { FakeRam } from "../../devices/virtio/fake-ram.ts";
import { barOf, Rig, type RigFunction } from "../../devices/virtio/rig.ts";

const slot = 1;
const bar = barOf(slot);
const statusAt = 20;
const needsReset = 0x40;
const queueSizes = [64, 64, 64, 64, 64];

/** One worker with its share of the device. */
class Share implements Backend {
  readonly calls: string[] = [];
  readonly #epoll = new EpollSet();
  readonly #watcher = new Watcher(this.#epoll, 10);
  readonly side: VirtioDeviceHost;
  backendHost!: BackendHost;
  place!: VirtioShare;
  quiet: (() => void) | undefined;
  busy = false;
  fault: Error | undefined;

  constructor(plugged: PluggedVirtio, share: number) {
    const { windows } = new FakeRam([{ start: 0, length: 0x10_0000 }]);
    const create = (host: BackendHost, place: VirtioShare) => {
      this.backendHost = host;
      this.place = place;
      return this;
    };
    this.side = new VirtioDeviceHost(plugged, windows, this.#watcher, events, create, share);
  }

  start(queues: readonly (Virtqueue | undefined)[]): void {
    this.calls.push(`start ${queues.flatMap((queue, index) => (queue ? [index] : []))}`);
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
    this.#epoll.close();
  }
  take(): string[] {
    return this.calls.splice(0);
  }

  /** The worker handles what is ready. */
  round(): void {
    const count = this.#epoll.wait(0);
    const ready = Array.from({ length: count }, (_, i) => this.#epoll.tokenAt(i));
    for (const token of ready) this.#watcher.handle(token, 1);
  }
}

let rig: Rig;
let disk: RigFunction;
let events: EventRing;
let owned: Owned;
let plugged: PluggedVirtio;
let shares: Share[];

const device = (id: string, ioThreads: number): VirtioDevice => ({
  ...{ id, label: "--disk", config: new Uint8Array(8), writable: new Uint8Array(8) },
  identity: { type: 2, featuresLow: 0, featuresHigh: 1, queueSizes },
  backend: { kind: "entropy", spec: { fd: -1 } as never },
  ...{ usesChores: true, ioThreads },
});

beforeEach(() => {
  owned = new Owned();
  rig = new Rig();
  disk = rig.add(slot, { queues: queueSizes, settles: false, shares: 2 });
  rig.configWrite(slot, 4, 2, 2);
  events = new EventRing(new SharedArrayBuffer(EventRing.byteLength), 0);
  plugged = {
    spec: plug([device("_disk0", 2)], owned)[0]!,
    device: disk.device,
    lock: new Lock(new Int32Array(new SharedArrayBuffer(4)), 0),
    config: new Uint8Array(8),
    counters: new Float64Array(2 * counterCount),
  };
  shares = [0, 1].map((share) => new Share(plugged, share));
});
afterEach(() => {
  for (const share of shares) share.side.close();
  owned.close();
});

const status = () => rig.read(bar + statusAt, 1);
const writeStatus = (value: number) => rig.write(bar + statusAt, 1, value);
const settle = () => {
  for (const { side } of shares) side.settle();
};

/** All queues but number 2 enabled, and DRIVER_OK; no worker has looked yet. */
function bringUp(): void {
  for (const value of [0, 1, 3]) writeStatus(value);
  rig.write(bar + 8, 4, 1);
  rig.write(bar + 12, 4, 1);
  writeStatus(11);
  for (const index of [0, 1, 3, 4]) {
    rig.write(bar + 22, 2, index);
    for (const [i, at] of [32, 40, 48].entries()) {
      rig.write(bar + at, 4, 0x1000 + index * 0x1_0000 + i * 0x2000);
    }
    rig.write(bar + 28, 2, 1);
  }
  writeStatus(15);
}

function run(): void {
  bringUp();
  settle();
  for (const share of shares) share.take();
}

test("workers are dealt out over all devices; those without any are with the first", () => {
  const wired = plug([device("a", 0), device("b", 3), device("c", 1)], owned);

  expect(wired.map(({ workers }) => workers)).toEqual([[0], [1, 2, 3], [4]]);
  expect(wired.map(({ chores }) => chores?.length)).toEqual([1, 3, 1]);
  expect(ownWorkers(wired)).toEqual([1, 2, 3, 4]);
});

test("each worker takes its queues, dealt in turn, and the kicks of those alone", () => {
  bringUp();
  settle();
  expect(shares.map((share) => share.take())).toEqual([
    ["start 0,4", "kicked 0", "kicked 4"],
    ["start 1,3", "kicked 1", "kicked 3"],
  ]);

  for (const fd of plugged.spec.kickFds) signalEventfd(fd);
  for (const share of shares) share.round();

  expect(shares.map((share) => share.take().toSorted())).toEqual([
    ["kicked 0", "kicked 2", "kicked 4"],
    ["kicked 1", "kicked 3"],
  ]);
  expect(shares.map(({ place }) => place.queues)).toEqual([
    [0, 2, 4],
    [1, 3],
  ]);
});

test("a reset is over when the last worker stands still", () => {
  run();
  shares[0]!.busy = true;
  writeStatus(0);
  expect(status()).not.toBe(0);
  settle();
  expect(shares.map((share) => share.take())).toEqual([["stop"], ["stop"]]);
  expect(status()).not.toBe(0);
  expect(disk.device.transport.handOver.waitSettled(1)).toBe(false);

  shares[0]!.quiet!();

  expect([status(), disk.device.transport.handOver.waitSettled(1)]).toEqual([0, true]);
  shares[0]!.busy = false;
  bringUp();
  settle();
  expect(shares.map((share) => share.take()[0])).toEqual(["start 0,4", "start 1,3"]);
});

test("a worker that is late with its start is not forgotten by a reset", () => {
  bringUp();
  shares[0]!.side.settle();
  writeStatus(0);
  shares[0]!.side.settle();
  expect(status()).not.toBe(0);
  shares[1]!.side.settle();
  expect([status(), shares[1]!.take()]).toEqual([0, []]);
});

test("a ring that one finds broken stops all, with one line", () => {
  run();
  for (const share of shares) share.fault = new GuestFault("a loop");
  signalEventfd(plugged.spec.kickFds[1]!);
  shares[1]!.round();
  signalEventfd(plugged.spec.kickFds[0]!);
  shares[0]!.round();
  shares[0]!.side.broke(new GuestFault("another"));

  expect(status()).toBe(15 | needsReset);
  expect(shares.map((share) => share.take())).toEqual([[], ["kicked 1"]]);
  expect(events.take()?.text).toContain("a loop");
  expect(events.take()).toBeUndefined();
});

test("each asks for chores of its own", () => {
  for (const share of shares) share.backendHost.chores().sync(1, -1);

  const asked = [events.take(), events.take()];
  expect(asked.map((event) => [event?.kind, event?.a, event?.text])).toEqual([
    [EventKind.choresWanted, 0, "_disk0"],
    [EventKind.choresWanted, 1, "_disk0"],
  ]);
});

test("each counts for itself, and together they are the device's counters", () => {
  run();
  shares[0]!.place.counters[1] = 1000;
  shares[1]!.place.counters[1] = 24;
  shares[1]!.place.counters[0] = 3;
  shares[0]!.backendHost.call(0);
  shares[1]!.backendHost.call(1);
  shares[1]!.backendHost.call(3);

  expect(readCounters(plugged)).toEqual({
    ...{ read_ops: 3, read_bytes: 1024, errors: 0, interrupts: 3 },
  });
});

test("docs/virtio.md has the names", () => {
  const page = readFileSync(join(import.meta.dir, "../../../docs/virtio.md"), "utf8");
  const rows = [...page.matchAll(/^\| (\w+) \| (`\w+`(?:, `\w+`)*) \|$/gm)];
  expect(rows.length).toBeGreaterThan(3);
  for (const [, kind, names] of rows) {
    const all = [...names!.matchAll(/\w+/g)].map(([name]) => name);
    expect([...all, "interrupts"]).toEqual([...counterNames(kind as "block")]);
  }
});

test("every kind of device names what it counts, once, with room for the interrupts", () => {
  for (const kind of ["balloon", "block", "console", "entropy", "net", "pmem"] as const) {
    const names = counterNames(kind);
    expect(names.length).toBeLessThanOrEqual(interruptsAt + 1);
    expect(new Set(names).size).toBe(names.length);
    expect(names.at(-1)).toBe("interrupts");
  }
  expect(counterNames("block")).toEqual([
    ...["read_ops", "read_bytes", "write_ops", "write_bytes", "flush_ops", "discard_ops"],
    ...["write_zeroes_ops", "errors", "interrupts"],
  ]);
});
