/**
 * Random rings, described by hostile drivers, against a model of virtio 1.2 section 2.7 that shares no code with the
 * queue: both find the same segments, or both find a fault.
 */
import { expect } from "bun:test";
import fc from "fast-check";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { Driver, type RawDescriptor } from "./driver.ts";
import { FakeRam } from "./fake-ram.ts";

const ramBytes = 0x10000;
const high = 0x1_0000_0000;
const highBytes = 0x1000;
const table = 0x4000;
const tableEntries = 6;

export interface Segment {
  readonly address: bigint;
  readonly length: number;
  readonly write: boolean;
}
type Memory = (address: bigint) => DataView | undefined;

type IsRam = (address: bigint, length: number) => boolean;

/** Whether a range lies in one of the regions. */
export const ramOf =
  (regions: readonly { start: number; length: number }[]): IsRam =>
  (address, length) =>
    regions.some(({ start, length: bytes }) => {
      const offset = address - BigInt(start);
      return offset >= 0n && offset < BigInt(bytes) && offset + BigInt(length) <= BigInt(bytes);
    });

/** The segments of a chain, or "fault". */
export function model(
  memory: Memory,
  isRam: IsRam,
  base: number,
  size: number,
  head: number,
): Segment[] | "fault" {
  const segments: Segment[] = [];
  let [from, count, index, indirect] = [BigInt(base), size, head, false];
  for (let steps = 0; ; steps++) {
    if (steps === count || index >= count) return "fault";
    const view = memory(from + 16n * BigInt(index))!;
    const address = view.getBigUint64(0, true);
    const length = view.getUint32(8, true);
    const [flags, next] = [view.getUint16(12, true), view.getUint16(14, true)];
    if (flags & 4) {
      if (indirect || flags & 1 || length === 0 || length % 16 !== 0) return "fault";
      if (length > 65536 || !isRam(address, length)) return "fault";
      [from, count, index, indirect, steps] = [address, length / 16, 0, true, -1];
      continue;
    }
    const write = (flags & 2) !== 0;
    if (!write && segments.some((segment) => segment.write)) return "fault";
    if (length > 0) {
      if (!isRam(address, length) || segments.length === 1024) return "fault";
      segments.push({ address, length, write });
    }
    if ((flags & 1) === 0) return segments;
    index = next;
  }
}

const address = fc.oneof(
  { weight: 6, arbitrary: fc.bigInt({ min: 0n, max: BigInt(ramBytes) }) },
  { weight: 2, arbitrary: fc.bigInt({ min: BigInt(high) - 8n, max: BigInt(high + highBytes) }) },
  { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) },
);
const length = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 600 }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff_ffff }) },
);
/** A descriptor of any content. */
export const wild = fc.record<RawDescriptor>({
  address: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  length: fc.integer({ min: 0, max: 0xffff_ffff }),
  flags: fc.integer({ min: 0, max: 0xffff }),
  next: fc.integer({ min: 0, max: 0xffff }),
});

const buffer = fc.record<RawDescriptor>({
  address,
  length,
  flags: fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(0, 1, 1, 1, 2, 3, 3) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff }) },
  ),
  next: fc.oneof(
    { weight: 8, arbitrary: fc.integer({ min: 0, max: 7 }) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff }) },
  ),
});
const reference = fc.record<RawDescriptor>({
  address: fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(table, table + 16, table + 7) },
    { weight: 1, arbitrary: address },
  ),
  length: fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 0, max: tableEntries }).map((n) => n * 16) },
    { weight: 1, arbitrary: length },
  ),
  flags: fc.constantFrom(4, 4, 4, 5, 6),
  next: fc.integer({ min: 0, max: 7 }),
});
const descriptor = fc.oneof({ weight: 4, arbitrary: buffer }, { weight: 1, arbitrary: reference });
const rings = fc.record({
  size: fc.constantFrom(1, 2, 4, 8),
  start: fc.constantFrom(0, 1, 65535),
  descriptors: fc.array(descriptor, { minLength: 8, maxLength: 8 }),
  entries: fc.array(buffer, { minLength: tableEntries, maxLength: tableEntries }),
  heads: fc.array(
    fc.oneof(
      { weight: 8, arbitrary: fc.integer({ min: 0, max: 7 }) },
      { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff }) },
    ),
    { maxLength: 10 },
  ),
});

const ram = new FakeRam([
  { start: 0, length: ramBytes },
  { start: high, length: highBytes },
]);

/** Random rings give what the specification says, or a fault. */
export function tryRandomRings(runs: number): void {
  const outcomes = { fault: 0, segments: 0 };
  const property = fc.property(rings, ({ size, start, descriptors, entries, heads }) => {
    const driver = new Driver(ram, size, 0x1000, start);
    for (let i = 0; i < size; i++) driver.describe(i, descriptors[i]!);
    for (const [i, entry] of entries.entries()) driver.write(table + 16 * i, entry);
    for (const head of heads) driver.publish(head);
    const options = { indirect: true, eventIndex: true, nextAvail: start, call: () => {} };
    const queue = new Virtqueue(ram.windows, driver.layout, options);

    let expected: Segment[] | "fault" = heads.length > size ? "fault" : [];
    for (const head of heads) {
      if (expected === "fault") break;
      const memory: Memory = (at) => ram.view(Number(at), 16);
      expected = head < size ? model(memory, ramOf(ram.regions), driver.desc, size, head) : "fault";
      outcomes[expected === "fault" ? "fault" : "segments"]++;
      if (expected === "fault") break;
      expect(queue.next()).toBe(head);
      const { chain } = queue;
      const found = Array.from({ length: chain.readable + chain.writable }, (_, i) => ({
        address: BigInt(chain.addressOf(i)),
        length: chain.lengthOf(i),
        write: i >= chain.readable,
      }));
      expect(found).toEqual(expected);
      queue.complete(head, 1);
      queue.needsCall();
    }
    if (expected === "fault") expect(() => queue.next()).toThrow(GuestFault);
    expect(queue.next()).toBe(-1);
    expect(ram.guardsIntact).toBe(true);
  });
  fc.assert(property, { numRuns: runs });

  // the generator reaches both ends
  expect(outcomes.fault).toBeGreaterThan(runs / 20);
  expect(outcomes.segments).toBeGreaterThan(runs / 20);
}
