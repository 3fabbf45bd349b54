import { afterAll, afterEach, expect, test } from "bun:test";
import { monotonicNs } from "../../../src/ffi/clock.ts";
import { plainFrame } from "../../network/frames.ts";
import { NetRig, type RigOptions, TapHome } from "./net-rig.ts";

/** A bucket that refills too slowly for a test: what is let through is what was in it. */
const slow = { oneTimeBurst: 0, refillMs: 1e9 };
/** 100 frames of 64 bytes a ms. */
const quick = { size: 6400, oneTimeBurst: 0, refillMs: 1 };

const home = new TapHome();
afterAll(() => home.close());
let rig: NetRig;
afterEach(() => rig[Symbol.dispose]());
const open = (options: RigOptions) => (rig = new NetRig({ home, ...options }));

function sendMany(count: number): number {
  for (let i = 0; i < count; i++) rig.offer(plainFrame(64, i));
  rig.backend.kicked(1);
  rig.settle();
  return rig.arrived().length;
}

function receiveMany(count: number): number {
  rig.post(Array.from({ length: count }, () => [100]));
  for (let i = 0; i < count; i++) rig.host.send(plainFrame(64, i));
  rig.settle();
  return rig.received().length;
}

test.each([
  ["bytes", { bytes: { ...slow, size: 640 } }],
  ["frames", { ops: { ...slow, size: 10 } }],
])("%s of what the guest sends are limited, and of nothing else", (_, transmitLimit) => {
  open({ transmitLimit });

  expect(sendMany(15)).toBe(10);
  expect(receiveMany(15)).toBe(15);
  expect(rig.worker.pump()).toBe(0); // nobody spins
});

test.each([
  ["bytes", { bytes: { ...slow, size: 640 } }],
  ["frames", { ops: { ...slow, size: 10 } }],
])("%s of what the guest receives are limited, and of nothing else", (_, receiveLimit) => {
  open({ receiveLimit });

  expect(receiveMany(15)).toBe(10);
  expect(sendMany(15)).toBe(15);
  expect(rig.worker.watching(rig.spec.taps[0]!)).toBe(false);
  expect(rig.worker.pump()).toBe(0);
});

test("what had to wait goes when its time has come, in order", () => {
  open({ receiveLimit: { bytes: quick }, transmitLimit: { bytes: quick }, queueSize: 512 });
  const count = 400;
  const all = Array.from({ length: count }, (_, i) => plainFrame(64, i));
  rig.post(all.map(() => [100]));
  const start = monotonicNs();
  for (const frame of all) {
    rig.offer(frame);
    rig.host.send(frame);
  }
  rig.backend.kicked(1);

  const [sent, received]: Uint8Array[][] = [[], []];
  const fuse = start + 120e9;
  while (sent!.length < count || received!.length < count) {
    expect(monotonicNs()).toBeLessThan(fuse);
    rig.worker.pump(1000);
    sent!.push(...rig.arrived());
    received!.push(...rig.received().map(({ frame }) => frame));
  }

  expect(sent).toEqual(all);
  expect(received).toEqual(all);
  // one bucket at the start, and so much more as time gave; never sooner
  expect(monotonicNs() - start).toBeGreaterThanOrEqual((count / 100 - 1) * 1e6);
});

test("a stop forgets who waited, and the frame that did is the driver's", () => {
  const transmitLimit = { ops: { size: 2, oneTimeBurst: 0, refillMs: 1 } };
  open({ transmitLimit });
  for (let i = 0; i < 5; i++) rig.offer(plainFrame(64, i));
  rig.backend.kicked(1);
  const sent = rig.arrived().length;

  rig.backend.stop();

  expect(rig.queues[1]!.nextAvail).toBe(sent);
  expect(rig.worker.pump(5)).toBe(0);
  expect(rig.arrived()).toEqual([]);
});
