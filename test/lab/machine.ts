/**
 * The lab: a machine whose /dev/kvm runs Linux, on a host whose own cannot.
 *
 * QEMU emulates an AMD processor with SVM; in it kvm_amd gives a true /dev/kvm. The host's / is the
 * lab's root, read-only under an overlay in memory, but the project's folder is the host's own. The
 * first start boots the lab and saves it (about 8 s); later ones restore it (about 2 s).
 */

import { createHash, randomBytes } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer } from "node:net";
import { agentRun, CONNECTION_LOST } from "./client.ts";
import { labImage } from "./image.ts";
import { kernelFile, labFolder } from "./paths.ts";
import { Qmp } from "./qmp.ts";
import * as state from "./state.ts";

/** From the environment: CHV_LAB_CPUS, CHV_LAB_MEMORY (a number of GiB), CHV_LAB_IDLE (minutes). */
function settings() {
  const number = (name: string, standard: number) => {
    const value = Number(process.env[name] ?? standard);
    if (!(Number.isInteger(value) && value > 0))
      throw new Error(`${name}: a positive integer, please`);
    return value;
  };
  return {
    cpus: number("CHV_LAB_CPUS", 2),
    memory: `${number("CHV_LAB_MEMORY", 6)}G`,
    idleMinutes: number("CHV_LAB_IDLE", 30),
  };
}

const say = (text: string) => console.error(`lab: ${text}`);
const virtiofsdBinary = "/usr/lib/qemu/virtiofsd";
const files = {
  image: `${labFolder}/initramfs`,
  console: `${labFolder}/console.log`,
  qemuLog: `${labFolder}/qemu.log`,
  virtiofsdLog: `${labFolder}/virtiofsd.log`,
  token: `${labFolder}/token`,
  qmp: `${labFolder}/qmp.sock`,
  virtiofs: `${labFolder}/virtiofs.sock`,
};
/** Held by QEMU as long as it lives: two labs would starve each other, and every test in them. */
const machineLock = "/run/lock/chv-lab.lock";
const LOCK_TAKEN = 75;

/** Where the RAM of a running lab lies: memory if there is room, else the lab's folder. */
function ramFolder(memory: string): string {
  const free = statfsSync("/dev/shm");
  return free.bavail * free.bsize >= Number.parseInt(memory, 10) * 2 ** 30 ? "/dev/shm" : labFolder;
}

interface QemuOptions {
  readonly cpus: number;
  readonly memory: string;
  readonly ram: string;
  readonly port: number;
  readonly more?: readonly string[];
}

function qemuArguments(options: QemuOptions): string[] {
  // Emulated string instructions are slow: without them the kernel's loops are three times faster.
  const words = "console=ttyS0 panic=-1 quiet mitigations=off tsc=reliable init_on_alloc=0";
  return [
    "qemu-system-x86_64",
    ...["-accel", "tcg,thread=multi,tb-size=1024"],
    ...["-machine", "q35,memory-backend=ram", "-cpu", "max,+svm,-erms,-fsrm"],
    ...["-smp", String(options.cpus), "-m", options.memory],
    "-object",
    `memory-backend-file,id=ram,size=${options.memory},share=on,mem-path=${options.ram}`,
    ...["-nodefaults", "-no-reboot", "-display", "none", "-serial", `file:${files.console}`],
    ...["-qmp", `unix:${files.qmp},server=on,wait=off`],
    ...["-device", "pcie-root-port,id=port1,chassis=1,slot=1"],
    ...["-device", "virtio-net-pci,netdev=net0,romfile="],
    ...["-netdev", `user,id=net0,hostfwd=tcp:127.0.0.1:${options.port}-:7000`],
    ...["-kernel", kernelFile("6.12-cloud", "vmlinux"), "-initrd", files.image],
    ...["-append", `${words} clearcpuid=rep_good`],
    ...(options.more ?? []),
  ];
}

/** Starts a process that outlives this one, with its output in a file. */
function daemon(command: string[], log: string): Bun.Subprocess {
  const output = openSync(log, "w");
  const child = Bun.spawn(command, {
    stdio: ["ignore", output, output],
    cwd: labFolder,
    detached: true,
  });
  closeSync(output);
  child.unref();
  return child;
}

/** QEMU, once it answers on its QMP socket; waits while another lab of this machine runs. */
async function startQemu(options: QemuOptions): Promise<{ process: state.Process; qmp: Qmp }> {
  for (let attempt = 0; ; attempt++) {
    rmSync(files.qmp, { force: true });
    writeFileSync(files.console, "");
    const command = ["flock", "--no-fork", "-n", "-E", String(LOCK_TAKEN), machineLock];
    const child = daemon([...command, ...qemuArguments(options)], files.qemuLog);
    await state.waitFor(() => child.exitCode !== null || answers(files.qmp), 30_000);
    const process = state.processOf(child.pid);
    if (child.exitCode === null && process) return { process, qmp: await Qmp.open(files.qmp) };
    if (child.exitCode !== LOCK_TAKEN) {
      throw new Error(`QEMU ended: ${readFileSync(files.qemuLog, "utf8").trim()}`);
    }
    if (attempt === 0) say("another lab runs on this machine; waiting for it to stop");
    if (attempt === 600) throw new Error("another lab still runs after 10 minutes");
    await Bun.sleep(1000);
  }
}

function answers(socket: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  if (!existsSync(socket)) return Promise.resolve(false);
  const connection = connect(socket);
  connection.on("connect", () => resolve(true)).on("error", () => resolve(false));
  return promise.finally(() => connection.destroy());
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no free port on 127.0.0.1");
  return address.port;
}

/** What a saved machine depends on; another key, and it is of no use. */
function savedKey(image: Buffer, cpus: number, memory: string): string {
  const hash = createHash("sha256").update(image);
  hash.update(Bun.spawnSync(["qemu-system-x86_64", "--version"]).stdout);
  hash.update(readFileSync(kernelFile("6.12-cloud", "vmlinuz")));
  hash.update(qemuArguments({ cpus, memory, ram: "", port: 0 }).join("\n"));
  return hash.digest("hex").slice(0, 16);
}

/** Boots the lab until it waits for the host's files, and saves it there: state and RAM. */
async function bootAndSave(key: string, cpus: number, memory: string): Promise<void> {
  say("first start: booting the lab to save it");
  for (const name of readdirSync(labFolder)) {
    if (name.startsWith("saved-")) rmSync(`${labFolder}/${name}`);
  }
  const ram = `${ramFolder(memory)}/chv-lab-${key}.boot`;
  rmSync(ram, { force: true });
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
    Bun.spawnSync(["mv", `${labFolder}/saved-${key}.state.new`, `${labFolder}/saved-${key}.state`]);
  } finally {
    await quit(process, qmp);
    rmSync(ram, { force: true });
  }
}

/** RAM is a shared file already: the saved state leaves it out. */
const ignoreShared = { capabilities: [{ capability: "x-ignore-shared", state: true }] };
const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

function copySparse(from: string, to: string): void {
  const copy = Bun.spawnSync(["cp", "--sparse=always", from, to]);
  if (copy.exitCode !== 0) throw new Error(copy.stderr.toString().trim());
}

async function quit(process: state.Process, qmp: Qmp): Promise<void> {
  await qmp.call("quit").catch(() => undefined);
  qmp.close();
  await state.waitFor(() => !state.isAlive(process), 3000);
  await state.end(process);
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
  const image = labImage(idleMinutes);
  writeFileSync(files.image, image);
  const key = savedKey(image, cpus, memory);
  const saved = `${labFolder}/saved-${key}`;
  if (!existsSync(`${saved}.state`)) await bootAndSave(key, cpus, memory);

  const token = randomBytes(16).toString("hex");
  writeFileSync(files.token, token, { mode: 0o600 });
  const fileServer = await startVirtiofsd();
  const ram = `${ramFolder(memory)}/chv-lab-${key}.${process.pid}`;
  copySparse(`${saved}.ram`, ram);
  const port = await freePort();
  const more = ["-chardev", `socket,id=files,path=${files.virtiofs}`, "-incoming", "defer"];
  const { process: qemu, qmp } = await startQemu({ cpus, memory, ram, port, more });
  state.writeState({ qemu, virtiofsd: fileServer, port, token, cpus, memory });
  rmSync(ram); // QEMU has it open; gone with QEMU, however that ends
  try {
    await restore(qmp, `${saved}.state`);
    await waitForAgent();
  } catch (error) {
    await stop();
    throw error;
  } finally {
    qmp.close();
  }
}

async function startVirtiofsd(): Promise<state.Process> {
  rmSync(files.virtiofs, { force: true });
  const options = ["source=/", "cache=auto", "no_posix_lock", "sandbox=chroot"];
  const command = [virtiofsdBinary, `--socket-path=${files.virtiofs}`];
  for (const option of options) command.push("-o", option);
  const child = daemon(command, files.virtiofsdLog);
  await state.waitFor(() => existsSync(files.virtiofs) || child.exitCode !== null, 10_000);
  const process = state.processOf(child.pid);
  if (!process) throw new Error(`virtiofsd: ${readFileSync(files.virtiofsdLog, "utf8").trim()}`);
  return process;
}

async function restore(qmp: Qmp, from: string): Promise<void> {
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

/** Stops the lab unless someone else still uses it: then its last user, or its idleness, ends it. */
export async function release(): Promise<void> {
  if (state.readState() && (await isBusy())) say("left running: it is in use");
  else await stop();
}

/** Drops the saved machine; the next start boots anew. */
export function forget(): void {
  for (const name of existsSync(labFolder) ? readdirSync(labFolder) : []) {
    if (name.startsWith("saved-")) rmSync(`${labFolder}/${name}`);
  }
}
