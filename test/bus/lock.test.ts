/** The lock between real threads. */
import { expect, test } from "bun:test";
import { Lock } from "../../src/bus/lock.ts";
import { hammer } from "./threads.ts";

const counterIndex = 16;

test("an uncontended lock is one word that goes back to zero", () => {
  const words = new Int32Array(new SharedArrayBuffer(16));
  const lock = new Lock(words, 2);

  lock.acquire();
  expect([...words]).toEqual([0, 0, 1, 0]);

  lock.release();
  expect([...words]).toEqual([0, 0, 0, 0]);
});

test("threads that increment a plain counter under the lock lose no increment", async () => {
  const buffer = new SharedArrayBuffer(128);
  const words = new Int32Array(buffer);
  const times = 100_000;
  const threads = 3; // more than this machine's processors: holders are preempted

  await Promise.all(Array.from({ length: threads }, () => hammer({ do: "count", buffer, times })));

  expect(words[counterIndex]).toBe(threads * times);
  expect(words[0]).toBe(0);
});

test("a waiter is woken by the release, long before it loses patience", async () => {
  const buffer = new SharedArrayBuffer(128);
  const words = new Int32Array(buffer);
  const lock = new Lock(words, 0);
  lock.acquire();

  const waiter = hammer({ do: "count", buffer, times: 1 });
  while (Atomics.load(words, 0) !== 2) await Bun.sleep(1); // it sleeps on the word now
  expect(words[counterIndex]).toBe(0);
  lock.release();
  await waiter;

  expect(words[counterIndex]).toBe(1);
  expect(words[0]).toBe(0);
});

test("several sleepers are all woken, one after another", async () => {
  const buffer = new SharedArrayBuffer(128);
  const words = new Int32Array(buffer);
  const lock = new Lock(words, 0);
  lock.acquire();

  const waiters = [1, 2, 3].map(() => hammer({ do: "count", buffer, times: 5 }));
  while (Atomics.load(words, 0) !== 2) await Bun.sleep(1);
  lock.release();
  await Promise.all(waiters);

  expect(words[counterIndex]).toBe(15);
});

test("a lock whose holder is gone is reported, and stays held", async () => {
  const buffer = new SharedArrayBuffer(128);
  await hammer({ do: "hold", buffer });
  const lock = new Lock(new Int32Array(buffer), 0, 20);

  expect(() => lock.acquire()).toThrow(
    new Error("a device lock has been held for 20 ms: its thread is gone"),
  );
  expect(() => lock.acquire()).toThrow("its thread is gone");
});
