/** The thread that does chores: real chores, its end, and what it says when it dies. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateRawSync, zstdCompressSync } from "node:zlib";
import { EventRing } from "../../src/bus/event-ring.ts";
import { EventKind } from "../../src/bus/events.ts";
import { Ask, ThreadControl, ThreadState } from "../../src/bus/thread-control.ts";
import { ChoreClient, ringBell } from "../../src/devices/chores/chore-ring.ts";
import { Block } from "../../src/ffi/block.ts";
import { Epoll, EpollSet } from "../../src/ffi/epoll.ts";
import type { ChoreThreadSpec } from "../../src/machine/chore-thread.ts";
import { Owned } from "../../src/machine/owned.ts";
import { createChores } from "../../src/machine/virtio/spec.ts";
import { choreWorkerUrl } from "../../src/workers.ts";

const patienceMs = 10_000;
// linux/falloc.h, asm-generic/errno-base.h
const [KEEP_SIZE, PUNCH_HOLE] = [1, 2];
const [EIO, EBADF] = [5, 9];

let owned: Owned;
let spec: ChoreThreadSpec;
let worker: Worker | undefined;
let control: ThreadControl;
let chores: ChoreClient;
let epoll: EpollSet;
let folder: string;

beforeEach(() => {
  owned = new Owned();
  folder = mkdtempSync(join(tmpdir(), "chv-chores-"));
  owned.add(() => rmSync(folder, { recursive: true }));
  spec = {
    chores: createChores(owned),
    control: new SharedArrayBuffer(ThreadControl.bytesFor(1)),
    events: new SharedArrayBuffer(EventRing.byteLength),
    ...{ number: 0, name: "chores-test" },
  };
  control = new ThreadControl(spec.control, 0);
  chores = new ChoreClient(spec.chores, () => {
    worker = new Worker(choreWorkerUrl);
    worker.postMessage(spec);
  });
  epoll = new EpollSet();
  owned.add(() => epoll.close());
  epoll.add(chores.fd, Epoll.in, 1);
});
afterEach(async () => {
  if (worker && control.state === ThreadState.starting) await leave();
  worker?.terminate();
  worker = undefined;
  owned.close();
});

async function leave(): Promise<number | undefined> {
  control.ask(Ask.leave);
  ringBell(spec.chores.buffer);
  return control.reaches([ThreadState.gone], patienceMs);
}

/** Waits for `count` chores, as an I/O worker does; their errors by tag. */
function answers(count: number): Map<number, number> {
  const errors = new Map<number, number>();
  while (errors.size < count) {
    if (epoll.wait(patienceMs) === 0) throw new Error("test: a chore does not end");
    chores.turn((tag, error) => errors.set(tag, error));
  }
  return errors;
}

test("it syncs, punches and unpacks, from a worker that sleeps in epoll_wait; then it leaves", async () => {
  const file = openSync(join(folder, "file"), "w+");
  writeSync(file, new Uint8Array(65536).fill(1));
  const plain = Uint8Array.from({ length: 65536 }, (_, i) => (i >> 4) & 0xff);
  const packed = [deflateRawSync(plain), zstdCompressSync(plain)];
  const [sources, target] = [new Block(131072), new Block(131072)];
  for (const [i, data] of packed.entries()) sources.bytes.set(data, i * 65536);

  chores.sync(1, file);
  chores.allocate(2, file, PUNCH_HOLE | KEEP_SIZE, 0, 32768);
  for (const [i, kind] of (["deflate", "zstd"] as const).entries()) {
    const source = sources.address + i * 65536;
    chores.decompress(3 + i, kind, source, 65536, target.address + i * 65536, 65536);
  }
  chores.decompress(5, "zstd", target.address, 512, target.address, 512);
  chores.sync(6, 1 << 20);

  expect(Object.fromEntries(answers(6))).toEqual({ 1: 0, 2: 0, 3: 0, 4: 0, 5: EIO, 6: EBADF });
  expect(fstatSync(file).blocks * 512).toBe(32768);
  expect(target.bytes.subarray(0, 65536)).toEqual(plain);
  expect(target.bytes.subarray(65536)).toEqual(plain);
  const names = readdirSync("/proc/self/task").flatMap((task) => {
    try {
      return [readFileSync(`/proc/self/task/${task}/comm`, "utf8").trim()];
    } catch {
      return []; // a thread of another test's that has ended meanwhile
    }
  });
  expect(names).toContain("chores-test");
  expect(await leave()).toBe(ThreadState.gone);
  ftruncateSync(file, 0);
});

test("it writes zeroes, more of them than it has at hand", () => {
  const file = openSync(join(folder, "zeroed"), "w+");
  const content = new Uint8Array(3 * 2 ** 20).fill(1);
  writeSync(file, content);

  chores.zero(1, file, 512, content.length - 1024);
  chores.zero(2, openSync("/dev/full", "r+"), 0, 512);

  expect(Object.fromEntries(answers(2))).toEqual({ 1: 0, 2: 28 }); // ENOSPC
  expect(readFileSync(join(folder, "zeroed"))).toEqual(
    Buffer.from(content.fill(0, 512, content.length - 512)),
  );
});

test("a thread that dies says so, once, and is no more", async () => {
  const events = new EventRing(spec.events, 9);
  const nowhere = Number.NaN;
  chores.decompress(1, "zstd", nowhere, 512, nowhere, 512);

  expect(await control.reaches([ThreadState.gone], patienceMs)).toBe(ThreadState.failed);

  const event = events.take();
  expect([event?.kind, event?.source]).toEqual([EventKind.threadFailed, 0]);
  expect(events.take()).toBeUndefined();
});
