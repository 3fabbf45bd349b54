/** The network device, driven by a guest of its own (test/guests/virtio-net) in a network namespace of the test. */
import { describe, expect, test } from "bun:test";
import { pattern } from "../network/frames.ts";
import { NetworkNamespace } from "../network/namespace.ts";
import {
  expectOk,
  type Guest,
  guestTests,
  guestTimeoutMs,
  notes,
  startGuest,
  transports,
} from "./harness.ts";

const guestMac = "02:01:02:03:04:05";
const [guestAddress, echoPort] = ["10.0.0.2", 7];
const options = `ip=10.0.0.1,mask=255.255.255.0,mac=${guestMac}`;
const longest = 1472;

/** A guest in the namespace, whose tap is 10.0.0.1. */
function start(namespace: NetworkNamespace, name: string, transport: "pci" | "mmio", more = "") {
  return startGuest({
    ...{ guest: "virtio-net", transport, cmdline: `test=${name}` },
    under: ["nsenter", `--net=${namespace.path}`],
    args: ["--net", options + more],
  });
}

/** A host's program that sends datagrams to the guest and hears what comes back. */
class Speaker {
  readonly heard: Buffer[] = [];
  #wake = () => {};

  private constructor(
    readonly socket: Bun.udp.ConnectedSocket<"buffer">,
    readonly guest: Guest,
  ) {}

  static async open(namespace: NetworkNamespace, guest: Guest): Promise<Speaker> {
    const heard = { by: undefined as Speaker | undefined };
    const socket = await namespace.run(() =>
      Bun.udpSocket({
        connect: { hostname: guestAddress!, port: echoPort as number },
        socket: { data: (_, data) => heard.by?.hear(data) },
      }),
    );
    heard.by = new Speaker(socket, guest);
    return heard.by;
  }

  send(data: Uint8Array | string): void {
    this.socket.send(data);
  }

  hear(data: Buffer): void {
    this.heard.push(Buffer.from(data));
    this.#wake();
  }

  /** Until so many datagrams came, or the guest ended. */
  async until(count: number): Promise<void> {
    const ended = this.guest.ended();
    while (this.heard.length < count) {
      const next = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const end = ended.then(({ stdout, stderr }) => {
        throw new Error(`the guest ended:\n${stdout}\n${stderr}`);
      });
      await Promise.race([next, end]);
    }
  }
}

/** Sends datagrams of many lengths, a few at a time; each must come back as it was. */
async function converse(speaker: Speaker): Promise<number> {
  const lengths = [1, 17, 18, 19, 100, 500, 1000, longest - 1, longest];
  const all = lengths.map((length, i) => pattern(length, i));
  for (const data of all) speaker.send(data);
  await speaker.until(all.length);
  const sorted = speaker.heard.toSorted((one, other) => one.length - other.length);
  expect(sorted.map((data, i) => Buffer.compare(data, all[i]!))).toEqual(all.map(() => 0));
  speaker.send("end");
  await speaker.until(all.length + 1);
  return all.length + 1;
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
