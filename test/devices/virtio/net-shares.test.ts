/** A network device whose two pairs of queues are two workers': what one is told, the other does (virtio 1.2, 5.1.6.5). */
import { afterAll, afterEach, beforeEach, describe, expect, test } from "bun:test";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { NetBackend } from "../../../src/devices/virtio/net.ts";
import { NetCounters } from "../../../src/devices/virtio/net-config.ts";
import { netShared } from "../../../src/devices/virtio/net-shared.ts";
import { createEventfd, drainEventfd } from "../../../src/ffi/eventfd.ts";
import { close } from "../../../src/ffi/file.ts";
import { plainFrame } from "../../network/frames.ts";
import { guestMac, NetRig, type RigOptions, TapHome } from "./net-rig.ts";
import { TestWorker } from "./worker.ts";

const [OK, epollIn] = [0, 1];
const bit = (number: number) => 2 ** number;
const [GUEST_CSUM, OFFLOADS, TSO4, MRG_RXBUF, CTRL_VQ, CTRL_RX, MQ, MAC_ADDR] = [
  1, 2, 7, 15, 17, 18, 22, 23,
].map(bit);
const single = CTRL_VQ! + CTRL_RX! + MRG_RXBUF! + MAC_ADDR! + GUEST_CSUM! + OFFLOADS! + TSO4!;
const several = single + MQ!;
/** Receive, transmit of each pair; control. */
const numbers = [
  [0, 1, 4],
  [2, 3],
] as const;
const another = [2, 9, 9, 9, 9, 9];

/** The rig's backend is share 0; this is share 1, on a worker of its own. */
class Pair {
  readonly kickFds = [0, 1, 2, 3, 4].map(() => createEventfd());
  readonly rig: NetRig;
  readonly worker = new TestWorker();
  readonly second: NetBackend;
  readonly counters = new Float64Array(NetCounters.length);
  readonly interrupts: number[] = [];
  fault: Error | undefined;

  constructor(options: RigOptions = {}) {
    const { kickFds } = this;
    this.rig = new NetRig({
      ...{ home, pairs: 2, features: several, idle: true, kickFds, numbers: numbers[0] },
      ...{ shared: netShared(2), ...options },
    });
    const { spec, config, backend } = this.rig;
    const host = Object.assign(this.worker, { call: (i: number) => this.interrupts.push(i) });
    this.second = new NetBackend(
      ...([spec, host, config, this.counters, kickFds, backend.calls, numbers[1]] as const),
    );
    for (const [queue, fd] of kickFds.entries()) {
      const first = queue < 2 || queue === 4;
      const [worker, side] = first ? [this.rig.worker, backend] : [this.worker, this.second];
      worker.watch(fd, epollIn, () => {
        drainEventfd(fd);
        this.guarded(() => side.kicked(queue));
      });
    }
  }

  guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (!(error instanceof GuestFault)) throw error;
      this.fault = error;
    }
  }

  startSecond(resumed = false): void {
    this.second.start(this.rig.queues, BigInt(this.rig.features), resumed);
    for (const queue of numbers[1]) this.second.kicked(queue);
  }

  settle(): void {
    while (this.rig.worker.pump() + this.worker.pump() > 0);
  }

  /** What comes out of the tap after everyone had a turn; the driver need not have kicked. */
  sent(): Uint8Array[] {
    this.settle();
    return this.rig.arrived();
  }

  offer(mark: number, pair: number): Uint8Array {
    const frame = plainFrame(60, mark);
    this.rig.offer(frame, undefined, [], pair);
    return frame;
  }

  close(): void {
    this.second.stop();
    this.second.close();
    this.worker.close();
    this.rig[Symbol.dispose]();
    for (const fd of this.kickFds) close(fd);
  }
}

const home = new TapHome();
afterAll(() => home.close());
let all: Pair;
beforeEach(() => {
  all = new Pair();
});
afterEach(() => all.close());

function start(): void {
  all.rig.start();
  all.startSecond();
  all.settle();
}

/** The kernel spreads flows by their addresses: 32 hosts' IPv4 packets to `mac`. */
function flood(mac: readonly number[]): void {
  for (const pair of [0, 1]) {
    const room = Array.from({ length: 40 }, () => [100]);
    all.rig.post(room, pair, false);
  }
  all.rig.backend.kicked(0);
  all.second.kicked(2);
  for (let i = 0; i < 32; i++) {
    const frame = plainFrame(60, i, mac);
    frame.set([0x08, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, i, 10, 0, 1, 1], 12);
    all.rig.host.send(frame);
  }
  all.settle();
}

/** How many of those frames each pair had. */
function reached(mac: readonly number[]): number[] {
  flood(mac);
  return [0, 1].map((pair) => all.rig.received(pair).length);
}

describe("the switch of pairs", () => {
  test("is seen by the worker of another pair, which looks at once", () => {
    start();
    const [one, two] = [all.offer(1, 1), all.offer(2, 1)];
    all.second.kicked(3);
    expect(all.sent()).toEqual([]);

    expect(all.rig.command(4, 0, 2, 0)).toBe(OK);
    expect(all.rig.arrived()).toEqual([]); // it is another's
    expect(all.sent()).toEqual([one, two]);
    expect(all.counters[NetCounters.indexOf("tx_frames")]).toBe(2);

    expect(all.rig.command(4, 0, 1, 0)).toBe(OK);
    const three = all.offer(3, 1);
    all.second.kicked(3); // also before it was woken
    expect(all.sent()).toEqual([]);
    all.rig.command(4, 0, 2, 0);
    expect(all.sent()).toEqual([three]);
  });

  test("moves frames to both pairs, or the first alone", () => {
    all.close();
    all = new Pair({ queueSize: 256 });
    start();
    expect(reached(guestMac)).toEqual([32, 0]);

    all.rig.command(4, 0, 2, 0);
    all.settle();
    const both = reached(guestMac);
    expect([both[0]! + both[1]!, Math.min(...both) > 0]).toEqual([32, true]);
    all.rig.command(4, 0, 1, 0);
    expect(reached(guestMac)).toEqual([32, 0]);
  });

  test("waits for a worker that is late, and is then done", () => {
    all.rig.start();
    expect(all.rig.command(4, 0, 2, 0)).toBe(-1);

    all.startSecond();
    const frame = all.offer(1, 1);

    expect(all.sent()).toEqual([frame]);
    expect(all.rig.drivers[4]!.collect()).toHaveLength(1);
  });

  test("is off after a reset, whoever comes first", () => {
    start();
    all.rig.command(4, 0, 2, 0);
    all.settle();
    all.second.stop();
    all.rig.backend.stop();

    all.startSecond();
    all.offer(1, 1);
    all.second.kicked(3);
    expect(all.sent()).toEqual([]);

    all.rig.backend.start(all.rig.queues, BigInt(all.rig.features));
    expect(all.sent()).toEqual([]);
  });

  test("is as it was after a pause, whoever comes first", () => {
    start();
    all.rig.command(4, 0, 2, 0);
    all.settle();
    const stop = () => [all.second.stop(), all.rig.backend.stop()];
    const goOn = () => all.rig.backend.start(all.rig.queues, BigInt(all.rig.features), true);

    stop();
    all.startSecond(true);
    const one = all.offer(1, 1);
    all.second.kicked(3);
    expect(all.sent()).toEqual([]);
    goOn();
    expect(all.sent()).toEqual([one]);
    stop();
    goOn();
    const two = all.offer(2, 1);
    all.startSecond(true);
    expect(all.sent()).toEqual([two]);
    expect(all.rig.told.filter((what) => what.includes("tach"))).toEqual(["detach 1", "attach 1"]);
  });

  test("stops where another's ring is broken", () => {
    start();
    all.rig.command(4, 0, 2, 0);
    all.settle();
    // a head outside of the queue
    all.rig.drivers[1]!.publish(999);
    all.guarded(() => all.rig.backend.kicked(1));
    expect(all.fault?.message).toBeDefined();

    all.offer(1, 1);
    all.second.kicked(3);
    expect(all.sent()).toEqual([]);
  });
});

describe("the filter", () => {
  test("holds on all pairs", () => {
    all.close();
    all = new Pair({ queueSize: 256 });
    start();
    all.rig.command(4, 0, 2, 0);
    all.settle();
    expect(all.rig.command(0, 0, 0)).toBe(OK); // PROMISC off
    expect(reached(another)).toEqual([0, 0]);
    const filtered = NetCounters.indexOf("rx_filtered");
    expect(all.rig.counters[filtered]! + all.counters[filtered]!).toBe(32);
    expect(all.counters[filtered]).toBeGreaterThan(0);

    expect(all.rig.command(1, 1, ...another)).toBe(OK); // its own MAC now
    expect(Math.min(...reached(another))).toBeGreaterThan(0);
  });

  test("and the MAC stay over a pause", () => {
    start();
    all.rig.command(4, 0, 2, 0);
    all.rig.command(0, 0, 0);
    all.rig.command(1, 1, ...another);
    all.settle();
    all.second.stop();
    all.rig.pause();
    all.startSecond(true);
    all.settle();

    expect(reached(guestMac)).toEqual([0, 0]);
  });
});

test("without MQ the control queue is another worker's, and rules all the same", () => {
  all.close();
  all = new Pair({ features: single });
  all.rig.start();
  all.startSecond();
  all.settle();
  const driver = all.rig.drivers[2]!;
  const address = all.rig.room(4);
  all.rig.ram.bytes(address, 4).set([0, 0, 0, 0xee]); // PROMISC off, ack
  driver.offer([
    { address, length: 3 },
    { address: address + 3, length: 1, write: true },
  ]);
  all.rig.post([[400], [400]]);
  all.second.kicked(2);
  expect(all.rig.ram.bytes(address, 4)[3]).toBe(OK);

  for (const [i, mac] of [another, guestMac].entries()) all.rig.host.send(plainFrame(60, i, mac));
  all.settle();

  expect(all.rig.received().map(({ frame }) => frame)).toEqual([plainFrame(60, 1, guestMac)]);
});

test("a command waits for the turn of another pair", async () => {
  start();
  const seen = new Int32Array(new SharedArrayBuffer(8));
  const worker = new Worker(new URL("net-shares-worker.ts", import.meta.url).href);
  const entered = new Promise((resolve) => {
    worker.onmessage = resolve;
  });
  worker.postMessage({ shared: all.rig.spec.shared, seen });
  await entered;

  expect(all.rig.command(4, 0, 2, 0)).toBe(OK);

  // how many pairs were in use when the command had begun to wait
  expect([...seen]).toEqual([1, 1]);
  // it has gone before another file is tested in this process
  const gone = new Promise((resolve) => worker.addEventListener("close", resolve));
  worker.terminate();
  await gone;
});
