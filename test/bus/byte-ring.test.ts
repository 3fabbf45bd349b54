/** The byte ring against an array, around its positions' wrap, and between real threads. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { ByteRing } from "../../src/bus/byte-ring.ts";
import { hammer } from "./threads.ts";

const [writtenIndex, readIndex] = [0, 1];

/** A ring of `size` bytes whose positions stand at `start`. */
function ringAt(size: number, start: number, wake?: () => void): ByteRing {
  const buffer = new SharedArrayBuffer(ByteRing.bytesFor(size));
  const header = new Int32Array(buffer);
  header[writtenIndex] = header[readIndex] = start | 0;
  return new ByteRing(buffer, wake);
}

/** What a consumer of whole pieces sees of the next piece. */
const piece = (ring: ByteRing) => [
  ...ring.bytes.subarray(ring.readAt, ring.readAt + ring.contiguous),
];

test("a size that is no power of two is refused", () => {
  for (const size of [0, 12, 100, 4100]) expect(() => ringAt(size, 0)).toThrow(RangeError);
});

test.each([0, 2 ** 31 - 3, 2 ** 32 - 3])("is a queue of bytes, from position %p on", (start) => {
  const size = 8;
  const command = fc.oneof(
    fc.record({ push: fc.nat(255) }),
    fc.record({ pop: fc.constant(true) }),
    fc.record({ consume: fc.nat(size) }),
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
      const ring = ringAt(size, start);
      const model: number[] = [];
      for (const step of commands) {
        if ("push" in step) {
          const room = model.length < size;
          expect(ring.push(step.push)).toBe(room);
          if (room) model.push(step.push);
        } else if ("pop" in step) {
          expect(ring.pop()).toBe(model.shift() ?? -1);
        } else {
          const found = piece(ring).slice(0, step.consume);
          ring.consume(found.length);
          expect(found).toEqual(model.splice(0, found.length));
        }
        expect(ring.length).toBe(model.length);
        expect(ring.ready).toBe(model.length < size);
        expect(ring.contiguous > 0).toBe(model.length > 0);
      }
    }),
  );
});

test("a sleeping consumer is woken once, by the first byte", () => {
  let wakes = 0;
  const ring = ringAt(8, 0, () => wakes++);
  ring.push(1);
  expect(wakes).toBe(0); // nobody slept
  expect(ring.sleep()).toBe(false); // there is something to take first
  ring.push(2);
  expect(wakes).toBe(0);

  ring.consume(2);
  expect(ring.sleep()).toBe(true);
  ring.push(3);
  ring.push(4);

  expect(wakes).toBe(1);
});

test("a byte that finds no room wakes nobody and changes nothing", () => {
  let wakes = 0;
  const ring = ringAt(4, -1, () => wakes++);
  ring.sleep();
  for (const byte of [1, 2, 3, 4]) ring.push(byte);

  expect(ring.push(5)).toBe(false);
  expect(wakes).toBe(1);
  expect([1, 2, 3, 4, 5].map(() => ring.pop())).toEqual([1, 2, 3, 4, -1]);
});

test("between two threads every byte arrives in order, and the sleeper is always woken", async () => {
  const size = 64;
  const times = 20_000;
  const ring = ringAt(size, 2 ** 32 - 1000);
  const bell = new Int32Array(new SharedArrayBuffer(64));
  const task = { do: "push", buffer: ring.buffer, bell: bell.buffer, times } as const;
  const producer = hammer(task);
  let taken = 0;
  let wrong = 0;
  let longest = 0;

  while (taken < times) {
    const rung = Atomics.load(bell, 0);
    const { length, readAt, contiguous } = ring;
    longest = Math.max(longest, length);
    for (let i = 0; i < contiguous; i++) {
      if (ring.bytes[readAt + i] !== (taken++ & 0xff)) wrong++;
    }
    ring.consume(contiguous);
    if (taken < times && contiguous === 0 && ring.sleep()) {
      expect(Atomics.wait(bell, 0, rung, 60_000)).not.toBe("timed-out");
    }
  }
  await producer;

  expect([taken, wrong, ring.length]).toEqual([times, 0, 0]);
  expect(longest).toBeLessThanOrEqual(size);
}, 120_000);
