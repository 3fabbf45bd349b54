/** Every thread that lays the same things over the buffer gets the same bytes. */
import { expect, test } from "bun:test";
import { SharedState } from "../../src/bus/shared-state.ts";
import { struct, u8, u32 } from "../../src/ffi/struct.ts";

const Small = struct("small", 3, { a: u8, b: u8, c: u8 });
const Word = struct("word", 4, { value: u32 });

test("two threads that ask in the same order see the same bytes", () => {
  const buffer = new SharedArrayBuffer(1024);
  const lay = (state: SharedState) => ({
    small: state.struct(Small),
    lock: state.lock(),
    word: state.struct(Word),
    words: state.words(3),
  });
  const [one, other] = [lay(new SharedState(buffer)), lay(new SharedState(buffer))];

  one.small.c = 7;
  one.word.value = 0x1234_5678;
  one.words[2] = -1;
  one.lock.acquire();

  expect(other.small.c).toBe(7);
  expect(other.word.value).toBe(0x1234_5678);
  expect([...other.words]).toEqual([0, 0, -1]);
  expect(Atomics.load(other.lock.words, other.lock.index)).toBe(1);
});

test("nothing overlaps, and a lock shares its cache line with nothing", () => {
  const state = new SharedState(new SharedArrayBuffer(4096));
  const bytesOf = (at: number, length: number) => Array.from({ length }, (_, i) => at + i);
  const taken: number[] = [];
  for (let i = 0; i < 3; i++) {
    taken.push(...bytesOf(state.struct(Small).at, 3));
    const line = state.lock().index * 4;
    expect(line % 64).toBe(0);
    taken.push(...bytesOf(line, 64));
    const { byteOffset } = state.words(2);
    expect(byteOffset % 8).toBe(0);
    taken.push(...bytesOf(byteOffset, 8));
  }

  expect(new Set(taken).size).toBe(taken.length);
});

test("a machine that needs more than there is, is told so", () => {
  const state = new SharedState(new SharedArrayBuffer(64));
  state.words(16);

  expect(() => state.struct(Word)).toThrow(
    new RangeError("the machine's state needs more than 64 bytes"),
  );
});
