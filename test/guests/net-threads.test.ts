/** An interface with I/O threads of its own: a guest with two pairs of queues, see virtio-net/pairs.c. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ApiClient } from "../../src/http/client.ts";
import { pattern } from "../network/frames.ts";
import { NetworkNamespace } from "../network/namespace.ts";
import { apiAt } from "./api.ts";
import { expectOk, guestTimeoutMs, notes, startGuest, transports } from "./harness.ts";
import { namesOf } from "./process.ts";
import { Speaker } from "./speaker.ts";

const folder = mkdtempSync(join(tmpdir(), "chv-net-threads-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const socket = join(folder, "api.sock");

type Guest = Awaited<ReturnType<typeof startGuest>>;

function start(namespace: NetworkNamespace, name: string, transport: "pci" | "mmio") {
  const options = "ip=10.0.0.1,mask=255.255.255.0,mac=02:01:02:03:04:05";
  return startGuest({
    ...{ guest: "virtio-net", transport, cmdline: `test=${name}` },
    under: ["nsenter", `--net=${namespace.path}`],
    args: ["--net", `${options},num_queues=4,io_threads=2`, "--api-socket", socket],
  });
}

const rounds = 8;
/** A tap forgets by which queue a flow went after 3 s (drivers/net/tun.c: TUN_FLOW_EXPIRE). */
const rememberedMs = 2500;
/**
 * Two programs of the host have datagrams sent back in turn, one after the other; then they end. With `api` the machine
 * stands still when they are sent. Gives how many of the second one's came while the tap remembered the one before.
 */
async function converse(
  namespace: NetworkNamespace,
  guest: Guest,
  api?: ApiClient,
): Promise<number> {
  const a = await Speaker.open(namespace, guest);
  const b = await Speaker.open(namespace, guest);
  let [remembered, sentMs] = [0, Number.NEGATIVE_INFINITY];
  for (let round = 0; round < rounds; round++) {
    await api?.call("put", "vm.pause");
    const beforeMs = performance.now();
    a.send(`A${round}`);
    b.send(`B${round}`);
    await api?.call("put", "vm.resume");
    await a.until(round + 1);
    await b.until(round + 1);
    if (performance.now() - sentMs < rememberedMs) remembered++;
    sentMs = beforeMs;
  }
  const all = (name: string) => Array.from({ length: rounds }, (_, round) => `${name}${round}`);
  expect([a.heard.map(String), b.heard.map(String)]).toEqual([all("A"), all("B")]);
  a.send("end");
  await a.until(rounds + 1);
  a.socket.close();
  b.socket.close();
  return remembered;
}

for (const transport of transports) {
  describe(`two pairs on two threads on ${transport}`, () => {
    test(
      "frames move on both, on one, and on both again",
      async () => {
        using namespace = new NetworkNamespace();
        await using guest = await start(namespace, "net-pairs", transport);
        await guest.until("note ready");
        const workers = () => namesOf(guest.pid, /^io\d/);
        while (workers().length < 3) await Bun.sleep(5); // they start once the guest runs
        expect(workers()).toEqual(["io0", "io1", "io2"]);
        const first = await converse(namespace, guest, await apiAt(socket));
        await guest.until("note one");
        await converse(namespace, guest);
        await guest.until("note two");
        const third = await converse(namespace, guest);

        const run = await guest.finish();
        expectOk("net-pairs", run);
        // a flow's frames come where the guest answered it, but for the first
        const onSecond = ["first-both", "second-both", "third-both"].map((name) =>
          Number(notes(run.stdout).get(name)),
        );
        expect(onSecond[1]).toBe(0);
        expect(onSecond[0]).toBeGreaterThanOrEqual(first);
        expect(onSecond[2]).toBeGreaterThanOrEqual(third);
      },
      guestTimeoutMs,
    );

    test(
      "they are taken back in the midst of frames, and work again",
      async () => {
        using namespace = new NetworkNamespace();
        await using guest = await start(namespace, "net-pairs-reset", transport);
        await guest.until("note flood");
        // frames of many flows, for everyone: the guest need not answer for them to come
        const flood = await namespace.run(() =>
          Promise.all(Array.from({ length: 64 }, () => Bun.udpSocket({}))),
        );
        for (const socket of flood) socket.setBroadcast(true);
        let turn = 0;
        const timer = setInterval(() => {
          turn++; // the hash of a flow chooses its queue: of 64 flows some are on each
          for (const [i, socket] of flood.entries()) {
            if (i % 4 === turn % 4) socket.send(pattern(500, i), 9, "10.0.0.255");
          }
        }, 1);
        await guest.until("note resets").finally(() => clearInterval(timer));
        for (const socket of flood) socket.close();
        await guest.until("note ready");
        await converse(namespace, guest);

        expectOk("net-pairs-reset", await guest.finish());
      },
      guestTimeoutMs,
    );
  });
}
