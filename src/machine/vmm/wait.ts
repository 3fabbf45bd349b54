/**
 * Waiting for something to happen to the guest. What has happened in this life of it counts; what cannot happen any
 * more (it panicked, ended or started over first) ends the wait at once.
 */
import { VmmError } from "./errors.ts";
import type { EventLog, VmmEvent } from "./events.ts";

export type Goal = "userspace" | "login" | "exit";

/** The event that reaches each goal: source and name. */
const reached: Readonly<Record<Goal, readonly string[]>> = {
  userspace: ["guest/userspace"],
  login: ["guest/login"],
  exit: ["vm/poweroff", "vm/shutdown", "vm/deleted"],
};

/** A new life of the guest begins with these. */
const beginnings = ["vm/created", "vm/booting", "vm/reset"];
export const ends = [
  "vm/poweroff",
  "vm/shutdown",
  "vm/deleted",
  "vm/failed",
  "vm/reset",
  "guest/panic",
];

/** What has happened since the guest's last life began. */
function lifeOf({ history }: EventLog): readonly VmmEvent[] {
  return history.slice(history.findLastIndex((event) => beginnings.includes(nameOf(event))) + 1);
}

/** The name of the event that ended the guest's last life. */
export function endOf(events: EventLog): string | undefined {
  const end = lifeOf(events).find((event) => ends.includes(nameOf(event)));
  return end && nameOf(end);
}

export const nameOf = ({ source, event }: VmmEvent) => `${source}/${event}`;

/**
 * Resolves with the event that reaches the goal. Rejects with a VmmError: "timeout" after `timeoutMs`, "missed" naming
 * the event after which it cannot come. `signal`: nobody waits any more.
 */
export function waitFor(
  events: EventLog,
  goal: Goal,
  timeoutMs: number | undefined,
  signal: AbortSignal,
): Promise<VmmEvent> {
  const wanted = reached[goal];
  const already = lifeOf(events).find((event) => wanted.includes(nameOf(event)));
  if (already) return Promise.resolve(already);
  const over = endOf(events);
  if (over) return Promise.reject(missed(goal, over));
  const { promise, resolve, reject } = Promise.withResolvers<VmmEvent>();
  const leave = events.next((event) => {
    const name = nameOf(event);
    if (wanted.includes(name)) resolve(event);
    else if (ends.includes(name)) {
      reject(missed(goal, name));
    }
  });
  return limited(promise, reject, goal, timeoutMs, signal).finally(leave);
}

export const missed = (what: string, name: string) =>
  new VmmError("missed", `${what} did not come: ${name} came first`);

/** Ends a wait when its time is over, or when nobody waits any more. */
export function limited<T>(
  promise: Promise<T>,
  reject: (error: Error) => void,
  what: string,
  timeoutMs: number | undefined,
  signal: AbortSignal,
): Promise<T> {
  const late = () => reject(new VmmError("timeout", `${what} did not come in ${timeoutMs} ms`));
  const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs);
  const left = () => reject(new VmmError("missed", `${what} did not come: ${signal.reason}`));
  signal.addEventListener("abort", left);
  if (signal.aborted) left();
  return promise.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener("abort", left);
  });
}
