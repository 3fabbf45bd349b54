/**
 * The lab: a machine whose /dev/kvm runs Linux, on a host whose own cannot.
 *
 * QEMU emulates an AMD processor with SVM; in it kvm_amd gives a true /dev/kvm. The host's / is the
 * lab's root, read-only under an overlay in memory, but the project's folder is the host's own. The
 * first start boots the lab and saves it (about 8 s); later ones restore it (about 2 s).
 */

import { randomBytes } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { agentRun, CONNECTION_LOST } from "./client.ts";
import { labImage } from "./image.ts";
import { labFolder } from "./paths.ts";
import { files, freePort, quit, say, startQemu, startVirtiofsd, unfinished } from "./qemu.ts";
import { Qmp } from "./qmp.ts";
import { dropRamFiles, ramFile } from "./ram.ts";
import { copySparse, forget, type LabSize, restore, savedLab } from "./saved.ts";
import * as state from "./state.ts";

/** From the environment: CHV_LAB_CPUS, CHV_LAB_MEMORY (MiB), CHV_LAB_IDLE (minutes). */
function settings() {
  const number = (name: string, standard: number) => {
    const value = Number(process.env[name] ?? standard);
    if (!(Number.isInteger(value) && value > 0))
      throw new Error(`${name}: a positive integer, please`);
    return value;
  };
  return {
    cpus: number("CHV_LAB_CPUS", 1),
    memory: `${number("CHV_LAB_MEMORY", 6144)}M`,
    idleMinutes: number("CHV_LAB_IDLE", 30),
  };
}

/** Starts the lab; nothing to do if it runs. Commands can run once this returns. */
export async function start(): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error("it needs root (virtiofsd serves the whole of /)");
  const { cpus, memory, idleMinutes } = settings();
  const running = state.readState();
  if (running?.cpus === cpus && running.memory === memory) return;
  if (running)
    throw new Error(`it runs with ${running.cpus} CPUs and ${running.memory}: stop it first`);
  await stop(); // what a dead lab left
  mkdirSync(labFolder, { recursive: true });
  dropRamFiles();
  const image = labImage(idleMinutes);
  writeFileSync(files.image, image);
  try {
    const saved = await savedLab(image, { cpus, memory });
    await restoreSaved(saved, { cpus, memory });
  } catch (error) {
    for (const process of unfinished) await state.end(process);
    await stop();
    throw error;
  }
}

async function restoreSaved(saved: string, size: LabSize): Promise<void> {
  const token = randomBytes(16).toString("hex");
  writeFileSync(files.token, token, { mode: 0o600 });
  const virtiofsd = await startVirtiofsd();
  const ram = ramFile(size.memory);
  try {
    copySparse(`${saved}.ram`, ram);
    const port = await freePort();
    const more = ["-chardev", `socket,id=files,path=${files.virtiofs}`, "-incoming", "defer"];
    const { process: qemu, qmp } = await startQemu({ ...size, ram, port, more });
    state.writeState({ qemu, virtiofsd, port, token, ...size });
    unfinished.clear();
    try {
      await restore(qmp, `${saved}.state`).finally(() => qmp.close());
      await waitForAgent();
    } catch (error) {
      forget(); // the saved machine may be what is wrong: the next start boots anew
      throw error;
    }
  } finally {
    dropRamFiles(); // QEMU has it open; it is gone with QEMU, however that ends
  }
}

/** The first command sets the clock, which stood still while the lab was saved. */
async function waitForAgent(): Promise<void> {
  const until = Date.now() + 60_000;
  for (;;) {
    const script = `date -s @${Math.round(Date.now() / 1000)} >/dev/null`;
    const status = await agentRun(script, { onOutput: () => undefined, timeoutMs: 10_000 });
    if (status === 0) return;
    if (status !== CONNECTION_LOST || Date.now() > until || !state.readState()) {
      throw new Error(`no answer from inside; see ${files.console} and ${files.qemuLog}`);
    }
    await Bun.sleep(50);
  }
}

/** Stops the lab and whatever is left of one; nothing to do if there is none. */
export async function stop(): Promise<void> {
  const known = state.savedState();
  if (!known) return;
  if (state.isAlive(known.qemu)) {
    await agentRun("sync", { onOutput: () => undefined, timeoutMs: 5000 });
    const qmp = await Qmp.open(files.qmp).catch(() => undefined);
    if (qmp) await quit(known.qemu, qmp);
    else await state.end(known.qemu);
  }
  await state.waitFor(() => !state.isAlive(known.virtiofsd), 1000); // it follows QEMU
  await state.end(known.virtiofsd);
  for (const file of [files.qmp, files.virtiofs, files.token]) rmSync(file, { force: true });
  state.forgetState();
}

/** Whether scripts or shells other than the one that asks run in the lab. */
async function isBusy(): Promise<boolean> {
  const script = "set -- /run/lab/script.*; [ $# -gt 1 ]";
  const status = await agentRun(script, { onOutput: () => undefined, timeoutMs: 10_000 });
  return status === 0;
}

/** How long a script may take to end whose client has gone. */
const endingMs = 5000;

/** Stops the lab unless someone else still uses it: then its last user, or its idleness, ends it. */
export async function release(): Promise<void> {
  const free = async () => !state.readState() || !(await isBusy());
  if (!(await state.waitFor(free, endingMs))) say("left running: it is in use");
  else await stop();
}
