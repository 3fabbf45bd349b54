/** The rings as far ends use them: pieces in place, around the ring's end. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { ByteRing } from "../../../src/bus/byte-ring.ts";
import { Block } from "../../../src/ffi/block.ts";
import { copyFrom, copyTo } from "../../../src/ffi/memory.ts";
import { RecentOutput, RingInput, RingOutput } from "../../../src/machine/console/rings.ts";

const ring = (size: number) => new SharedArrayBuffer(ByteRing.bytesFor(size));
/** Pieces of input, and how much of each is taken at a time. */
const pieces = fc.array(fc.tuple(fc.uint8Array({ maxLength: 20 }), fc.integer({ min: 1, max: 9 })));

test("output leaves a ring in order, in pieces that lie where it says", () => {
  fc.assert(
    fc.property(pieces, (said) => {
      const buffer = ring(16);
      const device = new ByteRing(buffer);
      const output = new RingOutput(buffer);
      const put: number[] = [];
      const got: number[] = [];
      for (const [bytes, most] of said) {
        for (const byte of bytes) if (device.push(byte)) put.push(byte);
        const count = Math.min(output.look(), most);
        got.push(...copyFrom(output.address, count));
        output.consume(count);
      }
      for (let left = output.look(); left > 0; left = output.look()) {
        got.push(...copyFrom(output.address, left));
        output.consume(left);
      }
      expect(got).toEqual(put);
      expect(output.sleep()).toBe(true);
    }),
  );
});

test("input enters a ring in order, and never more than there is room for", () => {
  fc.assert(
    fc.property(pieces, (typed) => {
      const buffer = ring(16);
      const device = new ByteRing(buffer);
      const input = new RingInput(buffer);
      const put: number[] = [];
      const got: number[] = [];
      for (const [bytes, taken] of typed) {
        const count = Math.min(input.look(), bytes.length);
        copyTo(input.address, bytes.subarray(0, count));
        input.produced(count);
        put.push(...bytes.subarray(0, count));
        expect(device.length).toBeLessThanOrEqual(16);
        for (let i = 0; i < taken; i++) {
          const byte = device.pop();
          if (byte >= 0) got.push(byte);
        }
      }
      for (let byte = device.pop(); byte >= 0; byte = device.pop()) got.push(byte);
      expect(got).toEqual(put);
      expect(input.sleep()).toBe(false); // nobody says when there is room
    }),
  );
});

test("input wakes a device that sleeps", () => {
  const buffer = ring(16);
  let wakes = 0;
  const device = new ByteRing(buffer, () => wakes++);
  const input = new ByteRing(buffer, () => wakes++);
  expect(device.sleep()).toBe(true);
  input.produce(1);
  input.produce(1);

  expect(wakes).toBe(1);
});

test("of output from elsewhere the last bytes are kept, however large its pieces are", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 100 })), (said) => {
      const all = said.flatMap((bytes) => [...bytes]);
      const block = new Block(all.length + 1);
      block.bytes.set(all);
      let at = 0;
      const source = {
        look: () => all.length - at,
        get address() {
          return block.address + at;
        },
        consume: (count: number) => void (at += count),
        sleep: () => true,
      };
      const buffer = ring(32);
      const output = new RecentOutput(source, buffer);
      for (const { length } of said) output.consume(length);

      expect(output.look()).toBe(0);
      const recent = [...new ByteRing(buffer).recent(16)];
      expect(recent).toEqual([...new Array(16).fill(0), ...all].slice(-16));
    }),
  );
});
