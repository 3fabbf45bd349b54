import { afterEach, beforeEach, expect, test } from "bun:test";
import { choreCapacity } from "../../../src/devices/chores/chore-ring.ts";
import { Epoll } from "../../../src/ffi/epoll.ts";
import { pollEvents } from "../../../src/ffi/poll.ts";
import { FakeChores } from "./fake.ts";

let chores: FakeChores;
beforeEach(() => {
  chores = new FakeChores(false);
  chores.script.push(...Array(1000).fill(0));
});
afterEach(() => chores.close());

const readable = () => pollEvents(chores.fd, Epoll.in) !== 0;

/** What one turn reports, as tag and error. */
function turn(): number[][] {
  const reports: number[][] = [];
  chores.turn((tag, error) => reports.push([tag, error]));
  return reports;
}

test("what has ended is reported once, in order, with its tag and its error", () => {
  chores.script.splice(0, 2, 28, 0);
  chores.sync(7, 3);
  chores.allocate(2 ** 32 + 1, 3, 1, 0, 4096);
  expect([turn(), readable()]).toEqual([[], false]);

  chores.serve();

  expect(readable()).toBe(true);
  expect(turn()).toEqual([
    [7, 28],
    [2 ** 32 + 1, 0],
  ]);
  expect([readable(), turn()]).toEqual([false, []]);
});

test("the thread is asked for once, with the first chore", () => {
  expect(chores.starts).toBe(0);
  for (const tag of [1, 2, 3]) chores.sync(tag, 3);
  expect(chores.starts).toBe(1);
});

test("a full ring takes no more until a turn; positions run over its end again and again", () => {
  for (let round = 0; round < 5; round++) {
    for (let tag = 0; tag < choreCapacity; tag++) expect(chores.sync(tag, 3)).toBe(true);
    expect(chores.sync(99, 3)).toBe(false);
    chores.serve();
    expect(chores.sync(99, 3)).toBe(false);

    expect(turn().map(([tag]) => tag)).toEqual([...Array(choreCapacity).keys()]);
  }
});

test("a report may post the next chore, also when the ring was full", () => {
  for (let tag = 0; tag < choreCapacity; tag++) chores.sync(tag, 3);
  chores.serve();

  const accepted: boolean[] = [];
  chores.turn((tag) => accepted.push(chores.sync(tag + 100, 3)));
  chores.serve();

  expect(accepted).toEqual(Array(choreCapacity).fill(true));
  expect(turn().map(([tag]) => tag)).toEqual([...Array(choreCapacity).keys()].map((n) => n + 100));
});

test("a chore that ends after the turn that reported the last one makes the descriptor readable", () => {
  chores.sync(1, 3);
  chores.sync(2, 3);
  chores.serve(1);
  expect([turn(), readable()]).toEqual([[[1, 0]], false]);
  chores.serve(1);
  expect([readable(), turn(), readable()]).toEqual([true, [[2, 0]], false]);
});
