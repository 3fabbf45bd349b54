/**
 * Random chains for the entropy device, framed by hostile drivers, against a model of the rings: the source's bytes fill
 * the writable segments in order, and nothing else is touched.
 */
import { expect } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { EntropyBackend } from "../../../src/devices/virtio/entropy.ts";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { readVector } from "../../../src/ffi/file-vector.ts";
import { Driver } from "./driver.ts";
import { FakeRam } from "./fake-ram.ts";
import { model, ramOf, wild } from "./random-rings.ts";
import { TestWorker } from "./worker.ts";

const queueSize = 8;
const [table, buffersAt] = [0x4000, 0x8000];
const tableEntries = 6;
const ramBytes = 0x10_0000;
/** The device fills no more of a request (virtio 1.2 section 5.4.6.2 leaves it to the device). */
const mostBytes = 65_536;

const length = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 100 }) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 70_000 }) },
);
const buffer = fc.record({
  address: fc.nat(9).map((n) => buffersAt + n * 0x1_8000),
  length,
  write: fc.boolean(),
});
const request = fc.record({
  buffers: fc.array(buffer, { minLength: 1, maxLength: tableEntries }),
  /** Readable buffers first, as they must be; a driver that breaks the rules does not sort. */
  sorted: fc.oneof({ weight: 8, arbitrary: fc.constant(true) }, fc.boolean()),
  indirect: fc.boolean(),
  wild: fc.option(fc.record({ at: fc.nat(5), descriptor: wild }), { freq: 8 }),
});

/** Runs so many random requests on one device. */
export function tryRandomEntropy(runs: number): void {
  const folder = mkdtempSync(join(tmpdir(), "chv-random-rng-"));
  const content = Uint8Array.from({ length: 500_000 }, (_, i) => (i % 251) + 1);
  writeFileSync(join(folder, "source"), content);
  const fd = openSync(join(folder, "source"), "r");
  const worker = new TestWorker();
  const fromStart: typeof readVector = (file, iovecs, count) => readVector(file, iovecs, count, 0);
  const backend = new EntropyBackend({ fd }, worker, undefined, fromStart);
  const ram = new FakeRam([{ start: 0, length: ramBytes }]);
  let driver: Driver;
  const start = () => {
    backend.stop();
    driver = new Driver(ram, queueSize);
    const options = { indirect: true, eventIndex: false, call: () => {} };
    backend.start([new Virtqueue(ram.windows, driver.layout, options)]);
  };
  start();
  const seen = { fault: 0, filled: 0, cut: 0, wrong: 0 };
  const property = fc.property(request, ({ buffers, sorted, indirect, wild: odd }) => {
    const chain = sorted ? buffers.toSorted((a, b) => Number(a.write) - Number(b.write)) : buffers;
    const base = indirect ? table : driver.desc;
    for (const [i, { address, length: bytes, write }] of chain.entries()) {
      const last = i === chain.length - 1;
      const flags = (write ? 2 : 0) + (last ? 0 : 1);
      driver.write(base + 16 * i, { address, length: bytes, flags, next: last ? 0 : i + 1 });
    }
    const head = indirect ? 7 : 0;
    const tableBytes = 16 * chain.length;
    if (indirect) driver.describe(7, { address: table, length: tableBytes, flags: 4, next: 0 });
    if (odd) driver.write(base + 16 * odd.at, odd.descriptor);
    const memory = (at: bigint) => ram.view(Number(at), 16);
    const segments = model(memory, ramOf(ram.regions), driver.desc, queueSize, head);
    driver.publish(head);
    if (segments === "fault") {
      expect(() => backend.kicked()).toThrow(GuestFault);
      seen.fault++;
      start();
      return;
    }
    const writable = segments.filter(({ write }) => write);
    if (writable.some(({ address }) => Number(address) < buffersAt)) return start();

    backend.kicked();

    const room = writable.reduce((sum, { length: bytes }) => sum + bytes, 0);
    expect(driver.collect()).toEqual([{ head, written: Math.min(room, mostBytes) }]);
    expect(ram.guardsIntact).toBe(true);
    if (room > mostBytes) seen.cut++;
    const inOrder = writable.toSorted((a, b) => Number(a.address - b.address));
    const over = inOrder.some(({ address }, i) => {
      const before = inOrder[i - 1];
      return before !== undefined && address < before.address + BigInt(before.length);
    });
    if (over) return; // what a later segment lies over is not looked at
    let at = 0;
    for (const { address, length: bytes } of writable) {
      const count = Math.min(bytes, mostBytes - at);
      const filled = ram.bytes(Number(address), count);
      if (Buffer.compare(filled, content.subarray(at, at + count)) !== 0) seen.wrong++;
      at += count;
    }
    if (room > 0) seen.filled++;
  });
  fc.assert(property, { numRuns: runs, endOnFailure: true });
  backend.close();
  worker.close();
  closeSync(fd);
  rmSync(folder, { recursive: true });

  const { wrong, ...reached } = seen;
  expect(wrong).toBe(0);
  for (const count of Object.values(reached)) expect(count).toBeGreaterThan(runs / 200);
  expect(worker.warnings).toEqual([]);
}
