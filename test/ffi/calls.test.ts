/** libc's calls against the kernel itself: memory that stays, descriptors that wake, errors that say why. */
import { expect, test } from "bun:test";
import {
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allocate, Block, sharedAddress, windowOn } from "../../src/ffi/block.ts";
import { monotonicNs } from "../../src/ffi/clock.ts";
import { armTimerfd, createTimerfd, Epoll, EpollSet } from "../../src/ffi/epoll.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../../src/ffi/eventfd.ts";
import {
  close,
  duplicate,
  link,
  Open,
  open,
  pread,
  readLink,
  statusFlags,
} from "../../src/ffi/file.ts";
import { linkStatusAt, statusAt, statusOf } from "../../src/ffi/file-status.ts";
import { cString, SystemError } from "../../src/ffi/libc.ts";
import { copyFrom, copyTo } from "../../src/ffi/memory.ts";
import { pollEvents } from "../../src/ffi/poll.ts";
import { struct, u32 } from "../../src/ffi/struct.ts";
import { listenUnix } from "../../src/ffi/unix-socket.ts";

test("a block's address stays, through collections and whatever is done with its views", () => {
  const blocks = Array.from({ length: 300 }, (_, i) => new Block(8 + (i % 5) * 700));
  for (const [i, block] of blocks.entries()) {
    block.view.setUint32(0, i, true);
    new Uint8Array(block.bytes.buffer).fill(7, 4, 8);
  }
  for (let i = 0; i < 3; i++) {
    Array.from({ length: 20_000 }, () => new Uint8Array(64));
    Bun.gc(true);
  }

  for (const [i, block] of blocks.entries()) {
    expect([...copyFrom(block.address, 8)]).toEqual([i & 0xff, i >> 8, 0, 0, 7, 7, 7, 7]);
    copyTo(block.address, new Uint8Array([1, 2, 3, 4]));
    expect(block.view.getUint32(0, true)).toBe(0x0403_0201);
  }
});

test("a struct's block has room behind it for a flexible array", () => {
  const { fields, view, address } = allocate(struct("head", 4, { count: u32 }), 8);
  fields.count = 0xffff_ffff;
  view.setUint32(8, 5, true);

  expect([...copyFrom(address, 12)]).toEqual([255, 255, 255, 255, 0, 0, 0, 0, 5, 0, 0, 0]);
});

test("shared memory and windows are the same bytes", () => {
  const shared = new SharedArrayBuffer(4096);
  const window = new Uint8Array(windowOn(sharedAddress(shared) + 100, 10));
  window[3] = 9;

  expect(new Uint8Array(shared)[103]).toBe(9);
});

test("an eventfd wakes its set with the token, once until it is drained", () => {
  const set = new EpollSet();
  const fd = createEventfd();
  set.add(fd, Epoll.in, 0xffff_fff0);
  expect(set.wait(0)).toBe(0);

  signalEventfd(fd);
  signalEventfd(fd);
  expect(set.wait(1000)).toBe(1);
  expect([set.tokenAt(0), set.eventsAt(0)]).toEqual([0xffff_fff0, Epoll.in]);
  expect(pollEvents(fd, Epoll.in)).toBe(Epoll.in);
  expect([drainEventfd(fd), drainEventfd(fd)]).toEqual([true, false]);
  expect([set.wait(0), pollEvents(fd, Epoll.in)]).toEqual([0, 0]);

  set.modify(fd, 0, 1);
  signalEventfd(fd);
  expect(set.wait(0)).toBe(0);
  set.remove(fd);
  expect(() => set.modify(fd, 0, 1)).toThrow("epoll_ctl(MOD): ENOENT");
  close(fd);
  set.close();
});

test("a timerfd fires at its moment, also one that is past, and not when disarmed", () => {
  const set = new EpollSet();
  const fd = createTimerfd();
  set.add(fd, Epoll.in, 1);

  armTimerfd(fd, monotonicNs() - 5e9);
  expect(set.wait(1000)).toBe(1);
  expect(drainEventfd(fd)).toBe(true);
  const moment = monotonicNs() + 3e6;
  armTimerfd(fd, moment);
  expect(set.wait(10_000)).toBe(1);
  expect(monotonicNs()).toBeGreaterThanOrEqual(moment);
  drainEventfd(fd);
  armTimerfd(fd, monotonicNs() + 1e6);
  armTimerfd(fd, 0);
  expect(set.wait(5)).toBe(0);
  close(fd);
  set.close();
});

test("the clock is the kernel's monotonic one", () => {
  const [uptime] = readFileSync("/proc/uptime", "utf8").split(" ").map(Number) as [number];
  const seconds = monotonicNs() / 1e9;

  // less what the host was suspended for, which uptime counts
  expect(seconds).toBeGreaterThan(0);
  expect(seconds - uptime).toBeLessThan(60);
});

test("descriptors are closed on exec, duplicates too, and share their flags", () => {
  const fd = open("/dev/null", Open.writeOnly | Open.nonBlock);
  const copy = duplicate(fd);
  const flags = (of: number) =>
    Number.parseInt(/flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${of}`, "utf8"))![1]!, 8);

  for (const each of [fd, copy]) {
    expect(flags(each) & Open.cloexec).toBe(Open.cloexec);
    expect(readlinkSync(`/proc/self/fd/${each}`)).toBe("/dev/null");
    expect(statusFlags(each) & (Open.nonBlock | 3)).toBe(Open.nonBlock | Open.writeOnly);
    close(each);
  }
  expect(statusFlags(fd)).toBe(-9); // EBADF
  expect(() => close(fd)).toThrow("close: EBADF");
});

test("pread gives what there is, into an array or at an address", () => {
  const fd = open("/proc/self/exe", Open.readOnly);
  const head = new Uint8Array(4);
  const block = new Block(4);

  expect([pread(fd, head, 4, 0), pread(fd, block.address, 4, 0)]).toEqual([4, 4]);
  expect([...head]).toEqual([0x7f, 0x45, 0x4c, 0x46]); // ELF
  expect(block.bytes).toEqual(head);
  expect(pread(fd, head, 4, 2 ** 40)).toBe(0);
  close(fd);
});

test("what a file is, by descriptor and by name", () => {
  const folder = mkdtempSync(join(tmpdir(), "chv-calls-"));
  const at = (name: string) => join(folder, name);
  writeFileSync(at("file"), new Uint8Array(70_000));
  truncateSync(at("file"), 2 ** 33 + 5); // more than 32 bits
  link(at("file"), at("second"));
  symlinkSync("file", at("link"));
  Bun.spawnSync(["mkfifo", at("pipe")]);
  close(listenUnix(at("socket"), 1));
  const fd = open(at("link"), Open.readOnly);
  try {
    const file = { kind: "file", size: 2 ** 33 + 5 };
    expect([statusOf(fd), statusAt(at("link")), statusAt(at("second"))]).toMatchObject([
      ...[file, file, file],
    ]);
    expect(linkStatusAt(at("link"))).toMatchObject({ kind: "other", size: 4 });
    expect(readLink(at("link"))).toBe("file");
    const names = [folder, at("pipe"), at("socket"), "/dev/null"];
    expect(names.map((name) => statusAt(name)?.kind)).toEqual([
      ...(["folder", "pipe", "socket", "other"] as const),
    ]);
    expect([statusAt(at("none")), linkStatusAt(at("file/none"))]).toEqual([undefined, undefined]);
    expect(() => link(at("file"), at("pipe"))).toThrow(`link ${at("pipe")}: EEXIST`);
    expect(() => readLink(at("file"))).toThrow("readlink: EINVAL");
  } finally {
    close(fd);
    rmSync(folder, { recursive: true });
  }
  expect(() => statusOf(fd)).toThrow("fstat: EBADF");
});

test("errors carry the call, errno's name and words", () => {
  try {
    open("/nowhere/at/all", Open.readOnly);
    throw new Error("opened");
  } catch (error) {
    const { message, code, errno, reason } = error as SystemError;
    expect(error).toBeInstanceOf(SystemError);
    expect({ message, code, errno, reason }).toEqual({
      message: "open /nowhere/at/all: ENOENT",
      code: "ENOENT",
      errno: 2,
      reason: "no such file or directory",
    });
  }
});

test("a name with a NUL is refused, not cut short", () => {
  expect(() => cString("/etc/passwd\0.txt")).toThrow(RangeError);
  expect([...cString("é")]).toEqual([0xc3, 0xa9, 0]);
});
