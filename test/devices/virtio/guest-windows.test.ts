/** Windows on guest RAM: what a range of guest memory is in the process, and where it ends. */
import { afterAll, expect, test } from "bun:test";
import fc from "fast-check";
import { GuestWindows, spanBytes } from "../../../src/devices/virtio/guest-windows.ts";
import { MapFlag, mmap, munmap, Prot } from "../../../src/ffi/memory.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
/** Two regions around a hole, the upper one of several windows; touched pages alone cost memory. */
const low = { start: 0, length: 8 * MiB };
const high = { start: 4 * GiB, length: 3 * GiB + 4096 };
const bytes = low.length + high.length;
const flags = MapFlag.private | MapFlag.anonymous | MapFlag.noReserve;
const base = mmap(0, bytes, Prot.read | Prot.write, flags);
afterAll(() => munmap(base, bytes));
const windows = new GuestWindows([
  { ...low, hostAddress: base },
  { ...high, hostAddress: base + low.length },
]);

test.each([
  ["the first byte", 0, 1, base],
  ["the whole of a region", 0, low.length, base],
  ["a byte too many", 0, low.length + 1, -1],
  ["the last byte", low.length - 1, 1, base + low.length - 1],
  ["the byte behind it", low.length, 1, -1],
  ["the hole", GiB, 16, -1],
  ["a range into the second region", 4 * GiB - 1, 2, -1],
  ["the second region", 4 * GiB, high.length, base + low.length],
  ["an address near 2^64", 2 ** 64 - 4096, 8192, -1],
  ["the last address that a driver can write", 2 ** 64, 2 ** 32 - 1, -1],
] as const)("%s", (_, address, length, expected) => {
  expect(windows.hostAddress(address, length)).toBe(expected);
});

test("a value on the seam of two windows reads as it was written", () => {
  for (const seam of [GiB - spanBytes, GiB, 2 * (GiB - spanBytes), 3 * GiB]) {
    const address = high.start + seam - 2;
    for (let i = 0; i < 4; i++) windows.setUint8(address + i, 0x10 + i);

    expect(windows.getUint32(address)).toBe(0x13121110);
  }
});

test("a window holds every range of up to its span, and no longer ones", () => {
  const end = high.start + high.length;
  fc.assert(
    fc.property(
      fc.integer({ min: high.start, max: end - 1 }),
      fc.integer({ min: 1, max: spanBytes }),
      (start, wanted) => {
        const length = Math.min(wanted, end - start);

        const window = windows.windowOf(start, length);

        expect(window).toBeGreaterThanOrEqual(0);
        const view = windows.view(window);
        expect(view.byteLength).toBeLessThanOrEqual(GiB);
        const at = windows.offsetOf(start);
        expect(at + length).toBeLessThanOrEqual(view.byteLength);
      },
    ),
  );
  expect(windows.windowOf(high.start, spanBytes + 1)).toBe(-1);
  expect(windows.windowOf(end - 1, 2)).toBe(-1);
});

test("a byte outside RAM is an error of the caller's", () => {
  expect(() => windows.getUint8(low.length)).toThrow(RangeError);
  expect(() => windows.setUint8(-1, 0)).toThrow(RangeError);
  expect(() => windows.getUint32(low.length - 3)).toThrow(RangeError);
});

test("ring memory is one exact window", () => {
  const address = high.start + GiB - 32;
  windows.setUint8(address, 7);

  const ring = windows.exactly(address, 64)!;

  expect(ring.byteLength).toBe(64);
  expect(new Uint8Array(ring)[0]).toBe(7);
  expect(windows.exactly(low.length - 63, 64)).toBeUndefined();
});
