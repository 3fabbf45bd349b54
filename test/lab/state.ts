/** What is known of a running lab, in .cache/lab/state.json, and whether it is still true. */

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { labFolder } from "./paths.ts";

/** A process, with its start time so that a reused number is not taken for it. */
export interface Process {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks after boot. */
  readonly started: number;
}

export interface LabState {
  readonly qemu: Process;
  readonly virtiofsd: Process;
  /** The agent's port on 127.0.0.1. */
  readonly port: number;
  /** What the agent wants to hear first. */
  readonly token: string;
  readonly cpus: number;
  readonly memory: string;
}

const file = `${labFolder}/state.json`;

/** The process as it is now; undefined if there is none, or only a zombie. */
export function processOf(pid: number): Process | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // from field 3, the state
    return fields[0] === "Z" ? undefined : { pid, started: Number(fields[19]) };
  } catch {
    return undefined;
  }
}

export function isAlive(process: Process): boolean {
  return processOf(process.pid)?.started === process.started;
}

/** The state on disk, true or not. */
export function savedState(): LabState | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

/** The state of the lab that is running; undefined if none is. */
export function readState(): LabState | undefined {
  const state = savedState();
  return state && isAlive(state.qemu) ? state : undefined;
}

export function writeState(state: LabState): void {
  writeFileSync(file, JSON.stringify(state), { mode: 0o600 });
}

export function forgetState(): void {
  rmSync(file, { force: true });
}

/** Ends a process that the lab started: TERM, and KILL after two seconds. */
export async function end(victim: Process): Promise<void> {
  for (const [signal, waitMs] of [
    ["SIGTERM", 2000],
    ["SIGKILL", 2000],
  ] as const) {
    if (!isAlive(victim)) return;
    process.kill(victim.pid, signal);
    await waitFor(() => !isAlive(victim), waitMs);
  }
}

/** Polls until the condition holds; false if it does not in time. */
export async function waitFor(
  condition: () => boolean | Promise<boolean>,
  timeoutMs: number,
): Promise<boolean> {
  const until = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > until) return false;
    await Bun.sleep(20);
  }
  return true;
}
