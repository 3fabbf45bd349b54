/** The log of events: order, history and readers that come and go. */
import { expect, test } from "bun:test";
import { EventLog, historyMax, type VmmEvent } from "../../../src/machine/vmm/events.ts";
import { waitFor } from "../../../src/machine/vmm/wait.ts";

const names = (events: readonly VmmEvent[]) => events.map(({ event }) => event);

test("who comes late hears first what happened, then what happens", () => {
  const log = new EventLog(0, 0);
  const [late, fresh]: [VmmEvent[], VmmEvent[]] = [[], []];
  log.tell("vm", "booting", 1);

  log.follow((event) => late.push(event));
  log.next((event) => fresh.push(event));
  log.tell("vm", "reset", 2, { source: "acpi" });

  expect(names(late)).toEqual(["booting", "reset"]);
  expect(names(fresh)).toEqual(["reset"]);
  expect(late.map(({ sequence }) => sequence)).toEqual([1, 2]);
  expect(late[1]!.properties).toEqual({ source: "acpi" });
});

test("who has left hears nothing more, also when it leaves while it is told", () => {
  const log = new EventLog(0, 0);
  const heard: VmmEvent[] = [];
  const leave = log.next((event) => {
    heard.push(event);
    leave();
  });

  log.tell("vm", "paused", 1);
  log.tell("vm", "resumed", 2);

  expect(names(heard)).toEqual(["paused"]);
});

test("times are since the start of the process, and on the wall clock", () => {
  const log = new EventLog(10e9, 1_000_000);
  log.tell("vm", "booting", 12_500_000_007);
  log.tell("vm", "early", 9e9);

  const [booting, early] = log.history;
  expect(booting!.timestamp).toEqual({ secs: 2, nanos: 500_000_007 });
  expect(booting!.wall_ms).toBe(1_002_500);
  expect(early!.timestamp).toEqual({ secs: 0, nanos: 0 });
});

test("the history has an end, and the numbers show what is gone", () => {
  const log = new EventLog(0, 0);
  for (let i = 0; i < historyMax + 10; i++) log.tell("vm", "event", i);

  expect(log.history).toHaveLength(historyMax);
  expect(log.history[0]!.sequence).toBe(11);
});

test("a guest that floods it does not push out what somebody may wait for", async () => {
  const log = new EventLog(0, 0);
  for (const [source, event] of [
    ["vm", "booting"],
    ["guest", "debug-code"],
    ["guest", "userspace"],
  ] as const) {
    log.tell(source, event, 0);
  }
  for (let i = 0; i < historyMax; i++) {
    log.tell(i % 2 ? "guest" : "_disk0", i % 2 ? "debug-code" : "error", i);
  }

  expect(log.history).toHaveLength(historyMax);
  expect(names(log.history).slice(0, 2)).toEqual(["booting", "userspace"]);
  const { signal } = new AbortController();
  expect(await waitFor(log, "userspace", 0, signal)).toMatchObject({ sequence: 3 });
  for (let i = 0; i < historyMax; i++) log.tell("vm", "reset", i);
  expect(new Set(names(log.history))).toEqual(new Set(["reset"]));
});
