/** The event ring against a list, when it is full, and between real threads. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { callSite } from "../../src/bus/call-site.ts";
import { EventRecord, EventRing, eventTextBytes } from "../../src/bus/event-ring.ts";
import { EventKind, LogLevel } from "../../src/bus/events.ts";
import { hammer } from "./threads.ts";

const [writtenIndex, readIndex] = [1, 2];
const capacity = (EventRing.byteLength - 64) / EventRecord.size;
/** A kind that may fill the ring to the end. */
const critical = EventKind.threadFailed;

/** A ring whose positions stand at `start`. */
function ringAt(start = 0, source = 3): EventRing {
  const buffer = new SharedArrayBuffer(EventRing.byteLength);
  const header = new Int32Array(buffer);
  header[writtenIndex] = header[readIndex] = start | 0;
  return new EventRing(buffer, source);
}

function takeAll(ring: EventRing): NonNullable<ReturnType<EventRing["take"]>>[] {
  const events = [];
  for (let event = ring.take(); event; event = ring.take()) events.push(event);
  return events;
}

test("an event comes out as it went in, with its source and time", () => {
  const ring = ringAt();
  const before = Bun.nanoseconds();
  ring.emit(7, 2 ** 52, -0.5, "größe");
  ring.emit(8, 1, 2);

  const [first, second] = takeAll(ring);

  expect(first).toMatchObject({ kind: 7, source: 3, a: 2 ** 52, b: -0.5, text: "größe" });
  expect(second).toMatchObject({ kind: 8, source: 3, a: 1, b: 2, text: "" });
  expect(second!.timeNs).toBeGreaterThanOrEqual(first!.timeNs);
  expect(before).toBeGreaterThan(0);
  expect(ring.take()).toBeUndefined();
});

function warn(ring: EventRing, text: string): void {
  ring.log(LogLevel.error, text, 1);
}

test("a line for the log has its level, and where it was written", () => {
  const ring = ringAt();
  const { line } = callSite(new Error().stack ?? "", 1);
  ring.log(LogLevel.warn, "größe");
  warn(ring, `${"x".repeat(eventTextBytes - 1)}€`);

  const [first, second] = takeAll(ring);

  expect(first).toMatchObject({ kind: EventKind.log, a: LogLevel.warn, b: 0, text: "größe" });
  expect(first!.place).toEndWith(`test.ts:${line + 1}:1`);
  expect(second!.place).toEndWith(`test.ts:${line + 2}:1`);
  expect(second!.text).toBe("x".repeat(eventTextBytes - second!.place!.length));
});

test("text that is too long is cut between two characters", () => {
  const ring = ringAt();
  ring.emit(1, 0, 0, "x".repeat(eventTextBytes));
  ring.emit(1, 0, 0, `${"x".repeat(eventTextBytes - 1)}€uro`);
  ring.emit(1, 0, 0, "𝄞".repeat(eventTextBytes));

  expect(takeAll(ring).map(({ text }) => text)).toEqual([
    "x".repeat(eventTextBytes),
    "x".repeat(eventTextBytes - 1),
    "𝄞".repeat(eventTextBytes / 4),
  ]);
});

test.each([0, 2 ** 31 - 700, 2 ** 32 - 700])("is a queue from position %p on", (start) => {
  const ring = ringAt(start);
  const model: number[] = [];
  let lost = 0;
  let next = 0;
  const command = fc.record({ emit: fc.nat(capacity + 100), take: fc.nat(capacity + 100) });
  fc.assert(
    fc.property(command, ({ emit, take }) => {
      for (let i = 0; i < emit; i++) {
        ring.emit(critical, next, 0);
        if (model.length < capacity) model.push(next);
        else lost++;
        next++;
      }
      for (let i = 0; i < take; i++) expect(ring.take()?.a).toBe(model.shift() as number);
      expect(ring.takeLost()).toBe(lost);
      lost = 0;
    }),
    { numRuns: 15 },
  );
  expect(takeAll(ring).map(({ a }) => a)).toEqual(model);
});

test("a full ring keeps what it has and counts the rest, once", () => {
  const ring = ringAt();
  for (let i = 0; i < capacity + 5; i++) ring.emit(critical, i, 0, "kept");

  expect(takeAll(ring).map(({ a }) => a)).toEqual(Array.from({ length: capacity }, (_, i) => i));
  expect(ring.takeLost()).toBe(5);
  expect(ring.takeLost()).toBe(0);
});

test("a ring full of chatter still takes what decides the machine's fate", () => {
  const ring = ringAt();
  for (let i = 0; i < 2 * capacity; i++) ring.emit(EventKind.debugCode, i, 0);
  for (const kind of [EventKind.reset, EventKind.poweroff, EventKind.badExit])
    ring.emit(kind, 0, 0);

  const kinds = takeAll(ring).map(({ kind }) => kind);

  expect(kinds.slice(-3)).toEqual([EventKind.reset, EventKind.poweroff, EventKind.badExit]);
  expect(ring.takeLost()).toBe(2 * capacity - kinds.length + 3);
});

test("arrival resolves at once when there is something, and else with the next event", async () => {
  const ring = ringAt();
  ring.emit(1, 1, 0);
  await ring.arrival();
  ring.take();

  let arrived = false;
  const arrival = ring.arrival().then(() => {
    arrived = true;
  });
  await Bun.sleep(1);
  expect(arrived).toBe(false);
  ring.emit(1, 2, 0);
  await arrival;

  expect(ring.take()?.a).toBe(2);
});

test("threads that emit at once lose and mix up nothing, and the reader sleeps between", async () => {
  const ring = ringAt(2 ** 32 - 1000);
  const times = 5000;
  const { buffer } = ring;
  const writers = [5, 6].map((source) =>
    hammer({ do: "emit", buffer, source, times, patient: true }),
  );
  const seen = [0, 0, 0, 0, 0, 0, 0];
  let wrong = 0;

  while (seen[5]! + seen[6]! < 2 * times) {
    await ring.arrival();
    for (const { kind, source, a, b, text } of takeAll(ring)) {
      const expected = seen[source]!++;
      if (kind !== source || a !== expected || b !== -expected) wrong++;
      if (text !== `event ${expected}`) wrong++;
    }
  }
  await Promise.all(writers);

  expect([wrong, ...seen]).toEqual([0, 0, 0, 0, 0, 0, times, times]);
  expect(ring.takeLost()).toBe(0);
});

test("threads that do not wait for the reader lose events, and every one is counted", async () => {
  const ring = ringAt();
  const times = 3000;
  const { buffer } = ring;

  await Promise.all(
    [5, 6].map((source) => hammer({ do: "emit", buffer, source, times, patient: false })),
  );

  const kept = takeAll(ring).length;
  expect(kept).toBe(capacity);
  expect(kept + ring.takeLost()).toBe(2 * times);
});
