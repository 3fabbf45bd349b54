/**
 * `./dev bench start`: process start to the first KVM_RUN, to the API's first answer, and by the API to a machine that
 * runs a Linux kernel; and what a machine costs in memory beside the guest's RAM.
 * The peer is QEMU's microvm with the same PVH guest; when it enters the guest its own trace tells.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monotonicNs } from "../../src/ffi/clock.ts";
import { ApiClient } from "../../src/http/client.ts";
import { buildGuest } from "../guests/build.ts";
import { chvCommand } from "../guests/harness.ts";
import { report, row } from "./report.ts";

const runs = 15;
const memoryRuns = 3;
const manyVcpus = 9;
const ramMiB = 512;

const folder = mkdtempSync(join(tmpdir(), "chv-bench-"));
const eventsPath = join(folder, "events");
const linux = join(import.meta.dir, "../../.cache/kernels/6.12-cloud/vmlinuz");
const guest = await buildGuest("hello");
const busyGuest = await buildGuest("bench-exits");
const chv = await chvCommand();

const qemu =
  "qemu-system-x86_64 -M microvm,ioapic2=off -accel kvm -cpu max,-arch-capabilities" +
  ` -m ${ramMiB} -nodefaults -no-user-config -display none -no-reboot -serial null` +
  " -device isa-debug-exit,iobase=0xf4,iosize=1 -msg timestamp=on";

try {
  const first: number[] = [];
  const apiRuns: ApiStart[] = [];
  const qemuFirst: number[] = [];
  for (let run = 0; run < runs; run++) {
    first.push(await chvStart());
    qemuFirst.push(qemuStart());
    apiRuns.push(await apiStart());
  }
  const one: Memory[] = [];
  const many: Memory[] = [];
  for (let run = 0; run < memoryRuns; run++) {
    one.push(await memory(1));
    many.push(await memory(manyVcpus));
  }
  const each = many.map(({ own, files }, run) => {
    const more = own + files - one[run]!.own - one[run]!.files;
    return more / (manyVcpus - 1);
  });
  report("start", [
    row("first KVM_RUN ms", "ms", first, {
      name: "QEMU microvm",
      command: `${qemu} -kernel hello.elf`,
      samples: qemuFirst,
    }),
    row(
      "start to the first vmm.ping ms",
      "ms",
      apiRuns.map(({ pingMs }) => pingMs),
    ),
    ...(apiRuns[0]!.runningMs === undefined
      ? []
      : [
          row(
            "start, create, boot to Running ms",
            "ms",
            apiRuns.map(({ runningMs }) => runningMs!),
          ),
        ]),
    row(
      "resident beside guest RAM MiB",
      "MiB",
      one.map(({ own }) => own),
    ),
    row(
      "resident file pages of the runtime MiB",
      "MiB",
      one.map(({ files }) => files),
    ),
    row("resident per further vCPU MiB", "MiB", each),
  ]);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

interface Event {
  readonly event: string;
  readonly timestamp: { readonly secs: number; readonly nanos: number };
  readonly properties: { readonly monotonic_ns?: number } | null;
}

function command(kernel: string, vcpus: number, cmdline: string): string[] {
  const machine = ["--memory", `size=${ramMiB}M`, "--cpus", `boot=${vcpus}`];
  const ends = ["--serial", "null", "--console", "off", "--event-monitor", `path=${eventsPath}`];
  return [...chv, "--kernel", kernel, "--cmdline", cmdline, ...machine, ...ends];
}

/** ms from before the process is started to the first KVM_RUN, both on the monotonic clock. */
async function chvStart(): Promise<number> {
  rmSync(eventsPath, { force: true });
  const startNs = monotonicNs();
  const process = Bun.spawn(command(guest, 1, ""), { stdin: "ignore", stdout: "ignore" });
  if ((await process.exited) !== 0) throw new Error("chv failed");
  const lines = readFileSync(eventsPath, "utf8").trim().split("\n");
  const events = lines.map((line) => JSON.parse(line) as Event);
  const find = (name: string) => events.find(({ event }) => event === name)!;
  const { secs, nanos } = find("first-run").timestamp;
  const runNs = find("starting").properties!.monotonic_ns! + secs * 1e9 + nanos;
  return (runNs - startNs) / 1e6;
}

interface ApiStart {
  readonly pingMs: number;
  /** With a kernel of Linux, where one has been fetched (`./dev kernel 6.12-cloud`). */
  readonly runningMs: number | undefined;
}

/** ms from before the process is started until a client that tries without a pause has its answers. */
async function apiStart(): Promise<ApiStart> {
  const socket = join(folder, "api.sock");
  const startNs = monotonicNs();
  const process = Bun.spawn([...chv, "--api-socket", socket], { stdin: "ignore" });
  try {
    while (!existsSync(socket)) await new Promise(setImmediate);
    const api = new ApiClient(socket);
    const elapsed = () => (monotonicNs() - startNs) / 1e6;
    await api.call("get", "vmm.ping");
    const pingMs = elapsed();
    if (!existsSync(linux)) return { pingMs, runningMs: undefined };
    const memory = { size: ramMiB * 2 ** 20 };
    const ends = { serial: { mode: "Null" }, console: { mode: "Off" } };
    await api.call("put", "vm.create", { payload: { kernel: linux }, memory, ...ends });
    await api.call("put", "vm.boot");
    const info = (await api.call("get", "vm.info")) as { state: string };
    if (info.state !== "Running") throw new Error(`the VM is ${info.state}`);
    return { pingMs, runningMs: elapsed() };
  } finally {
    process.kill("SIGKILL");
    await process.exited;
    rmSync(socket, { force: true });
  }
}

/** The same of QEMU: its trace names each ioctl of a vCPU with the wall-clock time. */
function qemuStart(): number {
  const trace = join(folder, "trace");
  const startMs = performance.timeOrigin + performance.now();
  const arguments_ = [...qemu.split(" "), "-kernel", guest, "-append", "platform=qemu"];
  Bun.spawnSync([...arguments_, "-trace", "kvm_vcpu_ioctl", "-D", trace], { timeout: 20_000 });
  const kvmRun = "type 0xae80";
  const line = readFileSync(trace, "utf8")
    .split("\n")
    .find((text) => text.includes(kvmRun));
  const seconds = /@(\d+\.\d+):/.exec(line ?? "")?.[1];
  if (!seconds) throw new Error("QEMU's trace names no KVM_RUN");
  return Number(seconds) * 1000 - startMs;
}

interface Memory {
  /** MiB resident that are neither guest RAM nor pages of files. */
  readonly own: number;
  readonly files: number;
}

/** What a running machine has resident, by /proc/PID/smaps. */
async function memory(vcpus: number): Promise<Memory> {
  const forEver = command(busyGuest, vcpus, "count=1000000000");
  const process = Bun.spawn(forEver, { stdin: "ignore", stdout: "ignore" });
  try {
    await Bun.sleep(1500);
    return split(readFileSync(`/proc/${process.pid}/smaps`, "utf8"));
  } finally {
    process.kill("SIGKILL");
    await process.exited;
  }
}

function split(smaps: string): Memory {
  let [own, files] = [0, 0];
  for (const block of smaps.split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/)) {
    const [head = ""] = block.split("\n");
    const [start = "", end = ""] = head.split(" ")[0]!.split("-");
    const bytes = Number.parseInt(end, 16) - Number.parseInt(start, 16);
    const rss = Number(/^Rss:\s+(\d+)/m.exec(block)?.[1] ?? 0) / 1024;
    const path = head.split(/\s+/)[5] ?? "";
    // guest RAM: its first 2 MiB have advice of their own; none of it is in a core dump
    const isRamPart = [2, ramMiB - 2, ramMiB].includes(bytes / 1024 / 1024);
    if (isRamPart && /^VmFlags:.* dd/m.test(block)) continue;
    if (path.startsWith("/") && !path.startsWith("/memfd")) files += rss;
    else own += rss;
  }
  return { own, files };
}
