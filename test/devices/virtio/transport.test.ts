/** The status ladder, features, queues and the hand-over, as virtio 1.2 chapters 2 and 3 put them. */
import { beforeEach, expect, test } from "bun:test";
import { HandOver, VirtioState } from "../../../src/devices/virtio/device-state.ts";
import { VirtioTransport } from "../../../src/devices/virtio/transport.ts";

const [ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED] = [1, 2, 4, 8, 64, 128];
const ready = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;

let transport: VirtioTransport;
/** The backend's side. */
let backend: HandOver;
let wakes: number;

beforeEach(() => {
  const state = new VirtioState(new SharedArrayBuffer(VirtioState.size));
  wakes = 0;
  transport = new VirtioTransport(
    state,
    { type: 2, featuresLow: 0x3000_0020, featuresHigh: 0x8000_0001, queueSizes: [256, 1024, 8] },
    {
      bytes: Uint8Array.of(1, 2, 3, 4),
      writable: Uint8Array.of(0, 1, 0, 0),
      initial: Uint8Array.of(1, 2, 3, 4),
    },
    () => wakes++,
  );
  backend = new HandOver(state);
  transport.powerOn();
});

function accept(low: number, high: number): void {
  transport.state.driverFeatureSelect = 0;
  transport.driverFeatures = low;
  transport.state.driverFeatureSelect = 1;
  transport.driverFeatures = high;
}

function climb(...rungs: number[]): number {
  for (const rung of rungs) transport.writeStatus(transport.readStatus() | rung);
  return transport.readStatus();
}

function run(): void {
  accept(0, 1);
  climb(ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK);
  backend.reach(backend.wanted);
}

const select = (queue: number) => {
  transport.state.queueSelect = queue;
};

test("the ladder is climbed rung by rung, and the last one starts the backend", () => {
  accept(0x2000_0000, 1);

  expect(climb(ACKNOWLEDGE)).toBe(1);
  expect(climb(DRIVER)).toBe(3);
  expect(climb(FEATURES_OK)).toBe(11);
  expect([wakes, backend.wanted % 2]).toEqual([0, 0]);
  expect(climb(DRIVER_OK)).toBe(15);

  expect([wakes, backend.wanted % 2, backend.settled]).toEqual([1, 1, false]);
});

test("all rungs in one write are all taken", () => {
  accept(0, 1);
  transport.writeStatus(ready);
  expect([transport.readStatus(), wakes]).toEqual([ready, 1]);
});

test.each([
  ["DRIVER before ACKNOWLEDGE", [], DRIVER, 0],
  ["FEATURES_OK before DRIVER", [ACKNOWLEDGE], FEATURES_OK, 1],
  ["DRIVER_OK before FEATURES_OK", [ACKNOWLEDGE, DRIVER], DRIVER_OK, 3],
  ["DRIVER_OK alone", [], DRIVER_OK, 0],
  ["FEATURES_OK and DRIVER_OK before DRIVER", [ACKNOWLEDGE], FEATURES_OK | DRIVER_OK, 1],
  ["bits that are none", [ACKNOWLEDGE], 16 | 32, 1],
  ["NEEDS_RESET, which is the device's", [ACKNOWLEDGE, DRIVER], NEEDS_RESET, 3],
])("is refused: %s", (_, before, rung, after) => {
  accept(0, 1);
  climb(...before);

  transport.writeStatus(transport.readStatus() | rung);

  expect([transport.readStatus(), wakes]).toEqual([after, 0]);
});

test.each([
  ["without VERSION_1", 0x20, 0],
  ["with a low bit that was not offered", 0x40, 1],
  ["with a high bit that was not offered", 0, 3],
])("FEATURES_OK is refused %s; with good features it is taken after all", (_, low, high) => {
  accept(low, high);
  expect(climb(ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK)).toBe(3);
  expect(wakes).toBe(0);

  accept(0x3000_0020, 0x8000_0001);
  expect(climb(FEATURES_OK)).toBe(11);
});

test("features are settled with FEATURES_OK; there are 64 of them", () => {
  accept(0x20, 1);
  climb(ACKNOWLEDGE, DRIVER, FEATURES_OK);
  accept(0x3000_0000, 0x8000_0001);

  const [low, high, beyond] = [0, 1, 2].map((half) => {
    transport.state.driverFeatureSelect = half;
    transport.driverFeatures = 0xffff_ffff;
    return transport.driverFeatures;
  });
  expect([low, high, beyond]).toEqual([0x20, 1, 0]);
  expect([0, 1, 2, 0xffff_ffff].map((half) => transport.deviceFeatures(half))).toEqual([
    0x3000_0020, 0x8000_0001, 0, 0,
  ]);
});

test("a write cannot clear a bit, short of all of them", () => {
  run();
  for (const value of [ACKNOWLEDGE, DRIVER_OK, FEATURES_OK | DRIVER, ready]) {
    transport.writeStatus(value); // `ready` again starts nothing again
    expect(transport.readStatus()).toBe(ready);
  }
  expect(wakes).toBe(1);
});

test("FAILED ends the climb until a reset", () => {
  accept(0, 1);
  climb(ACKNOWLEDGE);
  transport.writeStatus(FAILED | ready);
  expect(transport.readStatus()).toBe(FAILED | ACKNOWLEDGE);
  expect(climb(DRIVER, FEATURES_OK, DRIVER_OK)).toBe(FAILED | ACKNOWLEDGE);
  expect(wakes).toBe(0);

  transport.writeStatus(0);
  run();
  expect(transport.readStatus()).toBe(ready);
});

test("FAILED shows on a running device, too", () => {
  run();
  expect(climb(FAILED)).toBe(FAILED | ready);
});

test("after a reset the status is not zero, and takes nothing, until the backend stands still", () => {
  run();
  transport.writeStatus(0);
  expect([wakes, backend.wanted % 2]).toEqual([2, 0]);
  const wanted = backend.wanted;

  expect(transport.readStatus()).not.toBe(0);
  transport.writeStatus(ready);
  expect(transport.state.status).toBe(0);
  transport.writeStatus(0);
  expect([backend.wanted, wakes]).toEqual([wanted, 2]);
  backend.reach(wanted);

  expect(transport.readStatus()).toBe(0);
  run();
  expect(transport.readStatus()).toBe(ready);
});

test("a reset before the backend has even started asks it to stand still", () => {
  accept(0, 1);
  transport.writeStatus(ready);
  const started = backend.wanted;

  transport.writeStatus(0);
  expect([backend.wanted % 2, backend.wanted === started]).toEqual([0, false]);
  backend.reach(started);
  expect(transport.readStatus()).not.toBe(0);
  backend.reach(backend.wanted);
  expect(transport.readStatus()).toBe(0);
});

test("a reset of a device that does not run needs no backend", () => {
  climb(ACKNOWLEDGE, DRIVER);
  transport.writeStatus(0);
  expect([transport.readStatus(), wakes]).toEqual([0, 0]);
});

test("a broken ring shows as DEVICE_NEEDS_RESET until the reset, and not after it", () => {
  run();
  backend.broken = true;
  expect(transport.readStatus()).toBe(ready | NEEDS_RESET);

  transport.writeStatus(0);
  backend.broken = true; // found in flight
  backend.reach(backend.wanted);
  expect(transport.readStatus()).toBe(0);
  expect(climb(ACKNOWLEDGE)).toBe(ACKNOWLEDGE);
  run();
  expect(transport.readStatus()).toBe(ready);
});

test("a reset puts every register back", () => {
  const before = bytesOf();
  accept(0x20, 1);
  climb(ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK);
  transport.state.isr = 3;
  transport.state.deviceFeatureSelect = 1;
  transport.state.configVector = 0;
  select(1);
  transport.state.queues.get(1).vector = 1;
  const queue = transport.openQueue!;
  Object.assign(queue, { descLow: 1, descHigh: 2, driverLow: 3 });
  Object.assign(queue, { driverHigh: 4, deviceLow: 5, deviceHigh: 6 });
  transport.setQueueSize(16);

  transport.writeStatus(0);
  backend.reach(backend.wanted);

  expect(bytesOf()).toEqual(before);
});

/** The registers, without the words of the hand-over. */
function bytesOf(): number[] {
  const { wanted, queues, reached } = VirtioState.offsets;
  const all = [...new Uint8Array(transport.state.view.buffer)];
  return all.filter((_, at) => at < wanted || (at >= queues && at < reached));
}

test("queues come up with their greatest size, off, and without a vector", () => {
  const found = [0, 1, 2].map((index) => {
    select(index);
    const { size, enable, vector } = transport.queue!;
    return [size, enable, vector];
  });
  expect(found).toEqual([
    [256, 0, 0xffff],
    [1024, 0, 0xffff],
    [8, 0, 0xffff],
  ]);
});

test.each([0, 3, 6, 9, 255, 257, 512, 0x8000, 0xffff])(
  "a queue of %p entries is refused",
  (size) => {
    transport.setQueueSize(size);
    expect(transport.queue!.size).toBe(256);
  },
);

test("a queue's size can be made smaller, and as large again as offered", () => {
  for (const size of [1, 2, 128, 256]) {
    transport.setQueueSize(size);
    expect(transport.queue!.size).toBe(size);
  }
});

test.each([[[65536]], [[0]], [[100]], [Array(19).fill(8)]])(
  "a device with queues %p is refused",
  (queueSizes) => {
    const { state, identity, config, wake } = transport;
    expect(() => new VirtioTransport(state, { ...identity, queueSizes }, config, wake)).toThrow(
      RangeError,
    );
  },
);

test("an enabled queue is closed, and stays enabled", () => {
  transport.enableQueue(2);
  expect(transport.queue!.enable).toBe(0);
  transport.enableQueue(1);
  expect(transport.openQueue).toBeUndefined();

  transport.setQueueSize(16);
  transport.enableQueue(0);

  expect([transport.queue!.size, transport.queue!.enable]).toEqual([256, 1]);
});

test("with DRIVER_OK no queue is enabled any more", () => {
  run();
  transport.enableQueue(1);
  expect(transport.queue!.enable).toBe(0);
});

test("beyond the last queue there is none", () => {
  for (const index of [3, 17, 0xffff]) {
    select(index);
    transport.setQueueSize(8);
    transport.enableQueue(1);
    expect([transport.queue, transport.openQueue]).toEqual([undefined, undefined]);
  }
});

test("of configuration space the driver writes what it may; beyond it there is nothing", () => {
  for (const offset of [0, 1, 2, 3, 4, 4095]) transport.writeConfig(offset, 0x99);

  expect([0, 1, 2, 3, 4, 4095].map((at) => transport.readConfig(at))).toEqual([
    1, 0x99, 3, 4, 0, 0,
  ]);
});

test("a reset takes back what the driver wrote to configuration space, and nothing else", () => {
  transport.writeConfig(1, 0x99);
  transport.config.bytes[2] = 0x55; // the device's own news
  run();

  transport.writeStatus(0);

  expect([...transport.config.bytes]).toEqual([1, 2, 0x55, 4]);
});

test("power-on clears the generation and a broken ring", () => {
  transport.state.configGeneration = 9;
  transport.state.status = ready;
  backend.broken = true;

  transport.powerOn();

  expect([transport.state.configGeneration, transport.readStatus(), backend.broken]).toEqual([
    0,
    0,
    false,
  ]);
});

test("each request is a new number, odd to run and even to stand still, also around 2^31", () => {
  backend.reach(0x7fff_fffe);
  transport.state.wanted = 0x7fff_fffe;
  const seen = [true, false, true, true, false].map((on) => {
    backend.want(on);
    return [backend.wanted & 1, backend.settled];
  });

  expect(seen).toEqual([
    [1, false],
    [0, false],
    [1, false],
    [1, false],
    [0, false],
  ]);
  backend.reach(backend.wanted);
  expect(backend.settled).toBe(true);
});

test("who waits for the backend is told in time, or that it was too late", () => {
  backend.want(true);
  expect(transport.handOver.waitSettled(1)).toBe(false);
  backend.reach(backend.wanted);
  expect(transport.handOver.waitSettled(1)).toBe(true);
});
