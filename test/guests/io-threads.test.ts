/** A disk with I/O threads of its own: a guest with four queues, see virtio-blk/workers.c. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { guestTests, guestTimeoutMs, type SuiteOptions, startGuest } from "./harness.ts";
import { namesOf } from "./process.ts";

const sectors = 2048;
const sectorBytes = 512;
const folder = mkdtempSync(join(tmpdir(), "chv-io-threads-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Sectors as disk.h wants them: their number, then 0x5a. */
function image(name: string): string {
  const bytes = new Uint8Array(sectors * sectorBytes).fill(0x5a);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < sectors; i++) view.setBigUint64(i * sectorBytes, BigInt(i), true);
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
}

const withThreads = (name: string, threads: number): SuiteOptions => ({
  guest: "virtio-blk",
  cmdline: `sectors=${sectors} queues=4 queue_size=64 rounds=10`,
  args: ["--disk", `path=${image(name)},num_queues=4,queue_size=64,io_threads=${threads}`],
});
const names = ["workers-all-at-once", "workers-one-disk", "workers-reset-in-flight"];

for (const [transport, threads] of [
  ["pci", 4],
  ["mmio", 3],
] as const) {
  describe(`four queues on ${threads} threads on ${transport}`, () => {
    guestTests(names, { transport, ...withThreads(`${transport}${threads}`, threads) });
  });
}

test(
  "each thread has its name, and the shared one stays",
  async () => {
    const { cmdline, ...options } = withThreads("named", 3);
    const words = `rounds=1000000 ${cmdline} test=workers-all-at-once`;
    await using guest = await startGuest({ guest: "virtio-blk", ...options, cmdline: words });
    const named = () => namesOf(guest.pid, /^io\d/);
    while (named().length < 4) await Bun.sleep(10);

    expect(named()).toEqual(["io0", "io1", "io2", "io3"]);
  },
  guestTimeoutMs,
);
