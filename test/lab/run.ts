/**
 * Scripts on a machine whose /dev/kvm runs Linux: this one if it is, else the lab, which is started
 * if it is not running (and then stopped when this process ends).
 */

import { copyFileSync } from "node:fs";
import { agentRun, CONNECTION_LOST, TIMED_OUT } from "./client.ts";
import { kvmRunsLinux, labFolder, pathInLab, root } from "./paths.ts";
import { readState, waitFor } from "./state.ts";

export interface LabRunOptions {
  /** Default 120 s; a script that takes longer is killed, and its code is 253. */
  readonly timeoutMs?: number;
  /** Output as it comes, besides the collected one. */
  readonly onOutput?: (data: Uint8Array) => void;
}

export interface LabRunResult {
  readonly code: number;
  /** stdout and stderr together, in the order written. */
  readonly output: string;
}

/** Whether scripts run on this machine itself. */
export const direct = kvmRunsLinux();

/** The path by which scripts see a file of this machine. */
export const pathInside = (path: string) => (direct ? path : pathInLab(path));

/** Starts the lab if scripts need it and it is not running; says so. */
export function ensureLab(): void {
  if (direct || readState()) return;
  console.error("lab: /dev/kvm here does not run Linux; starting the lab");
  if (!started) process.on("exit", releaseLab);
  started = true; // also what is interrupted in its start is there to be stopped
  labCommand("start");
}

/** Whether a start of the lab was begun here. */
let started = false;

/** Stops the lab if it was started here and nobody else uses it. */
export function releaseLab(): void {
  if (!started) return;
  started = false;
  labCommand("release");
}

/**
 * Whether the lab, by its QEMU's number, is dead and there is a new one. An emulated
 * machine's death is no verdict on chv, but its last words are kept.
 */
async function revived(dead: number | undefined): Promise<boolean> {
  if (!(await waitFor(() => readState()?.qemu.pid !== dead, 5000))) return false;
  if (readState()) return true; // another script's loss was noticed first
  const kept = `${labFolder}/died-${Date.now()}.log`;
  try {
    copyFileSync(`${labFolder}/console.log`, kept);
    console.error(`lab: it died; its last words are in ${kept}`);
  } catch {
    console.error("lab: it is gone"); // stopped by hand, perhaps
  }
  ensureLab();
  return true;
}

function labCommand(command: "start" | "stop" | "release"): void {
  const child = Bun.spawnSync([process.execPath, `${import.meta.dir}/lab.ts`, command], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (child.exitCode !== 0) throw new Error(`the lab did not ${command}`);
}

/**
 * Runs a bash script in the project's folder, as root; several at once are fine. If the lab dies
 * under it, or answers nobody any more when the time is up, it runs again from its beginning, in a
 * new lab, twice at most: files it left are still there.
 */
export async function labRun(script: string, options: LabRunOptions = {}): Promise<LabRunResult> {
  for (let tries = 1; ; tries++) {
    ensureLab();
    const lab = readState()?.qemu.pid;
    const result = await runOnce(script, options);
    if (direct || tries === triesMax) return result;
    const hangs = result.code === TIMED_OUT && !result.seen;
    if (hangs) labCommand("stop");
    if (!hangs && result.code !== CONNECTION_LOST) return result;
    if (!(await revived(lab))) return result;
  }
}

/** A lab that dies under a script that often is no accident. */
const triesMax = 3;

/** What there is to see of a lab in which a script takes too long; an answer shows that the lab is alive. */
const look = "date; ps -eo pid,stat,wchan:24,etimes,args --forest | tail -n 60; dmesg | tail -n 30";
const lookMs = 30_000;

async function runOnce(
  script: string,
  options: LabRunOptions,
): Promise<LabRunResult & { readonly seen: boolean }> {
  const chunks: Uint8Array[] = [];
  const onOutput = (data: Uint8Array) => {
    chunks.push(data);
    options.onOutput?.(data);
  };
  const timeoutMs = options.timeoutMs ?? 120_000;
  let seen = false;
  const onTimeout = async () => {
    seen = (await agentRun(look, { onOutput, timeoutMs: lookMs })) === 0;
  };
  const code = await (direct ? runHere : agentRun)(script, { onOutput, timeoutMs, onTimeout });
  return { code, output: Buffer.concat(chunks).toString(), seen };
}

interface RunOptions {
  readonly onOutput: (data: Uint8Array) => void;
  readonly timeoutMs: number;
}

/** The same here: in a session of its own, which is killed whole when the time is up. */
async function runHere(script: string, { onOutput, timeoutMs }: RunOptions): Promise<number> {
  const child = Bun.spawn(["bash", "-c", `exec 2>&1\n${script}`], {
    cwd: root,
    stdin: "ignore",
    stderr: "inherit",
    detached: true,
  });
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    process.kill(-child.pid, "SIGKILL");
  }, timeoutMs);
  for await (const data of child.stdout) onOutput(data);
  const code = await child.exited;
  clearTimeout(timer);
  return timedOut ? TIMED_OUT : code;
}
