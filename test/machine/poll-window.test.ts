import { expect, test } from "bun:test";
import { PollWindow } from "../../src/machine/poll-window.ts";

/** Times in ns. What a sleep and a wake-up cost is about 10 us, on hosts of all kinds. */
test("who sleeps shortly looks first, and who sleeps for long, again and again, does not", () => {
  const window = new PollWindow();
  expect(window.ns).toBe(0);
  window.idled(12_000);
  expect(window.ns).toBe(10_000);

  for (const ns of [30_000, 1e9, 30_000, 15_000, 30_000, 30_000, 30_000]) {
    window.idled(ns);
    expect(window.ns).toBe(10_000);
  }
  window.idled(30_000);
  expect(window.ns).toBe(0);

  window.idled(30_000);
  expect(window.ns).toBe(0);
  window.idled(19_000);
  expect(window.ns).toBe(10_000);

  const patient = new PollWindow(20_000);
  patient.idled(29_000);
  expect(patient.ns).toBe(20_000);
  for (let i = 0; i < 4; i++) patient.idled(31_000);
  expect(patient.ns).toBe(0);

  const strict = new PollWindow(undefined, 12_000);
  strict.idled(13_000);
  expect(strict.ns).toBe(0);
  strict.idled(11_000);
  expect(strict.ns).toBe(10_000);
});
