/** Pause and resume in the midst of I/O: every request ends and is right, every frame and every byte arrives. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient } from "../../src/http/client.ts";
import { pattern } from "../network/frames.ts";
import { NetworkNamespace } from "../network/namespace.ts";
import {
  expectOk,
  type Guest,
  type GuestOptions,
  guestTimeoutMs,
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
  const [guest, api] = [await startGuest({ ...options, args }), new ApiClient(socket)];
  const answers = () => api.call("get", "vmm.ping").then(Boolean, () => false);
  while (!(await answers())) await Bun.sleep(1); // the guest runs before anybody may ask
  return { guest, api };
}

type Counters = Record<string, Record<string, number>>;

const pausesMax = 40;

/** Pauses and resumes while the guest works: how often. While it is paused no device does anything. */
async function pauses(guest: Guest, api: ApiClient): Promise<number> {
  const running = { ended: false };
  const ended = guest.ended().then(() => {
    running.ended = true;
  });
  let count = 0;
  while (!running.ended && count < pausesMax) {
    try {
      await api.call("put", "vm.pause");
      const before = (await api.call("get", "vm.counters")) as Counters;
      const after = (await api.call("get", "vm.counters")) as Counters;
      expect(after).toEqual(before);
      await api.call("put", "vm.resume");
      count++;
      await Bun.sleep(1); // the guest goes on meanwhile
    } catch (error) {
      const { name, message } = error as Error;
      // it has powered itself off
      if (name !== "NobodyError" && !message.includes("The VM is Shutdown")) throw error;
      await Promise.race([ended, Bun.sleep(1)]);
    }
  }
  return count;
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
        cmdline: `test=workers-all-at-once rounds=12`,
        args: ["--disk", `path=${image()},num_queues=4,queue_size=64${more}`],
      });
      await using _guest = guest;

      const count = await pauses(guest, api);

      expectOk("workers-all-at-once", await guest.finish());
      expect(count).toBeGreaterThan(5);
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
      const bytes = 1_200_000;
      const [serial, output] = [join(folder, "serial"), join(folder, "console")];
      const { guest, api } = await start({
        ...{ guest: "virtio-console", transport, cmdline: `test=console-output bytes=${bytes}` },
        ...{ serial: `file=${serial}`, console: `file=${output}` },
      });
      await using _guest = guest;

      const count = await pauses(guest, api);

      const { stderr, exitCode } = await guest.finish();
      expect([stderr, exitCode]).toEqual(["", 0]);
      expect(readFileSync(serial, "utf8")).toContain("ok console-output");
      expect(readFileSync(output, "latin1")).toBe("0123456789abcdef".repeat(bytes / 16));
      expect(count).toBeGreaterThan(5);
    },
    guestTimeoutMs,
  );
}
