/** The ring of hosts without io_uring: what is done at once, and what is left to the thread for chores. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { CallRing } from "../../../src/devices/images/call-ring.ts";
import { Block } from "../../../src/ffi/block.ts";
import { type FileCalls, RWF_DSYNC } from "../../../src/ffi/file-vector.ts";
import { FakeChores } from "../chores/fake.ts";

const [EIO, ENOSPC] = [5, 28];
const [fd, offset, mode, firstTag] = [7, 4096, 3, 100];
const memory = new Block(512);

let asked: string[];
let chores: FakeChores;
let ring: CallRing;
beforeEach(() => {
  asked = [];
  const note = (what: string, result: number) => {
    asked.push(what);
    return result;
  };
  const files: FileCalls = {
    readVector: () => note("read", 512),
    writeVector: () => note("write", 512),
    dataSync: () => note("sync", 0),
    allocateRange: () => note("allocate", -ENOSPC),
  };
  chores = new FakeChores(false);
  ring = new CallRing(4, chores, firstTag, files);
});
afterEach(() => chores.close());

/** What has ended: token and result. */
function ended(): [number, number][] {
  const all: [number, number][] = [];
  while (ring.next()) all.push([ring.token, ring.result]);
  return all;
}

/** The chores that wait end so. */
function finish(...errors: number[]): void {
  chores.script.push(...errors);
  chores.serve(errors.length);
  chores.turn((tag, error) => ring.choreEnded(tag, error));
}

test("reads and writes are made when they are submitted, and not before", () => {
  ring.read(fd, memory.address, 512, offset, 2);
  ring.write(fd, memory.address, 512, offset, 0, 0);
  expect(asked).toEqual([]);

  ring.submit();

  expect(asked).toEqual(["read", "write"]);
  expect(ended()).toEqual([
    [2, 512],
    [0, 512],
  ]);
  expect(chores.queue.waiting).toBe(false);
});

test("a write that must be durable ends with a chore, whose error is its own", () => {
  for (const token of [0, 1]) ring.write(fd, memory.address, 512, offset, RWF_DSYNC, token);

  ring.submit();
  expect([asked, ended()]).toEqual([["write", "write"], []]);
  finish(0, EIO);

  expect(ended()).toEqual([
    [0, 512],
    [1, -EIO],
  ]);
});

test("fdatasync and fallocate are chores: this thread waits for neither", () => {
  ring.dataSync(fd, 0);
  ring.allocate(fd, mode, offset, 8192, 1);
  ring.submit();
  expect([asked, ended()]).toEqual([[], []]);
  finish(0, ENOSPC);

  expect(chores.served).toEqual([0, 1]); // ChoreKind
  expect(ended()).toEqual([
    [0, 0],
    [1, -ENOSPC],
  ]);
});

test("without room for a chore a durable write waits, and is not made twice", () => {
  for (let tag = 0; chores.sync(tag, fd); tag++);
  ring.write(fd, memory.address, 512, offset, RWF_DSYNC, 3);
  for (let i = 0; i < 3; i++) ring.submit();
  expect([asked, ended()]).toEqual([["write"], []]);

  chores.script.push(...new Array<number>(64).fill(0));
  chores.serve();
  chores.turn(() => {});
  ring.submit();
  finish(0);

  expect([asked, ended()]).toEqual([["write"], [[3, 512]]]);
});

test("alone, at the machine's end, it does all of it itself", () => {
  ring.workAlone();
  ring.dataSync(fd, 0);
  ring.allocate(fd, mode, offset, 8192, 1);
  ring.write(fd, memory.address, 512, offset, RWF_DSYNC, 2);
  ring.submit();

  expect(asked).toEqual(["sync", "allocate", "write", "sync"]);
  expect(ended()).toEqual([
    [0, 0],
    [1, -ENOSPC],
    [2, 512],
  ]);
  expect(chores.queue.waiting).toBe(false);
});
