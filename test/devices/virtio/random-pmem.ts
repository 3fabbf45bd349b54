/**
 * Random requests for persistent memory, framed by hostile drivers, against a model of the rings: which of them are
 * flushes, what is answered, and that nothing else in guest memory is touched.
 */
import { expect } from "bun:test";
import fc from "fast-check";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { PmemBackend, type SyncRing } from "../../../src/devices/virtio/pmem.ts";
import { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { createEventfd } from "../../../src/ffi/eventfd.ts";
import { close } from "../../../src/ffi/file.ts";
import { Driver } from "./driver.ts";
import { FakeRam } from "./fake-ram.ts";
import { model, ramOf, wild } from "./random-rings.ts";
import { TestWorker } from "./worker.ts";

const queueSize = 8;
const [table, buffersAt, ramBytes] = [0x4000, 0x8000, 0xa000];
const tableEntries = 6;
const EIO = 5;
const [done, failed] = [0, 0xffff_ffff]; // virtio 1.2 section 5.19.7

const buffer = fc.record({
  address: fc.nat(9).map((n) => buffersAt + n * 0x100),
  length: fc.oneof(fc.constant(4), fc.nat(6)),
  write: fc.boolean(),
});
const request = fc.record({
  buffers: fc.array(buffer, { minLength: 1, maxLength: tableEntries }),
  /** Readable buffers first, as they must be; a driver that breaks the rules does not sort. */
  sorted: fc.oneof({ weight: 8, arbitrary: fc.constant(true) }, fc.boolean()),
  indirect: fc.boolean(),
  wild: fc.option(fc.record({ at: fc.nat(5), descriptor: wild }), { freq: 8 }),
  /** What the buffers hold: 0 is a flush. */
  filling: fc.constantFrom(0, 0, 0, 1, 0x80),
  error: fc.constantFrom(0, 0, EIO),
});

/** Syncs that end at once, as the test says. */
class Syncs implements SyncRing {
  readonly fd = createEventfd();
  result = 0;
  asked = 0;
  #ended = 0;

  dataSync(): void {
    this.asked++;
    this.#ended++;
  }
  submit(): void {}
  next(): boolean {
    return this.#ended > 0 && this.#ended-- > 0;
  }
  close(): void {
    close(this.fd);
  }
}

/** Runs so many random requests on one device. */
export function tryRandomPmem(runs: number): void {
  const worker = new TestWorker();
  const syncs = new Syncs();
  const place = { fd: 77, start: 2 ** 32, size: 2 ** 21, hostAddress: 0 };
  const spec = { ...place, discard: false, uring: true };
  const backend = new PmemBackend(spec, worker, undefined, () => syncs);
  const ram = new FakeRam([{ start: 0, length: ramBytes }]);
  const buffers = ram.bytes(buffersAt, ramBytes - buffersAt);
  let driver: Driver;
  const start = () => {
    backend.stop(() => {});
    driver = new Driver(ram, queueSize);
    const options = { indirect: true, eventIndex: false, call: () => {} };
    backend.start([new Virtqueue(ram.windows, driver.layout, options)]);
  };
  start();
  const seen = { fault: 0, flushed: 0, failed: 0, refused: 0, mute: 0 };
  const property = fc.property(request, (one) => {
    const byPart = one.buffers.toSorted((a, b) => Number(a.write) - Number(b.write));
    const chain = one.sorted ? byPart : one.buffers;
    const base = one.indirect ? table : driver.desc;
    for (const [i, { address, length, write }] of chain.entries()) {
      const last = i === chain.length - 1;
      const flags = (write ? 2 : 0) + (last ? 0 : 1);
      driver.write(base + 16 * i, { address, length, flags, next: last ? 0 : i + 1 });
    }
    const head = one.indirect ? 7 : 0;
    const tableBytes = 16 * chain.length;
    if (one.indirect) driver.describe(7, { address: table, length: tableBytes, flags: 4, next: 0 });
    if (one.wild) driver.write(base + 16 * one.wild.at, one.wild.descriptor);
    buffers.fill(one.filling);
    const memory = (at: bigint) => ram.view(Number(at), 16);
    const segments = model(memory, ramOf(ram.regions), driver.desc, queueSize, head);
    driver.publish(head);
    syncs.asked = 0;
    syncs.result = -one.error;
    if (segments === "fault") {
      expect(() => backend.kicked()).toThrow(GuestFault);
      seen.fault++;
      start();
      return;
    }
    if (segments.some(({ address }) => Number(address) < buffersAt)) return start();
    const bytesOf = (write: boolean) =>
      segments
        .filter((segment) => segment.write === write)
        .flatMap(({ address, length }) => Array.from({ length }, (_, i) => Number(address) + i));
    const [readable, writable] = [bytesOf(false), bytesOf(true)];
    const answered = writable.length >= 4;
    const flushes = answered && readable.length >= 4 && one.filling === 0;
    const wanted = Uint8Array.from(buffers);
    const answer = flushes && one.error === 0 ? done : failed;
    // who says twice what a byte is to be has the last word
    if (answered) for (let i = 0; i < 4; i++) wanted[writable[i]! - buffersAt] = answer & 0xff;

    backend.kicked();

    expect(driver.collect()).toEqual([{ head, written: answered ? 4 : 0 }]);
    expect(syncs.asked).toBe(flushes ? 1 : 0);
    expect(Buffer.compare(buffers, wanted)).toBe(0);
    expect(ram.guardsIntact).toBe(true);
    if (!answered) seen.mute++;
    else if (!flushes) seen.refused++;
    else if (answer === done) seen.flushed++;
    else seen.failed++;
  });
  fc.assert(property, { numRuns: runs, endOnFailure: true });
  backend.close();
  worker.close();

  for (const count of Object.values(seen)) expect(count).toBeGreaterThan(runs / 200);
}
