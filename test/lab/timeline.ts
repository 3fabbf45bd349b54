/** The boot timeline that chv's event monitor (`--event-monitor path=FILE`) recorded. */

import * as v from "valibot";

const Event = v.object({
  timestamp: v.object({ secs: v.number(), nanos: v.number() }),
  source: v.string(),
  event: v.string(),
});

/** The milestones of a boot, in order: what the event is called, and what it means. */
const milestones = [
  ["vmm/starting", "process started"],
  ["vm/first-run", "first KVM_RUN"],
  ["guest/kernel", "kernel entered"],
  ["guest/userspace", "userspace"],
  ["vm/poweroff", "power-off"],
] as const;

export interface Milestone {
  readonly name: string;
  /** Milliseconds after the process started. */
  readonly atMs: number;
}

/** The first event of each kind; throws with the name of one that is missing. */
export function bootTimeline(events: string): Milestone[] {
  const first = new Map<string, number>();
  for (const line of events.split("\n").filter(Boolean)) {
    const { timestamp, source, event } = v.parse(Event, JSON.parse(line));
    const name = `${source}/${event}`;
    if (!first.has(name)) first.set(name, timestamp.secs * 1e3 + timestamp.nanos / 1e6);
  }
  return milestones.map(([event, name]) => {
    const atMs = event === "vmm/starting" ? 0 : first.get(event);
    if (atMs === undefined) throw new Error(`the event monitor has no ${event}`);
    return { name, atMs };
  });
}

/** A table of the milestones, each with the time since the one before it. */
export function formatTimeline(timeline: readonly Milestone[]): string {
  const rows = timeline.map(({ name, atMs }, index) => {
    const step = atMs - (timeline[index - 1]?.atMs ?? 0);
    return `  ${name.padEnd(16)}${atMs.toFixed(1).padStart(10)}${`+${step.toFixed(1)}`.padStart(12)}`;
  });
  return [`boot timeline, ms${"at".padStart(9)}${"step".padStart(12)}`, ...rows].join("\n");
}
