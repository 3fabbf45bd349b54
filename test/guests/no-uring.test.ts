/** A disk on a host that refuses io_uring: what may take long is done by a thread of the disk's own. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildHostProgram } from "./build.ts";
import { guestTimeoutMs, runSuite, startGuest, verdicts } from "./harness.ts";
import { namesOf } from "./process.ts";

const sectors = 2048;
const folder = mkdtempSync(join(tmpdir(), "chv-no-uring-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Sectors as virtio-blk/disk.h wants them. */
function image(name: string): string {
  const bytes = new Uint8Array(sectors * 512).fill(0x5a);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < sectors; i++) view.setBigUint64(i * 512, BigInt(i), true);
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
}
const under = async () => [await buildHostProgram("no-uring", "test/guests/host/no-uring.c")];
const disk = (name: string, more = "") => [
  "--disk",
  `path=${image(name)},serial=guest-disk${more}`,
];
const words = `sectors=${sectors} queue_size=128 rounds=10`;

test(
  "a guest's disk works, is reset at work, and ends with the machine; one line says how",
  async () => {
    const names = ["blk-read", "blk-write", "blk-zeroes", "blk-discard", "virtio-reset-in-flight"];
    const { stdout, stderr, exitCode } = await runSuite(names.join(","), {
      ...{ guest: "virtio-blk", cmdline: words, args: disk("suite"), under: await under() },
    });

    expect(verdicts(stdout)).toEqual([...names.map((name) => `ok ${name}`), "done"]);
    expect(stderr.trimEnd()).toMatch(/^.*_disk0: no io_uring \(.*EPERM\).*preadv2.*$/);
    expect(exitCode).toBe(0);
  },
  guestTimeoutMs,
);

test(
  "each I/O thread of a disk has its helper once it needs one, and not before",
  async () => {
    const options = { guest: "virtio-blk", under: await under() };
    const args = disk("threads", ",num_queues=4,queue_size=64,io_threads=2");
    const cmdline = `sectors=${sectors} queues=4 test=workers-all-at-once rounds=1000000`;
    await using guest = await startGuest({ ...options, args, cmdline });
    const named = () => namesOf(guest.pid, /^(io|chores)\d/);
    while (named().length < 5) await Bun.sleep(10);

    expect(named()).toEqual(["chores0", "chores1", "io0", "io1", "io2"]);
  },
  guestTimeoutMs,
);
