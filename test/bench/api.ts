/**
 * `./dev bench api`: how soon the API answers while a guest keeps its processor, its disk and an I/O worker busy, and
 * how long a pause takes under that load. No peer: nothing else here speaks this API.
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient } from "../../src/http/client.ts";
import { buildGuest } from "../guests/build.ts";
import { chvCommand } from "../guests/harness.ts";
import { report, row } from "./report.ts";

const pings = 2000;
const pauses = 100;
const [sectors, queues] = [2048, 4];

const folder = mkdtempSync(join(tmpdir(), "chv-bench-"));
const socket = join(folder, "api.sock");
const disk = join(folder, "disk");
const api = new ApiClient(socket);

/** The sectors that the guest expects (test/guests/virtio-blk/disk.h). */
function fill(): void {
  const bytes = new Uint8Array(sectors * 512).fill(0x5a);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < sectors; i++) view.setBigUint64(i * 512, BigInt(i), true);
  writeFileSync(disk, bytes);
  truncateSync(disk, bytes.length);
}

const command = [
  ...(await chvCommand()),
  ...["--api-socket", socket, "--kernel", await buildGuest("virtio-blk")],
  ...["--cmdline", "test=workers-all-at-once rounds=100000000"],
  ...["--disk", `path=${disk},num_queues=${queues},queue_size=64,direct=on`],
  ...["--serial", "null", "--console", "off", "--memory", "512M"],
];

async function timed(run: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await run();
  return performance.now() - start;
}

const percentile = (samples: readonly number[], part: number) =>
  samples.toSorted((one, other) => one - other)[Math.floor(samples.length * part)]!;

fill();
const process_ = Bun.spawn(command, { stdin: "ignore", stdout: "ignore", stderr: "inherit" });
try {
  const requests = async () => {
    const counters = (await api.call("get", "vm.counters").catch(() => ({}))) as {
      _disk0?: { read_ops: number };
    };
    return counters._disk0?.read_ops ?? 0;
  };
  while ((await requests()) < 1000) await Bun.sleep(5);

  const ping: number[] = [];
  for (let i = 0; i < pings; i++) ping.push(await timed(() => api.call("get", "vmm.ping")));
  const [pause, resume]: [number[], number[]] = [[], []];
  for (let i = 0; i < pauses; i++) {
    pause.push(await timed(() => api.call("put", "vm.pause")));
    resume.push(await timed(() => api.call("put", "vm.resume")));
    const before = await requests();
    while ((await requests()) === before) await Bun.sleep(1); // the load is there again
  }
  report("api", [
    row("vmm.ping under load ms", "ms", ping),
    row("vmm.ping under load, 99th percentile ms", "ms", [percentile(ping, 0.99)]),
    row("vm.pause under load ms", "ms", pause),
    row("vm.resume ms", "ms", resume),
  ]);
} finally {
  process_.kill("SIGKILL");
  await process_.exited;
  rmSync(folder, { recursive: true, force: true });
}
