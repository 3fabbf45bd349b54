/** The network device, driven by a guest of its own (test/guests/virtio-net) in a network namespace of the test. */
import { describe, expect, test } from "bun:test";
import { pattern } from "../network/frames.ts";
import { NetworkNamespace } from "../network/namespace.ts";
import { expectOk, guestTests, guestTimeoutMs, notes, startGuest, transports } from "./harness.ts";
import { converse, Speaker } from "./speaker.ts";

const guestMac = "02:01:02:03:04:05";
const options = `ip=10.0.0.1,mask=255.255.255.0,mac=${guestMac}`;

/** A guest in the namespace, whose tap is 10.0.0.1. */
function start(namespace: NetworkNamespace, name: string, transport: "pci" | "mmio", more = "") {
  return startGuest({
    ...{ guest: "virtio-net", transport, cmdline: `test=${name}` },
    under: ["nsenter", `--net=${namespace.path}`],
    args: ["--net", options + more],
  });
}

for (const transport of transports) {
  describe(`an interface on ${transport}`, () => {
    const echoes = ["net-echo", "net-echo-merging", "net-echo-pin"];
    test.each(transport === "pci" ? [...echoes, "net-echo-msix"] : echoes)(
      "%s: the host asks for the guest's MAC, and gets its datagrams back",
      async (name) => {
        using namespace = new NetworkNamespace();
        await using guest = await start(namespace, name, transport);
        await guest.until("note ready");
        const speaker = await Speaker.open(namespace, guest);

        const sent = await converse(speaker);

        speaker.socket.close();
        const run = await guest.finish();
        expectOk(name, run);
        expect(notes(run.stdout).get("echoed")).toBe(`${sent}`);
      },
      guestTimeoutMs,
    );

    test(
      "is taken back in the midst of frames, and works again",
      async () => {
        using namespace = new NetworkNamespace();
        await using guest = await start(namespace, "net-reset-load", transport);
        await guest.until("note flood");
        // frames for everyone: the guest need not answer for them to come
        const flood = await namespace.run(() => Bun.udpSocket({}));
        flood.setBroadcast(true);
        const timer = setInterval(() => {
          for (let i = 0; i < 5; i++) flood.send(pattern(500, i), 9, "10.0.0.255");
        }, 1);
        await guest.until("note resets").finally(() => clearInterval(timer));
        flood.close();
        await guest.until("note ready");
        const speaker = await Speaker.open(namespace, guest);
        await converse(speaker);

        speaker.socket.close();
        expectOk("net-reset-load", await guest.finish());
      },
      guestTimeoutMs,
    );

    describe("says what it is", () => {
      const namespace = new NetworkNamespace(); // goes with the test process
      guestTests(["net-identity", "net-control"], {
        ...{ guest: "virtio-net", transport, cmdline: "mtu=1400 pairs=2" },
        under: ["nsenter", `--net=${namespace.path}`],
        args: ["--net", `${options},mtu=1400,num_queues=4`],
      });
    });
  });
}
