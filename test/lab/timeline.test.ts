/** The timeline, from events written by hand. */

import { expect, test } from "bun:test";
import { bootTimeline, formatTimeline } from "./timeline.ts";

const event = (ms: number, source: string, name: string) =>
  JSON.stringify({
    timestamp: { secs: Math.floor(ms / 1000), nanos: (ms % 1000) * 1e6 },
    source,
    event: name,
    properties: {},
  });

const boot = [
  event(4, "vmm", "starting"),
  event(6, "vm", "booting"),
  event(9, "vm", "first-run"),
  event(12, "guest", "kernel"),
  event(1500, "guest", "userspace"),
  event(1600, "guest", "userspace"),
  event(2250, "vm", "poweroff"),
];

test("milestones count from the process's start; of several events the first counts", () => {
  expect(bootTimeline(`${boot.join("\n")}\n`).map(({ atMs }) => atMs)).toEqual([
    0, 9, 12, 1500, 2250,
  ]);
});

test("a milestone that was not reached is named", () => {
  expect(() => bootTimeline(boot.slice(0, 4).join("\n"))).toThrow("guest/userspace");
});

test("the table shows each step's own time", () => {
  const table = formatTimeline(bootTimeline(boot.join("\n")));

  expect(table).toMatch(/^ {2}power-off +2250\.0 +\+750\.0$/m);
});
