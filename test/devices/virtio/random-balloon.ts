/**
 * Random chains for the balloon, described by hostile drivers, against a model of virtio 1.2 section 5.5.6 and of the
 * rings: the pages of RAM that are named go back, no others, and every chain comes back once.
 */
import { expect } from "bun:test";
import fc from "fast-check";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { Balloon, high, MiB, page, persistent } from "./balloon-rig.ts";
import { model, ramOf, type Segment, wild } from "./random-rings.ts";

const queueSize = 8;
const [dataAt, tableAt] = [0x2_0000, 0x1_8000];
const [inflate, deflate] = [0, 1];
const RAM = [
  { start: 0, length: 4 * MiB },
  { start: high, length: 2 * MiB },
];
const memory = [...RAM, { start: persistent, length: 2 * MiB }];

/** Page numbers, many of them neighbours, some of them no RAM: drawing each by itself would take most of the time. */
function pagesOf(seed: number): number[] {
  let state = seed;
  const draw = (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state >>> 8) % below;
  };
  return Array.from({ length: 40 }, () => {
    const kind = draw(10);
    if (kind < 6) return 0x40 + draw(17);
    if (kind < 8) return high / page - 2 + draw(7);
    return kind < 9 ? persistent / page + draw(3) : draw(2 ** 24) * 256 + draw(256);
  });
}
const place = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 0x400 }).map((n) => n + dataAt) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 0x8000 }).map((n) => n + MiB) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0x3000 }).map((n) => n + high) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0x3000 }).map((n) => n + persistent) },
);
const buffer = fc.record({
  address: place,
  length: fc.oneof(
    { weight: 5, arbitrary: fc.integer({ min: 0, max: 40 }) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 4 * page }) },
  ),
  write: fc.boolean(),
});
const chain = fc.record({
  queue: fc.nat(4),
  numbers: fc.integer({ min: 0, max: 0xffff_ffff }).map(pagesOf),
  readable: fc.array(buffer, { maxLength: 3 }),
  writable: fc.array(buffer, { maxLength: 3 }),
  indirect: fc.boolean(),
  wild: fc.option(fc.record({ at: fc.nat(5), descriptor: wild }), { freq: 8 }),
});
type Chain = typeof chain extends fc.Arbitrary<infer T> ? T : never;

const isRam = ramOf(RAM);

/** Lays the chain's descriptors; its segments as the model sees them. */
function offer(balloon: Balloon, wanted: Chain): Segment[] | "fault" {
  const driver = balloon.drivers[wanted.queue]!;
  const list = balloon.ram.view(dataAt, 4 * wanted.numbers.length);
  for (const [i, number] of wanted.numbers.entries()) list.setUint32(4 * i, number, true);
  const buffers = [
    ...wanted.readable.map((one) => ({ ...one, write: false })),
    ...wanted.writable.map((one) => ({ ...one, write: true })),
  ];
  if (buffers.length === 0) buffers.push({ address: dataAt, length: 0, write: true });
  const base = wanted.indirect ? tableAt : driver.desc;
  for (const [i, { address, length, write }] of buffers.entries()) {
    const last = i === buffers.length - 1;
    const flags = (write ? 2 : 0) + (last ? 0 : 1);
    driver.write(base + 16 * i, { address, length, flags, next: last ? 0 : i + 1 });
  }
  let head = 0;
  if (wanted.indirect) {
    const length = 16 * buffers.length;
    driver.describe((head = 7), { address: tableAt, length, flags: 4, next: 0 });
  }
  if (wanted.wild) driver.write(base + 16 * wanted.wild.at, wanted.wild.descriptor);
  const at = (address: bigint) => balloon.ram.view(Number(address), 16);
  const segments = model(at, ramOf(memory), driver.desc, queueSize, head);
  driver.publish(head);
  return segments;
}

/** The pages, by address, that are to go back; and how often something is no RAM. */
function expected(balloon: Balloon, queue: number, segments: readonly Segment[]) {
  const wanted = new Set<number>();
  let errors = 0;
  if (queue === inflate) {
    const bytes = segments
      .filter(({ write }) => !write)
      .flatMap(({ address, length }) => [...balloon.ram.bytes(Number(address), length)]);
    const view = new DataView(Uint8Array.from(bytes).buffer);
    for (let at = 0; at + 4 <= bytes.length; at += 4) {
      const start = view.getUint32(at, true) * page;
      if (isRam(BigInt(start), page)) wanted.add(start);
      else errors++;
    }
  } else if (queue !== deflate) {
    for (const { address, length } of segments) {
      const start = Number(address);
      if (!isRam(address, length)) errors++;
      else {
        const first = Math.ceil(start / page) * page;
        for (let at = first; at + page <= start + length; at += page) wanted.add(at);
      }
    }
  }
  return { wanted: [...wanted].sort((a, b) => a - b), errors };
}

/** Runs so many random chains on one device. */
export function tryRandomBalloon(runs: number): void {
  using balloon = new Balloon({}, queueSize);
  const outcomes = { fault: 0, given: 0, errors: 0 };
  const property = fc.property(chain, (wanted) => {
    const errorsBefore = balloon.counter("errors");
    const segments = offer(balloon, wanted);
    if (segments === "fault") {
      expect(() => balloon.backend.kicked()).toThrow(GuestFault);
      balloon.backend.stop();
      balloon.start();
      outcomes.fault++;
      return;
    }
    const model = expected(balloon, wanted.queue, segments);

    const given = balloon.kick();

    const pagesGiven = new Set<number>();
    for (const { start, length } of given) {
      if (start % page !== 0 || length % page !== 0) throw new Error(`half a page at ${start}`);
      for (let at = start; at < start + length; at += page) pagesGiven.add(at);
    }
    expect([...pagesGiven].sort((a, b) => a - b)).toEqual(model.wanted);
    expect(balloon.counter("errors") - errorsBefore).toBe(model.errors);
    const head = wanted.indirect ? 7 : 0;
    expect(balloon.drivers[wanted.queue]!.collect()).toEqual([{ head, written: 0 }]);
    expect(balloon.ram.guardsIntact).toBe(true);
    if (given.length > 0) outcomes.given++;
    if (model.errors > 0) outcomes.errors++;
  });
  fc.assert(property, { numRuns: runs, endOnFailure: true });

  // the generator reaches every kind of answer
  for (const count of Object.values(outcomes)) expect(count).toBeGreaterThan(runs / 50);
}
