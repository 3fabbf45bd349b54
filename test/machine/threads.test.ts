import { afterEach, beforeEach, expect, test } from "bun:test";
import { EventRing } from "../../src/bus/event-ring.ts";
import { EventKind } from "../../src/bus/events.ts";
import { ChoreClient } from "../../src/devices/chores/chore-ring.ts";
import type { ChoreSpec } from "../../src/devices/chores/chores.ts";
import { Epoll, EpollSet } from "../../src/ffi/epoll.ts";
import { Owned } from "../../src/machine/owned.ts";
import { type MachineSpec, ThreadNumber, threadName } from "../../src/machine/spec.ts";
import { MachineThreads } from "../../src/machine/threads.ts";
import { createChores } from "../../src/machine/virtio/spec.ts";

let owned: Owned;
let threads: MachineThreads;
let events: EventRing;
let chores: ChoreSpec[];

/** A machine of nothing but a disk with two shares. */
beforeEach(() => {
  owned = new Owned();
  events = new EventRing(new SharedArrayBuffer(EventRing.byteLength), ThreadNumber.main);
  chores = [createChores(owned), createChores(owned)];
  threads = new MachineThreads(0, (number, why) => {
    throw new Error(`test: ${number} died: ${why}`);
  });
  const disk = { id: "_disk0", chores };
  const { control } = threads;
  const spec = { virtio: [disk], control, events: events.buffer, vcpuFds: [] };
  threads.assign(spec as unknown as MachineSpec);
  threads.vmArrived(spec as unknown as MachineSpec);
});
afterEach(async () => {
  await threads.terminate();
  owned.close();
});

const client = (share: number) =>
  new ChoreClient(chores[share]!, () => threads.startChores("_disk0", share));

/** Waits until a chore has ended: its error. */
async function answer(from: ChoreClient): Promise<number> {
  const epoll = new EpollSet();
  epoll.add(from.fd, Epoll.in, 1);
  const errors: number[] = [];
  const deadline = Date.now() + 10_000;
  while (errors.length === 0 && Date.now() < deadline) {
    if (epoll.wait(0) > 0) from.turn((_tag, error) => errors.push(error));
    else await Bun.sleep(1);
  }
  epoll.close();
  return errors[0]!;
}

test("threads for chores start as they are asked for, and leave when all do", async () => {
  for (const share of [1, 0]) {
    const asks = client(share);
    asks.sync(1, 1 << 20);
    expect(await answer(asks)).toBe(9); // EBADF
  }

  expect(threads.failed).toBe(false);
  await threads.leave();
  expect(events.take()).toBeUndefined();
});

test("one that dies is told of once, by its name, and nobody waits for it", async () => {
  client(1).decompress(1, "zstd", Number.NaN, 1, Number.NaN, 1);

  await events.arrival();
  const event = events.take()!;

  expect([event.kind, threadName(event.source, 0)]).toEqual([EventKind.threadFailed, "chores0"]);
  await threads.leave();
  expect(threads.failed).toBe(true);
});
