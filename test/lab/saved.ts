/**
 * The saved lab: booted once until it waits for the host's files, then kept as QEMU's state and a
 * sparse copy of its RAM, under a key that changes with everything it depends on.
 */

import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { kernelFile, labFolder } from "./paths.ts";
import { files, freePort, qemuArguments, quit, say, startQemu } from "./qemu.ts";
import type { Qmp } from "./qmp.ts";
import { dropRamFiles, ramFile } from "./ram.ts";
import * as state from "./state.ts";

export interface LabSize {
  readonly cpus: number;
  /** As QEMU takes it: "6144M". */
  readonly memory: string;
}

/** What a saved machine depends on; another key, and it is of no use. */
function savedKey(image: Buffer, { cpus, memory }: LabSize): string {
  const hash = createHash("sha256").update(image);
  hash.update(Bun.spawnSync(["qemu-system-x86_64", "--version"]).stdout);
  hash.update(readFileSync(kernelFile("6.12-cloud", "vmlinuz")));
  hash.update(qemuArguments({ cpus, memory, ram: "", port: 0 }).join("\n"));
  return hash.digest("hex").slice(0, 16);
}

/** The saved lab of that image and size, made if there is none: the path without its endings. */
export async function savedLab(image: Buffer, size: LabSize): Promise<string> {
  const key = savedKey(image, size);
  if (!existsSync(`${labFolder}/saved-${key}.state`)) await bootAndSave(key, size);
  return `${labFolder}/saved-${key}`;
}

/** Boots the lab until it waits for the host's files, and saves it there: state and RAM. */
async function bootAndSave(key: string, { cpus, memory }: LabSize): Promise<void> {
  say("first start: booting the lab to save it");
  forget();
  const ram = ramFile(memory);
  const { process, qmp } = await startQemu({ cpus, memory, ram, port: await freePort() });
  try {
    const ready = () => readFileSync(files.console, "latin1").includes("lab-ready");
    if (!(await state.waitFor(() => ready() || !state.isAlive(process), 120_000)) || !ready()) {
      throw new Error(`the lab does not boot; see ${files.console} and ${files.qemuLog}`);
    }
    await qmp.call("stop");
    await qmp.call("migrate-set-capabilities", ignoreShared);
    await qmp.call("migrate-set-parameters", { "max-bandwidth": 10 * 2 ** 30 });
    await qmp.call("migrate", { uri: `exec:cat>${quote(`${labFolder}/saved-${key}.state.new`)}` });
    let status: unknown;
    await state.waitFor(async () => {
      status = (await qmp.call("query-migrate")).status;
      return status === "completed" || status === "failed";
    }, 60_000);
    if (status !== "completed") throw new Error(`QEMU did not save the lab: ${status}`);
    copySparse(ram, `${labFolder}/saved-${key}.ram`);
    renameSync(`${labFolder}/saved-${key}.state.new`, `${labFolder}/saved-${key}.state`);
  } finally {
    await quit(process, qmp);
    dropRamFiles();
  }
}

/** RAM is a shared file already: the saved state leaves it out. */
const ignoreShared = { capabilities: [{ capability: "x-ignore-shared", state: true }] };
const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

export function copySparse(from: string, to: string): void {
  const copy = Bun.spawnSync(["cp", "--sparse=always", from, to]);
  if (copy.exitCode !== 0) throw new Error(copy.stderr.toString().trim());
}

export async function restore(qmp: Qmp, from: string): Promise<void> {
  await qmp.call("migrate-set-capabilities", ignoreShared);
  await qmp.call("migrate-incoming", { uri: `exec:cat<${quote(from)}` });
  const restored = await state.waitFor(async () => {
    const { status } = await qmp.call("query-status");
    return status === "running" || status === "paused";
  }, 30_000);
  if (!restored) throw new Error("QEMU did not restore the saved lab; ./dev lab forget, try again");
  const device = { driver: "vhost-user-fs-pci", chardev: "files", tag: "host" };
  await qmp.call("device_add", { ...device, bus: "port1", id: "virtiofs0" });
  await qmp.call("cont");
}

/** Drops the saved machine; the next start boots anew. */
export function forget(): void {
  for (const name of existsSync(labFolder) ? readdirSync(labFolder) : []) {
    if (name.startsWith("saved-")) rmSync(`${labFolder}/${name}`);
  }
}
