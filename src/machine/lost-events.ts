/** What the event ring could not hold, as an event of its own. */
import type { MachineEvent } from "../bus/event-ring.ts";
import { EventKind, LogLevel } from "../bus/events.ts";
import { monotonicNs } from "../ffi/clock.ts";
import { ThreadNumber } from "./spec.ts";

/** The ring was full for so many: the main thread was too slow for the machine. */
export function lostEvents(count: number): MachineEvent {
  const text = `${count} events were lost`;
  const { main: source } = ThreadNumber;
  return { kind: EventKind.log, source, timeNs: monotonicNs(), a: LogLevel.warn, b: 0, text };
}
