/** Windows on guest RAM: what a range of guest memory is in the process, and where it ends. */
import { afterAll, expect, test } from "bun:test";
import fc from "fast-check";
import { GuestWindows, spanBytes } from "../../../src/devices/virtio/guest-windows.ts";
import { close, truncate } from "../../../src/ffi/file.ts";
import { MapFlag, memfd, mmap, munmap, Prot } from "../../../src/ffi/memory.ts";

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
  for (const seam of [GiB, GiB + spanBytes, 2 * GiB, 3 * GiB]) {
    const address = high.start + seam - 2;
    for (let i = 0; i < 4; i++) windows.setUint8(address + i, 0x10 + i);

    expect(windows.getUint32(address)).toBe(0x13121110);
    windows.setUint16(address + 1, 0xbbaa);
    expect(windows.getUint32(address)).toBe(0x13bbaa10);
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
        expect(view.byteLength).toBeLessThanOrEqual(GiB + spanBytes);
        const at = windows.offset;
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
  expect(() => windows.setUint16(low.length - 1, 0)).toThrow(RangeError);
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

/** Persistent memory: two pages, of whose file there is only the first any more. */
function withPersistent(use: (windows: GuestWindows, start: number, host: number) => void): void {
  const fd = memfd("chv-test-pmem", false);
  truncate(fd, 8192);
  const host = mmap(0, 8192, Prot.read | Prot.write, MapFlag.shared, fd);
  const start = 16 * GiB;
  const ram = [{ ...low, hostAddress: base }];
  try {
    const windows = new GuestWindows(ram, [{ start, length: 8192, hostAddress: host }]);
    windows.setUint8(start + 4095, 0x12); // while both pages are there
    windows.setUint8(start + 4096, 0x34);
    truncate(fd, 4096);
    use(windows, start, host);
  } finally {
    munmap(host, 8192);
    close(fd);
  }
}

test("persistent memory has addresses for buffers, and no windows for rings", () => {
  withPersistent((windows, start, host) => {
    expect(windows.hostAddress(start + 4, 8188)).toBe(host + 4);
    expect(windows.hostAddress(start, 8193)).toBe(-1);
    expect(windows.ramAddress(start, 1)).toBe(-1);
    expect(windows.ramAddress(low.length - 1, 1)).toBe(base + low.length - 1);
    expect(windows.windowOf(start, 16)).toBe(-1);
    expect(windows.exactly(start, 16)).toBeUndefined();
    expect(windows.regions.map((region) => region.start)).toEqual([0, start]);
  });
});

test("where its file has been cut short it reads 0, keeps nothing, and hurts nobody", () => {
  withPersistent((windows, start) => {
    expect(windows.getUint8(start + 4095)).toBe(0x12);
    windows.setUint8(start + 4096, 7);
    expect([4096, 8191].map((at) => windows.getUint8(start + at))).toEqual([0, 0]);
    expect(windows.getUint32(start + 4094)).toBe(0); // half of it is gone
    expect(windows.getUint32(start + 4092)).toBe(0x1200_0000);
    expect(() => windows.getUint32(start + 8190)).toThrow(RangeError);
  });
});
