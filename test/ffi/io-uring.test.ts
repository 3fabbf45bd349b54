/** io_uring against a temporary file: what comes back is what pread and pwrite of node:fs say. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Block } from "../../src/ffi/block.ts";
import { Epoll, EpollSet } from "../../src/ffi/epoll.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, RWF_DSYNC } from "../../src/ffi/file-vector.ts";
import { IoUring } from "../../src/ffi/io-uring.ts";
import { Errno, SystemError } from "../../src/ffi/libc.ts";
import { copyFrom, MapFlag, mmap, munmap, Prot } from "../../src/ffi/memory.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-uring-"));
const fd = openSync(join(folder, "file"), "w+");
const opened = IoUring.open(8);
const ring = opened as IoUring;
const bytes = Uint8Array.from({ length: 16384 }, (_, i) => (i * 7 + (i >> 8)) & 0xff);

beforeAll(() => {
  expect(opened).not.toBeInstanceOf(SystemError);
});
afterAll(() => {
  ring.close();
  closeSync(fd);
  rmSync(folder, { recursive: true });
});

/** Submits, and waits until `count` requests have ended: their results by token. */
function results(count: number): Map<number, number> {
  const found = new Map<number, number>();
  const epoll = new EpollSet();
  epoll.add(ring.fd, Epoll.in, 0);
  ring.submit();
  while (found.size < count) {
    while (ring.next()) found.set(ring.token, ring.result);
    if (found.size < count) epoll.wait(10_000);
    ring.submit();
  }
  epoll.close();
  return found;
}

function iovecs(parts: readonly { address: number; length: number }[]): Block {
  const table = new Block(16 * parts.length);
  for (const [i, { address, length }] of parts.entries()) {
    table.view.setBigUint64(16 * i, BigInt(address), true);
    table.view.setBigUint64(16 * i + 8, BigInt(length), true);
  }
  return table;
}

test("vectors and single buffers arrive in their places", () => {
  writeSync(fd, bytes, 0, bytes.length, 0);
  const [a, b, c] = [new Block(100), new Block(4000), new Block(512)];
  const table = iovecs([
    { address: a.address, length: 100 },
    { address: b.address, length: 4000 },
  ]);

  ring.readv(fd, table.address, 2, 1000, 7);
  ring.read(fd, c.address, 512, 8192, 0xffff_ffff);

  expect(results(2)).toEqual(
    new Map([
      [7, 4100],
      [0xffff_ffff, 512],
    ]),
  );
  expect(a.bytes).toEqual(bytes.subarray(1000, 1100));
  expect(b.bytes).toEqual(bytes.subarray(1100, 5100));
  expect(c.bytes).toEqual(bytes.subarray(8192, 8704));
});

test("writes land where they were meant to, also beyond 4 GiB", () => {
  const at = 5 * 2 ** 30 + 512;
  const [a, b] = [new Block(512), new Block(1024)];
  a.bytes.fill(0x11);
  b.bytes.fill(0x22);
  const table = iovecs([
    { address: a.address, length: 512 },
    { address: b.address, length: 1024 },
  ]);

  ring.writev(fd, table.address, 2, at, 0, 1);
  ring.write(fd, a.address, 512, at + 4096, 0, 2);
  ring.dataSync(fd, 3);

  expect(results(3)).toEqual(
    new Map([
      [1, 1536],
      [2, 512],
      [3, 0],
    ]),
  );
  const back = new Uint8Array(4096 + 512);
  readSync(fd, back, 0, back.length, at);
  const expected = new Uint8Array(4096 + 512);
  expected.fill(0x11, 0, 512).fill(0x22, 512, 1536).fill(0x11, 4096);
  expect(back).toEqual(expected);
});

test("a hole is punched", () => {
  writeSync(fd, bytes, 0, bytes.length, 0);

  ring.allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192, 9);

  expect(results(1)).toEqual(new Map([[9, 0]]));
  const back = new Uint8Array(bytes.length);
  readSync(fd, back, 0, back.length, 0);
  expect(back).toEqual(bytes.slice().fill(0, 4096, 12288));
});

test("failures come as minus the errno, the end of the file as a short count", () => {
  const block = new Block(4096);
  const { size } = fstatSync(fd);

  ring.read(-1, block.address, 4096, 0, 1);
  ring.read(fd, block.address, 4096, size - 100, 2);
  ring.read(fd, 0x10, 4096, 0, 3);

  const found = results(3);
  expect(found.get(1)).toBe(-9); // EBADF
  expect(found.get(2)).toBe(100);
  expect(found.get(3)).toBe(-14); // EFAULT
});

test("entries are used again and again, batch by batch", () => {
  writeSync(fd, bytes, 0, bytes.length, 0);
  const blocks = Array.from({ length: 8 }, () => new Block(64));
  for (let round = 0; round < 32; round++) {
    for (const [i, block] of blocks.entries()) {
      ring.read(fd, block.address, 64, round * 64 + i * 2048, round * 8 + i);
    }
    const found = results(8);
    for (const [i, block] of blocks.entries()) {
      expect(found.get(round * 8 + i)).toBe(64);
      const from = round * 64 + i * 2048;
      expect(block.bytes).toEqual(bytes.subarray(from, from + 64));
    }
  }
});

test("a request more than the ring has entries is the caller's error, and hurts no other", () => {
  const block = new Block(64);
  for (let i = 0; i < 8; i++) ring.read(fd, block.address, 64, 0, i);

  expect(() => ring.read(fd, block.address, 64, 0, 8)).toThrow(RangeError);

  expect(results(8).size).toBe(8);
});

test("where the host refuses a ring, the error says why", () => {
  const error = IoUring.open(0) as SystemError;

  expect(error).toBeInstanceOf(SystemError);
  expect(error.errno).toBe(Errno.EINVAL);
});

test("what must be stable when it ends is begun on a thread of the kernel's, the rest at once", () => {
  const ring = IoUring.open(4);
  if (ring instanceof SystemError) throw ring;
  const memory = new Block(16);
  ring.write(0, memory.address, 16, 0, 0, 1);
  ring.write(0, memory.address, 16, 0, RWF_DSYNC, 2);
  ring.writev(0, memory.address, 1, 0, RWF_DSYNC, 3);
  ring.read(0, memory.address, 16, 0, 4);

  // struct io_uring_sqe: the flags are its second byte, IOSQE_ASYNC is 1 << 4; IORING_OFF_SQES is 0x10000000
  const entries = mmap(0, 4 * 64, Prot.read, MapFlag.shared, ring.fd, 0x1000_0000);
  const flags = [0, 1, 2, 3].map((i) => copyFrom(entries + i * 64 + 1, 1)[0]);

  expect(flags).toEqual([0, 16, 16, 0]);
  munmap(entries, 4 * 64);
  ring.close();
});
