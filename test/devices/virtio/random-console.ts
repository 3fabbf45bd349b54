/**
 * Random chains in the queues of a console device, framed by hostile drivers, against a model of the rings: what was in
 * the readable segments goes out, in order; what comes in fills the writable ones; control messages of any content are
 * answered or not, and cost nothing. Nothing is touched beside.
 */
import { expect } from "bun:test";
import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { GuestFault } from "../../../src/devices/virtio/guest-fault.ts";
import { bytesToRead } from "../../../src/ffi/file.ts";
import { close, pipe, send, take } from "../../machine/console/far-end.ts";
import { ConsoleRig, MULTIPORT } from "./console-rig.ts";
import type { RawDescriptor } from "./driver.ts";
import { model, ramOf, type Segment } from "./random-rings.ts";

const queueSize = 64;
/** Where buffers are: the rings and an indirect table are below. */
const [table, buffersAt] = [0x10_000, 0x20_000];
const tableEntries = 6;
/** Receive and transmit of port 0, control receive and transmit, receive and transmit of port 1. */
const queues = [0, 1, 2, 3, 4, 5] as const;
const headOfTable = 7;

const lengths = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 40 }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 5000 }) },
);
const buffer = fc.record({
  address: fc.integer({ min: 0, max: 0x1000 }).map((n) => n + buffersAt),
  length: lengths,
  write: fc.boolean(),
});
const wild = fc.record<RawDescriptor>({
  address: fc.oneof(
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    fc.bigInt({ min: 0n, max: 0x9000n }),
  ),
  length: fc.oneof(lengths, fc.integer({ min: 0, max: 0xffff_ffff })),
  flags: fc.integer({ min: 0, max: 0xffff }),
  next: fc.integer({ min: 0, max: 0xffff }),
});
const turn = fc.record({
  queue: fc.constantFrom(...queues),
  buffers: fc.array(buffer, { minLength: 1, maxLength: tableEntries }),
  /** Readable buffers first, as they must be; a driver that breaks the rules does not sort. */
  sorted: fc.oneof({ weight: 8, arbitrary: fc.constant(true) }, fc.boolean()),
  indirect: fc.boolean(),
  wild: fc.option(fc.record({ at: fc.nat(5), descriptor: wild }), { freq: 8 }),
  content: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  event: fc.option(fc.tuple(fc.nat(2), fc.nat(8), fc.nat(2)), { freq: 4 }),
  input: fc.uint8Array({ minLength: 0, maxLength: 60 }),
});
type Turn = typeof turn extends fc.Arbitrary<infer T> ? T : never;

const places = (segments: readonly Segment[], write: boolean): number[] =>
  segments
    .filter((segment) => segment.write === write)
    .flatMap(({ address, length }) => Array.from({ length }, (_, i) => Number(address) + i));

/** Lays a chain out; what the model sees of it. */
function offer(rig: ConsoleRig, { queue, buffers, sorted, indirect, wild, ...rest }: Turn) {
  const driver = rig.drivers[queue]!;
  const chain = sorted ? buffers.toSorted((a, b) => Number(a.write) - Number(b.write)) : buffers;
  const base = indirect ? table : driver.desc;
  for (const [i, { address, length, write }] of chain.entries()) {
    const last = i === chain.length - 1;
    const flags = (write ? 2 : 0) + (last ? 0 : 1);
    driver.write(base + 16 * i, { address, length, flags, next: last ? 0 : i + 1 });
  }
  const head = indirect ? headOfTable : 0;
  if (indirect)
    driver.describe(head, { address: table, length: 16 * chain.length, flags: 4, next: 0 });
  if (wild) driver.write(base + 16 * wild.at, wild.descriptor);
  const { content, event } = rest;
  const area = rig.ram.bytes(buffersAt, 0x3000);
  for (let i = 0; i < area.length; i++) area[i] = content[i % content.length]!;
  const memory = (at: bigint) => rig.ram.view(Number(at), 16);
  const segments = model(memory, ramOf(rig.ram.regions), driver.desc, queueSize, head);
  if (event && segments !== "fault") {
    const [id, kind, value] = event;
    const message = [id, 0, 0, 0, kind, 0, value, 0];
    for (const [i, at] of places(segments, false).slice(0, 8).entries()) {
      if (at >= buffersAt) rig.ram.bytes(at, 1)[0] = message[i]!;
    }
  }
  driver.publish(head);
  return { head, segments };
}

/** Runs so many random turns on one device. */
export function tryRandomConsole(runs: number): void {
  const folder = mkdtempSync(join(tmpdir(), "chv-random-console-"));
  const files = [0, 1].map((i) => openSync(join(folder, `out${i}`), "a+"));
  const pipes = [pipe(), pipe()];
  const far = [0, 1].map(
    (i) => ({ mode: "file", outFd: files[i]!, inFd: pipes[i]!.read }) as const,
  );
  const ports = [0, 1].map((i) => ({ name: `port.${i}`, console: i === 1 }));
  const rig = new ConsoleRig(far, MULTIPORT, { ports });
  const seen = { fault: 0, output: 0, input: 0, said: 0 };
  const restart = () => {
    rig.backend.stop();
    rig.ram.bytes(0, 0x9000).fill(0);
    rig.start();
    for (const port of [0, 1]) {
      rig.control(port, 6, 1); // PORT_OPEN: input flows
      while (bytesToRead(pipes[port]!.read) > 0) take(pipes[port]!.read);
      ftruncateSync(files[port]!, 0);
      sizes[port] = 0;
    }
  };
  const sizes = [0, 0];
  /** What port has put out since the last time. */
  const output = (port: number): Buffer => {
    const bytes = Buffer.alloc(1 << 16);
    const count = readSync(files[port]!, bytes, 0, bytes.length, sizes[port]!);
    sizes[port]! += count;
    return bytes.subarray(0, count);
  };
  let clean = false;
  const property = fc.property(turn, (wanted) => {
    if (!clean) restart();
    clean = false;
    const { queue } = wanted;
    const port = queue < 2 ? 0 : queue < 4 ? -1 : 1;
    const { head, segments } = offer(rig, wanted);
    if (segments === "fault") {
      // the message before it on a control receive queue is what finds it
      const needs = queue === 2 ? () => rig.control(0, 0, 1) : () => rig.backend.kicked(queue);
      if (port >= 0 && queue % 2 === 0) send(pipes[port]!.write, "x");
      expect(() => {
        needs();
        rig.settle();
      }).toThrow(GuestFault);
      seen.fault++;
      return;
    }
    const readable = places(segments, false);
    const writable = places(segments, true);
    if ([...readable, ...writable].some((at) => at < buffersAt)) {
      // the device is told to write over its rings: nothing but the guard is foretold
      try {
        rig.backend.kicked(queue);
        if (queue === 2) rig.control(0, 0, 1);
        rig.settle();
      } catch (error) {
        expect(error).toBeInstanceOf(GuestFault);
      }
      expect(rig.ram.guardsIntact).toBe(true);
      return;
    }
    const put = Buffer.from(readable.map((at) => rig.ram.bytes(at, 1)[0]!));
    if (port >= 0 && queue % 2 === 0) {
      send(
        pipes[port]!.write,
        Buffer.from(wanted.input)
          .toString("latin1")
          .replace(/[^\x20-\x7e]/g, "."),
      );
    }
    const typed = wanted.input.length;

    try {
      if (queue === 2) rig.control(0, 0, 1);
      rig.backend.kicked(queue);
      rig.settle();
    } catch (error) {
      expect(error).toBeInstanceOf(GuestFault); // room for no message
      expect([queue, writable.length < 8]).toEqual([2, true]);
      seen.fault++;
      return;
    }
    expect(rig.ram.guardsIntact).toBe(true);
    const used = rig.drivers[queue]!.collect();
    if (queue === 2) {
      expect(used).toEqual([{ head, written: 8 }]);
      seen.said++;
    } else if (port < 0) {
      expect(used).toEqual([{ head, written: 0 }]);
    } else if (queue % 2 === 1) {
      expect(used).toEqual([{ head, written: 0 }]);
      expect(Buffer.compare(output(port), put)).toBe(0);
      if (put.length > 0) seen.output++;
    } else if (writable.length === 0) {
      expect(used).toEqual(typed > 0 ? [{ head, written: 0 }] : used);
    } else {
      expect(used).toEqual(typed > 0 ? [{ head, written: Math.min(typed, writable.length) }] : []);
      if (typed > 0) seen.input++;
      return;
    }
    clean = queue === 1 || queue === 5; // control messages may have closed ports
  });
  try {
    fc.assert(property, { numRuns: runs, endOnFailure: true });
  } finally {
    rig.close();
    for (const { read, write } of pipes) for (const fd of [read, write]) close(fd);
    for (const fd of files) closeSync(fd);
    rmSync(folder, { recursive: true });
  }

  // the generator reaches everything
  for (const count of Object.values(seen)) expect(count).toBeGreaterThan(runs / 200);
  expect(rig.worker.warnings).toEqual([]);
}
