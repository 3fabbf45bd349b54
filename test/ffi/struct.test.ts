/** The layout rules of C on x86-64 (System V ABI, AMD64 supplement 1.0, section 3.1.2), told by hand. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  addr,
  array,
  bytes,
  f64,
  i32,
  nested,
  struct,
  u8,
  u16,
  u32,
  u64,
} from "../../src/ffi/struct.ts";

const Inner = struct("inner", 8, { kind: u8, length: u32 });
const Mixed = struct("mixed", 64, {
  a: u8, // 0
  b: u16, // 2
  c: u8, // 4
  d: u32, // 8
  e: u8, // 12
  f: u64, // 16
  g: bytes(3), // 24
  h: nested(Inner), // 28: aligned as its widest member
  i: array(u16, 3), // 36
  j: addr, // 48
  k: u8, // 56, and 7 bytes of padding
});

test("members lie at their natural alignment and the end is padded to the widest", () => {
  const { a, b, c, d, e, f, g, h, i, j, k } = Mixed.offsets;

  expect([a, b, c, d, e, f, g, h, i, j, k]).toEqual([0, 2, 4, 8, 12, 16, 24, 28, 36, 48, 56]);
  expect([Mixed.size, Mixed.align]).toEqual([64, 8]);
  expect([Inner.size, Inner.align]).toEqual([8, 4]);
});

test("a packed struct has no holes, and its size need not be round", () => {
  const Packed = struct("packed", 15, { a: u8, b: u32, c: addr, d: u16 }, { packed: true });

  expect(Packed.offsets).toEqual({ a: 0, b: 1, c: 5, d: 13 });
  expect(Packed.align).toBe(1);
});

test("a least alignment pads the size but moves no member", () => {
  const Aligned = struct("aligned", 16, { a: u32, b: u32, c: u8 }, { align: 8 });

  expect(Aligned.offsets).toEqual({ a: 0, b: 4, c: 8 });
  expect(Aligned.align).toBe(8);
});

test("a size that the header does not promise is refused", () => {
  expect(() => struct("wrong", 12, { a: u32, b: u64 }).offsets).toThrow(
    new RangeError("struct wrong is 16 bytes, its header says 12"),
  );
});

test("a field may not hide where the instance lies", () => {
  expect(() => struct("odd", 4, { at: u32 }).align).toThrow(TypeError);
  expect(() => new (struct("odd", 4, { view: u32 }))()).toThrow(TypeError);
});

test("fields are little-endian and touch their own bytes alone", () => {
  const memory = new Uint8Array(80).fill(0xee);
  const mixed = new Mixed(memory.buffer, 8);

  mixed.b = 0x1234;
  mixed.d = 0x89ab_cdef;
  mixed.f = 0x0123_4567_89ab_cdefn;
  mixed.h.length = 7;
  mixed.i.set(2, 0xbeef);
  mixed.j = 0x1f_1234_5678_9abc;

  const expected = new Uint8Array(80).fill(0xee);
  expected.set([0x34, 0x12], 10);
  expected.set([0xef, 0xcd, 0xab, 0x89], 16);
  expected.set([0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01], 24);
  expected.set([7, 0, 0, 0], 40);
  expected.set([0xef, 0xbe], 48);
  expected.set([0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12, 0x1f, 0], 56);
  expect(memory).toEqual(expected);
});

test("numbers come back unsigned, i32 signed, f64 exact", () => {
  const Numbers = struct("numbers", 24, { a: u8, b: u16, c: u32, d: i32, e: f64 });
  const numbers = new Numbers();

  numbers.a = -1;
  numbers.b = -1;
  numbers.c = -1;
  numbers.d = -5;
  numbers.e = 0.1;

  expect([numbers.a, numbers.b, numbers.c, numbers.d, numbers.e]).toEqual([
    0xff, 0xffff, 0xffff_ffff, -5, 0.1,
  ]);
});

test("an address keeps 53 bits", () => {
  const Address = struct("address", 8, { value: addr });
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      const address = new Address();
      address.value = value;

      expect(address.value).toBe(value);
      expect(address.view.getBigUint64(0, true)).toBe(BigInt(value));
    }),
  );
});

test("bytes lie over the memory; setting copies and zeroes the rest, also from themselves", () => {
  const Buffer = struct("buffer", 8, { data: bytes(8) });
  const buffer = new Buffer();

  buffer.data = new Uint8Array([1, 2, 3]);
  buffer.data[3] = 4;
  buffer.data = buffer.data.subarray(1, 4);

  expect([...new Uint8Array(buffer.view.buffer)]).toEqual([2, 3, 4, 0, 0, 0, 0, 0]);
  expect(() => {
    buffer.data = new Uint8Array(9);
  }).toThrow(RangeError);
});

test("arrays end where they end", () => {
  const { i } = new Mixed();

  expect(i.length).toBe(3);
  for (const index of [-1, 3, Number.NaN]) {
    expect(() => i.get(index)).toThrow(RangeError);
    expect(() => i.set(index, 1)).toThrow(RangeError);
  }
});

test("nested structs and arrays are written through, not replaced", () => {
  const mixed = new Mixed();

  expect(() => {
    mixed.h = new Inner();
  }).toThrow(TypeError);
  expect(() => {
    mixed.i = new Mixed().i;
  }).toThrow(TypeError);
});

test("one cursor walks a table", () => {
  const table = new Inner(new ArrayBuffer(3 * Inner.size));
  for (let row = 0; row < 3; row++) {
    table.at = row * Inner.size;
    table.length = row + 1;
  }

  expect([...new Uint32Array(table.view.buffer)]).toEqual([0, 1, 0, 2, 0, 3]);
});

test("a view that begins inside its buffer is respected, and memory beyond it is refused", () => {
  const view = new DataView(new ArrayBuffer(32), 8, Inner.size);
  const inner = new Inner(view);
  inner.length = 5;
  const outside = new Inner(view, Inner.size);

  expect(new Uint32Array(view.buffer)[3]).toBe(5);
  expect(() => outside.length).toThrow(RangeError);
  expect(() => {
    outside.kind = 1;
  }).toThrow(RangeError);
});

test("a struct lies over shared memory", () => {
  const memory = new SharedArrayBuffer(16);
  new Inner(memory, 8).length = 9;

  expect(new Inner(memory, 8).length).toBe(9);
});
