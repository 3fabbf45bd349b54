import { afterEach, beforeEach, expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { Epoll, EpollSet } from "../../src/ffi/epoll.ts";
import { LoneChores } from "../../src/machine/lone-chores.ts";
import { Owned } from "../../src/machine/owned.ts";

const patienceMs = 10_000;
let owned: Owned;
let lone: LoneChores;
let epoll: EpollSet;

beforeEach(() => {
  owned = new Owned();
  lone = new LoneChores(owned);
  epoll = new EpollSet();
  owned.add(() => epoll.close());
  epoll.add(lone.client.fd, Epoll.in, 1);
  epoll.add(lone.deathFd, Epoll.in, 2);
});
afterEach(() => owned.close());

test("a process that never goes back to its event loop has its chores done", () => {
  const fd = openSync("/dev", 0); // in memory: a disk that others keep busy would take its time
  const errors: number[] = [];
  lone.client.sync(1, fd);
  lone.client.sync(2, 1 << 20);

  while (errors.length < 2) {
    if (epoll.wait(patienceMs) === 0) throw new Error("test: a chore does not end");
    lone.client.turn((_tag, error) => errors.push(error));
  }

  expect(errors).toEqual([0, 9]); // EBADF
  closeSync(fd);
});

test("it hears of the thread's death, and why", () => {
  const nowhere = Number.NaN;
  lone.client.decompress(1, "deflate", nowhere, 512, nowhere, 512);

  expect(epoll.wait(patienceMs)).toBe(1);

  expect(epoll.tokenAt(0)).toBe(2);
  expect(lone.death).toMatch(/^chores0 ended on an error of chv's own: .*Error/);
});
