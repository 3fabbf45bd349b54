/** The lab's two processes, QEMU and virtiofsd: how they are started and ended. */

import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { kernelFile, labFolder } from "./paths.ts";
import { Qmp } from "./qmp.ts";
import { dropRamFiles } from "./ram.ts";
import * as state from "./state.ts";

export const say = (text: string) => console.error(`lab: ${text}`);
export const files = {
  image: `${labFolder}/initramfs`,
  console: `${labFolder}/console.log`,
  qemuLog: `${labFolder}/qemu.log`,
  virtiofsdLog: `${labFolder}/virtiofsd.log`,
  token: `${labFolder}/token`,
  qmp: `${labFolder}/qmp.sock`,
  virtiofs: `${labFolder}/virtiofs.sock`,
};
const virtiofsdBinary = "/usr/lib/qemu/virtiofsd";
/** Held by QEMU as long as it lives: two labs would starve each other, and every test in them. */
const machineLock = "/run/lock/chv-lab.lock";
const LOCK_TAKEN = 75;

export interface QemuOptions {
  readonly cpus: number;
  readonly memory: string;
  readonly ram: string;
  readonly port: number;
  readonly more?: readonly string[];
}

export function qemuArguments(options: QemuOptions): string[] {
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

/** Processes that no state file knows yet. */
export const unfinished = new Set<state.Process>();

/** Kills what a start that is interrupted has begun, and leaves nothing of it. */
export function abandon(): void {
  for (const begun of unfinished) if (state.isAlive(begun)) process.kill(begun.pid, "SIGKILL");
  dropRamFiles();
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
  const begun = state.processOf(child.pid);
  if (begun) unfinished.add(begun);
  return child;
}

/** QEMU, once it answers on its QMP socket; waits while another lab of this machine runs. */
export async function startQemu(
  options: QemuOptions,
): Promise<{ process: state.Process; qmp: Qmp }> {
  for (let attempt = 0; ; attempt++) {
    rmSync(files.qmp, { force: true });
    writeFileSync(files.console, "");
    const command = ["flock", "--no-fork", "-n", "-E", String(LOCK_TAKEN), machineLock];
    const child = daemon([...command, ...qemuArguments(options)], files.qemuLog);
    await state.waitFor(() => child.exitCode !== null || answers(files.qmp), 30_000);
    const process = state.processOf(child.pid);
    if (child.exitCode === null && process) {
      return { process, qmp: await Qmp.open(files.qmp) };
    }
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

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no free port on 127.0.0.1");
  return address.port;
}

export async function startVirtiofsd(): Promise<state.Process> {
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

export async function quit(process: state.Process, qmp: Qmp): Promise<void> {
  await qmp.call("quit").catch(() => undefined);
  qmp.close();
  await state.waitFor(() => !state.isAlive(process), 3000);
  await state.end(process);
}
