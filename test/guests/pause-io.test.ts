/** Pause and resume in the midst of I/O: every request ends and is right, every frame and every byte arrives. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ApiClient } from "../../src/http/client.ts";
import { pattern } from "../network/frames.ts";
import { NetworkNamespace } from "../network/namespace.ts";
import { apiAt } from "./api.ts";
import {
  expectOk,
  type Guest,
  type GuestOptions,
  guestTimeoutMs,
  notes,
  startGuest,
  transports,
} from "./harness.ts";
import { Speaker } from "./speaker.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-pause-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const [sectors, sectorBytes, mark] = [2048, 512, 0x5a];

/** As test/guests/virtio-blk/disk.h says. */
function image(): string {
  const bytes = new Uint8Array(sectors * sectorBytes).fill(mark);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < sectors; i++) view.setBigUint64(i * sectorBytes, BigInt(i), true);
  const path = join(folder, "image");
  writeFileSync(path, bytes);
  return path;
}

/** A guest whose machine has an API. */
async function start(options: GuestOptions): Promise<{ guest: Guest; api: ApiClient }> {
  const socket = join(folder, "api.sock");
  const args = [...(options.args ?? []), "--api-socket", socket];
  const guest = await startGuest({ ...options, args });
  return { guest, api: await apiAt(socket) };
}

type Counters = Record<string, Record<string, number>>;

const pausesInWork = 20;

/**
 * Pauses and resumes a guest that works until it is told: so often that its device had done something since the last
 * time. While it is paused no device does anything. Then it is told.
 */
async function pauses(guest: Guest, api: ApiClient): Promise<void> {
  let last: Counters = {};
  for (let inWork = 0; inWork < pausesInWork; ) {
    await api.call("put", "vm.pause");
    const before = (await api.call("get", "vm.counters")) as Counters;
    const after = (await api.call("get", "vm.counters")) as Counters;
    expect(after).toEqual(before);
    await api.call("put", "vm.resume");
    if (!Bun.deepEquals(before, last)) inWork++;
    last = before;
    await Bun.sleep(1); // the guest goes on meanwhile
  }
  await guest.input("\n");
}

for (const transport of transports) {
  test.each([
    ["shared with others", ""],
    ["of its own", ",io_threads=4"],
    ["of its own, past the page cache", ",io_threads=2,direct=on"],
  ])(
    `a disk on ${transport}, on threads %s`,
    async (_, more) => {
      const { guest, api } = await start({
        ...{ guest: "virtio-blk", transport },
        cmdline: "test=workers-all-at-once rounds=1 until=told",
        args: ["--disk", `path=${image()},num_queues=4,queue_size=64${more}`],
      });
      await using _guest = guest;

      await pauses(guest, api);

      expectOk("workers-all-at-once", await guest.finish());
    },
    guestTimeoutMs,
  );

  test(
    `an interface on ${transport}: what is sent meanwhile waits, and all comes back`,
    async () => {
      using namespace = new NetworkNamespace();
      const { guest, api } = await start({
        ...{ guest: "virtio-net", transport, cmdline: "test=net-echo-merging" },
        under: ["nsenter", `--net=${namespace.path}`],
        args: ["--net", "ip=10.0.0.1,mask=255.255.255.0,mac=02:01:02:03:04:05"],
      });
      await using _guest = guest;
      await guest.until("note ready");
      const speaker = await Speaker.open(namespace, guest);
      const rounds = 30;
      const sent: Uint8Array[] = [];
      for (let round = 0; round < rounds; round++) {
        const some = Array.from({ length: 8 }, (_, i) => pattern(100 + sent.length + i, round));
        for (const data of some.slice(0, 4)) speaker.send(data);
        await api.call("put", "vm.pause");
        for (const data of some.slice(4)) speaker.send(data);
        const before = await api.call("get", "vm.counters");
        expect(await api.call("get", "vm.counters")).toEqual(before);
        await api.call("put", "vm.resume");
        sent.push(...some);
        await speaker.until(sent.length);
      }
      speaker.send("end");
      await speaker.until(sent.length + 1);
      speaker.socket.close();

      const heard = speaker.heard.slice(0, -1).toSorted((one, other) => one.length - other.length);
      expect(heard.map((data, i) => Buffer.compare(data, sent[i]!))).toEqual(sent.map(() => 0));
      expectOk("net-echo-merging", await guest.finish());
    },
    guestTimeoutMs,
  );

  test(
    `a console on ${transport}: all that the guest says comes out once, in order`,
    async () => {
      const bytes = 100_000;
      const output = join(folder, "console");
      const { guest, api } = await start({
        ...{ guest: "virtio-console", transport, console: `file=${output}` },
        cmdline: `test=console-output bytes=${bytes} until=told`,
      });
      await using _guest = guest;

      await pauses(guest, api);

      const run = await guest.finish();
      expectOk("console-output", run);
      const said = readFileSync(output, "latin1");
      expect(said.length).toBe(bytes * Number(notes(run.stdout).get("pours")));
      expect(said === "0123456789abcdef".repeat(said.length / 16)).toBe(true);
    },
    guestTimeoutMs,
  );
}
