/** What an I/O worker waits on, over a real epoll set and eventfds. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { Epoll, EpollSet } from "../../src/ffi/epoll.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../../src/ffi/eventfd.ts";
import { close } from "../../src/ffi/file.ts";
import { Watcher } from "../../src/machine/watcher.ts";

const firstToken = 64;
let epoll: EpollSet;
let watcher: Watcher;
let fds: [number, number];

beforeEach(() => {
  epoll = new EpollSet();
  watcher = new Watcher(epoll, firstToken);
  fds = [createEventfd(), createEventfd()];
});
afterEach(() => {
  epoll.close();
  for (const fd of fds) close(fd);
});

/** Handles what there is, as the worker does. */
function round(): number {
  const count = epoll.wait(0);
  for (let i = 0; i < count; i++) {
    expect(epoll.tokenAt(i)).toBeGreaterThanOrEqual(firstToken);
    watcher.handle(epoll.tokenAt(i), epoll.eventsAt(i));
  }
  return count;
}

test("each descriptor calls its own handler, with epoll's events, as long as it is ready", () => {
  const seen: [number, number][] = [];
  for (const fd of fds) watcher.watch(fd, Epoll.in, (events) => seen.push([fd, events]));
  expect(round()).toBe(0);

  signalEventfd(fds[1]);
  round();
  round();
  drainEventfd(fds[1]);
  round();

  expect(seen).toEqual([
    [fds[1], Epoll.in],
    [fds[1], Epoll.in],
  ]);
});

test("what is no longer watched is not heard, though its event was on the way", () => {
  const seen: number[] = [];
  watcher.watch(fds[0], Epoll.in, () => {
    seen.push(0);
    watcher.unwatch(fds[1]);
  });
  watcher.watch(fds[1], Epoll.in, () => {
    seen.push(1);
    watcher.unwatch(fds[0]);
  });
  signalEventfd(fds[0]);
  signalEventfd(fds[1]);

  expect(round()).toBe(2);
  expect(seen.length).toBe(1);
  expect(round()).toBe(1);
  expect(new Set(seen).size).toBe(1);
});

test("a descriptor can be watched again; a stale event does not reach the new handler", () => {
  const seen: string[] = [];
  watcher.watch(fds[0], Epoll.in, () => seen.push("old"));
  signalEventfd(fds[0]);
  expect(epoll.wait(0)).toBe(1);
  const stale = epoll.tokenAt(0);

  watcher.unwatch(fds[0]);
  watcher.watch(fds[0], Epoll.in, () => seen.push("new"));
  watcher.handle(stale, Epoll.in);
  expect(seen).toEqual([]);

  round();
  expect(seen).toEqual(["new"]);
});

test("what was never watched can be let go of", () => {
  watcher.unwatch(fds[0]);
  expect(round()).toBe(0);
});

test("after four milliards of watches tokens come round again, past those in use", () => {
  const last = new Watcher(epoll, firstToken, 2 ** 32 - 1);
  const seen: number[] = [];
  last.watch(fds[0], Epoll.in, () => seen.push(0)); // the last there is
  last.watch(fds[1], Epoll.in, () => seen.push(1)); // the first again
  for (const fd of fds) signalEventfd(fd);
  const handle = () => {
    const count = epoll.wait(0);
    for (let i = 0; i < count; i++) last.handle(epoll.tokenAt(i), epoll.eventsAt(i));
  };
  handle();
  expect(seen.toSorted()).toEqual([0, 1]);

  const round = new Watcher(epoll, 2 ** 32 - 2);
  for (const fd of fds) last.unwatch(fd);
  for (let i = 0; i < 5; i++) {
    round.watch(fds[0], Epoll.in, () => {});
    if (i === 0) round.watch(fds[1], Epoll.in, () => seen.push(1)); // keeps its token
    round.unwatch(fds[0]);
  }
  seen.length = 0;
  const count = epoll.wait(0);
  for (let i = 0; i < count; i++) round.handle(epoll.tokenAt(i), epoll.eventsAt(i));
  expect(seen).toEqual([1]);
});
