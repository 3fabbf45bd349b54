/**
 * Random buffers, frames and commands of hostile drivers, on a network device with a real tap, against a model of virtio
 * 1.2 section 5.1.6: the same frames arrive in the same buffers, or the driver loses the device; nothing is touched
 * beside.
 */
import { expect } from "bun:test";
import fc from "fast-check";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { plainFrame } from "../../network/frames.ts";
import type { Buffer as Buf, RawDescriptor } from "./driver.ts";
import { headerBytes, NetRig } from "./net-rig.ts";
import { model, ramOf, type Segment } from "./random-rings.ts";

const size = 8;
const [tablesAt, tableBytes, dataAt] = [0x10_0000, 0x100, 0x20_0000];
const [CTRL_VQ, MRG_RXBUF] = [2 ** 17, 2 ** 15];

const wild = fc.record<RawDescriptor>({
  address: fc.oneof(
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    fc.bigInt({ min: 0n, max: 0x40_2000n }),
  ),
  length: fc.oneof(fc.integer({ min: 0, max: 0xffff_ffff }), fc.integer({ min: 0, max: 3000 })),
  flags: fc.integer({ min: 0, max: 0xffff }),
  next: fc.integer({ min: 0, max: 0xffff }),
});
/** One descriptor of a chain is anything at all, in one chain of so many. */
const disturbance = (oneIn: number) =>
  fc.oneof(
    { weight: oneIn - 1, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary: fc.record({ at: fc.nat(3), descriptor: wild }) },
  );

/** Lays a chain and publishes it: its head, and its segments as the model sees them. */
function lay(
  rig: NetRig,
  queue: number,
  place: number,
  buffers: readonly Buf[],
  indirect: boolean,
  disturbed: { at: number; descriptor: RawDescriptor } | null,
): { head: number; segments: Segment[] | "fault" } {
  const driver = rig.drivers[queue]!;
  const table = tablesAt + place * tableBytes;
  const all = buffers.length === 0 ? [{ address: dataAt, length: 0 }] : buffers;
  const inTable = indirect || all.length > 1;
  const head = driver.offer(all, inTable ? table : undefined);
  if (disturbed) {
    const at = inTable
      ? table + 16 * Math.min(disturbed.at, all.length - 1)
      : driver.desc + 16 * head;
    driver.write(at, disturbed.descriptor);
  }
  const memory = (at: bigint) => rig.ram.view(Number(at), 16);
  return { head, segments: model(memory, ramOf(rig.ram.regions), driver.desc, size, head) };
}

const part = (segments: readonly Segment[], write: boolean) =>
  segments
    .filter((segment) => segment.write === write)
    .map(({ address, length }) => ({ address: Number(address), length }));
const total = (segments: readonly { length: number }[]) =>
  segments.reduce((sum, { length }) => sum + length, 0);

/** What is done may find a fault of the driver, and nothing else. */
function faults(run: () => void): boolean {
  try {
    run();
    return false;
  } catch (error) {
    expect(error).toBeInstanceOf(GuestFault);
    return true;
  }
}

const receiveLengths = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 12, max: 700 }) },
  { weight: 4, arbitrary: fc.integer({ min: 12, max: 60 }) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 30 }) },
  { weight: 1, arbitrary: fc.constant(1600) },
);
const receiving = fc.record({
  mergeable: fc.boolean(),
  /** The host looks for work, and is not kicked. */
  polls: fc.boolean(),
  chains: fc.array(
    fc.record({
      lengths: fc.array(receiveLengths, { minLength: 1, maxLength: 3 }),
      readable: fc.boolean(),
      indirect: fc.boolean(),
      disturbance: disturbance(40),
    }),
    { minLength: 1, maxLength: size },
  ),
  frames: fc.array(
    fc.oneof(fc.integer({ min: 14, max: 200 }), fc.integer({ min: 14, max: 1514 })),
    { maxLength: 6 },
  ),
  /** So many chains are there before the frames. */
  early: fc.nat(size),
});
type Receiving = typeof receiving extends fc.Arbitrary<infer T> ? T : never;

/** Which frames come, by number, and what they fill of the chains; and which chains those are. */
function foretell({ mergeable, frames }: Receiving, rooms: readonly number[]) {
  const came: { frame: number; lengths: number[] }[] = [];
  let [next, dropped] = [0, 0];
  for (const [frame, length] of frames.entries()) {
    const needed = length + headerBytes;
    const lengths: number[] = [];
    const most = mergeable ? rooms.length - next : Math.min(1, rooms.length - next);
    for (let i = 0; i < most && total(lengths.map((one) => ({ length: one }))) < needed; i++) {
      lengths.push(rooms[next + i]!);
    }
    const sum = lengths.reduce((one, other) => one + other, 0);
    if (sum < needed && (mergeable ? lengths.length < size : lengths.length === 0)) break;
    if (sum < needed) {
      dropped++;
      continue;
    }
    lengths[lengths.length - 1]! -= sum - needed;
    came.push({ frame, lengths });
    next += lengths.length;
  }
  return { came, dropped };
}

export function tryRandomReceiving(runs: number): void {
  const seen = { fault: 0, frames: 0, merged: 0, dropped: 0 };
  const rigs = [false, true].flatMap((polls) =>
    [CTRL_VQ, CTRL_VQ + MRG_RXBUF].map(
      (features) => new NetRig({ features, polls, queueSize: size }),
    ),
  );
  const property = fc.property(receiving, (wanted) => {
    const rig = rigs[(wanted.polls ? 2 : 0) + (wanted.mergeable ? 1 : 0)]!;
    rig.backend.stop();
    rig.start();
    let at = dataAt;
    const chains: Segment[][] = [];
    let broken = false;
    const offer = (from: number, to: number) => {
      for (const [i, chain] of [...wanted.chains.entries()].slice(from, to)) {
        const buffers: Buf[] = chain.readable ? [{ address: dataAt, length: 5 }] : [];
        for (const length of chain.lengths) {
          buffers.push({ address: at, length, write: true });
          at += length + 3;
        }
        const { segments } = lay(rig, 0, i, buffers, chain.indirect, chain.disturbance);
        if (segments === "fault" || total(part(segments, true)) < headerBytes) broken = true;
        else chains.push(segments);
      }
      return faults(() => (wanted.polls ? rig.settle() : rig.backend.kicked(0)));
    };
    const before = rig.counters.slice();
    let faulted = offer(0, wanted.early);
    for (const [i, length] of wanted.frames.entries()) rig.host.send(plainFrame(length, i));
    faulted = faults(() => rig.settle()) || faulted;
    faulted = offer(wanted.early, size) || faulted;
    faulted = faults(() => rig.settle()) || faulted;

    expect(rig.ram.guardsIntact).toBe(true);
    if (faulted) expect(broken).toBe(true);
    if (broken) {
      seen.fault++;
      return;
    }
    const used = rig.drivers[0]!.collect();
    const writable = chains.map((segments) => part(segments, true));
    const over = writable.flat().some(({ address }) => address < dataAt);
    if (over || overlap(writable.flat())) return; // nothing can be foretold of the bytes
    const { came, dropped } = foretell(wanted, writable.map(total));
    expect(used.map(({ written }) => written)).toEqual(came.flatMap(({ lengths }) => lengths));
    expect(rig.counters[1]! - before[1]!).toBe(came.length);
    expect(rig.counters[4]! - before[4]!).toBe(dropped);
    let next = 0;
    for (const { frame, lengths } of came) {
      const bytes = Buffer.concat(
        lengths.flatMap((length) => {
          const pieces = writable[next++]!.map((piece) =>
            rig.ram.bytes(piece.address, piece.length),
          );
          return [Buffer.concat(pieces).subarray(0, length)];
        }),
      );
      const header = Buffer.alloc(headerBytes);
      header.writeUInt16LE(lengths.length, 10);
      const sent = plainFrame(wanted.frames[frame]!, frame);
      expect(Buffer.compare(bytes, Buffer.concat([header, sent]))).toBe(0);
      seen.frames++;
      if (lengths.length > 1) seen.merged++;
    }
    seen.dropped += dropped;
  });
  fc.assert(property, { numRuns: runs, endOnFailure: true });
  for (const rig of rigs) rig[Symbol.dispose]();

  // the generator reaches every end
  expect(Object.entries(seen).filter(([, count]) => count < runs / 50)).toEqual([]);
}

/** Whether some of the ranges share bytes. */
function overlap(ranges: readonly { address: number; length: number }[]): boolean {
  const sorted = ranges.toSorted((one, other) => one.address - other.address);
  return sorted.some(
    (range, i) => i > 0 && range.address < sorted[i - 1]!.address + sorted[i - 1]!.length,
  );
}

const transmitting = fc.record({
  lengths: fc.array(fc.oneof(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 1000 })), {
    maxLength: 4,
  }),
  writable: fc.boolean(),
  indirect: fc.boolean(),
  disturbance: disturbance(8),
  /** Zero if absent. */
  header: fc.option(fc.uint8Array({ minLength: headerBytes, maxLength: headerBytes }), { freq: 2 }),
  noise: fc.nat(255),
});

export function tryRandomTransmitting(runs: number): void {
  const seen = { fault: 0, arrived: 0, short: 0, odd: 0 };
  const rig = new NetRig({ queueSize: size });
  const property = fc.property(transmitting, (wanted) => {
    const bytes = total(wanted.lengths.map((length) => ({ length })));
    const data = Buffer.concat([
      wanted.header ?? new Uint8Array(headerBytes),
      plainFrame(Math.max(bytes, 14), wanted.noise),
    ]).subarray(0, bytes);
    const buffers: Buf[] = [];
    let [at, from] = [dataAt, 0];
    for (const length of wanted.lengths) {
      rig.ram.bytes(at, length).set(data.subarray(from, from + length));
      buffers.push({ address: at, length });
      [at, from] = [at + length + 5, from + length];
    }
    if (wanted.writable) buffers.push({ address: at, length: 20, write: true });
    const { head, segments } = lay(rig, 1, 0, buffers, wanted.indirect, wanted.disturbance);
    const before = rig.counters.slice();

    const faulted = faults(() => rig.backend.kicked(1));

    expect(faulted).toBe(segments === "fault");
    const arrived = rig.arrived();
    if (segments === "fault") {
      seen.fault++;
      expect(arrived).toEqual([]);
      rig.backend.stop();
      rig.start();
      return;
    }
    expect(rig.drivers[1]!.collect()).toEqual([{ head, written: 0 }]);
    const [sent, dropped] = [rig.counters[3]! - before[3]!, rig.counters[6]! - before[6]!];
    expect(sent + dropped).toBe(1);
    const pieces = part(segments, false).map(({ address, length }) =>
      rig.ram.bytes(address, length),
    );
    const whole =
      pieces.reduce((sum, { length }) => sum + length, 0) < 2 ** 16
        ? Buffer.concat(pieces)
        : undefined;
    if (whole === undefined) return; // more than a frame can be: whatever the kernel makes of it
    const plain = whole.subarray(0, headerBytes).every((byte) => byte === 0);
    if (whole.length < headerBytes + 14) {
      seen.short++;
      expect([sent, arrived.length]).toEqual([0, 0]);
    } else if (plain && whole.readUInt16BE(headerBytes + 12) === 0x88b5) {
      seen.arrived++;
      expect(arrived.map((frame) => Buffer.compare(frame, whole.subarray(headerBytes)))).toEqual([
        0,
      ]);
    } else {
      seen.odd++;
    }
  });
  fc.assert(property, { numRuns: runs, endOnFailure: true });
  rig.send(plainFrame(60, 1));
  expect(rig.arrived()).toEqual([plainFrame(60, 1)]);
  expect(rig.ram.guardsIntact).toBe(true);
  rig[Symbol.dispose]();

  expect(Object.entries(seen).filter(([, count]) => count < runs / 50)).toEqual([]);
}

const commanding = fc.record({
  bytes: fc.oneof(
    fc
      .tuple(fc.nat(6), fc.nat(6), fc.uint8Array({ maxLength: 40 }))
      .map(([kind, command, rest]) => [...[kind, command, ...rest]]),
    // a table of MACs, of about the length that it says
    fc
      .tuple(fc.nat(4), fc.nat(4), fc.integer({ min: -1, max: 1 }), fc.nat(255))
      .map(([one, two, off, noise]) => {
        const macs = (count: number) => new Array<number>(6 * count).fill(noise);
        const bytes = [1, 0, one, 0, 0, 0, ...macs(one), two, 0, 0, 0, ...macs(two), 0];
        return bytes.slice(0, bytes.length - 1 + off);
      }),
    fc.array(fc.nat(255), { maxLength: 30 }),
  ),
  cut: fc.array(fc.nat(12), { maxLength: 3 }),
  answer: fc.nat(2),
  disturbance: disturbance(8),
});

export function tryRandomCommands(runs: number): void {
  const seen = { fault: 0, ok: 0, refused: 0 };
  const rig = new NetRig({ queueSize: size, pairs: 2 });
  const queue = rig.controlQueue;
  const property = fc.property(commanding, ({ bytes, cut, answer, disturbance: disturbed }) => {
    rig.ram.bytes(dataAt, 200).fill(0xee);
    rig.ram.bytes(dataAt, bytes.length).set(bytes);
    const buffers: Buf[] = [];
    let at = 0;
    for (const wish of cut) {
      const length = Math.min(wish, bytes.length - at);
      buffers.push({ address: dataAt + at, length });
      at += length;
    }
    buffers.push({ address: dataAt + at, length: bytes.length - at });
    const ackAt = dataAt + 150;
    if (answer > 0) buffers.push({ address: ackAt, length: answer, write: true });
    const { head, segments } = lay(rig, queue, 0, buffers, true, disturbed);

    const faulted = faults(() => rig.backend.kicked(queue));

    expect(faulted).toBe(segments === "fault");
    expect(rig.ram.guardsIntact).toBe(true);
    if (segments === "fault") {
      seen.fault++;
      rig.backend.stop();
      rig.start();
      return;
    }
    const room = total(part(segments, true));
    expect(rig.drivers[queue]!.collect()).toEqual([{ head, written: room > 0 ? 1 : 0 }]);
    if (disturbed || room === 0) return;
    const ack = rig.ram.bytes(ackAt, 2);
    expect(ack[0]! <= 1).toBe(true);
    expect(ack[1]).toBe(0xee);
    if (ack[0] === 0) seen.ok++;
    else seen.refused++;
  });
  fc.assert(property, { numRuns: runs, endOnFailure: true });
  expect(rig.worker.warnings).toEqual([]);
  rig[Symbol.dispose]();

  expect(Object.entries(seen).filter(([, count]) => count < runs / 50)).toEqual([]);
}
