/** The host's side of a talk with the guest's station (test/guests/virtio-net). */
import { expect } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { pattern } from "../network/frames.ts";
import type { NetworkNamespace } from "../network/namespace.ts";
import type { Follower } from "./process.ts";

const [guestAddress, echoPort] = ["10.0.0.2", 7];
const longest = 1472;

/** A host's program that sends datagrams to the guest and hears what comes back. */
export class Speaker {
  readonly heard: Buffer[] = [];
  #wake = () => {};

  private constructor(
    readonly socket: Bun.udp.ConnectedSocket<"buffer">,
    readonly guest: Follower,
  ) {}

  static async open(namespace: NetworkNamespace, guest: Follower): Promise<Speaker> {
    const heard = { by: undefined as Speaker | undefined };
    const socket = await namespace.run(() => {
      askPatiently();
      return Bun.udpSocket({
        connect: { hostname: guestAddress!, port: echoPort as number },
        socket: { data: (_, data) => heard.by?.hear(data) },
      });
    });
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

/** The host asks for a neighbour's MAC once a second: for ten minutes, not for 3 s, before it drops what waits. */
function askPatiently(): void {
  const neighbours = "/proc/sys/net/ipv4/neigh";
  for (const name of readdirSync(neighbours)) {
    for (const how of ["mcast_solicit", "ucast_solicit"]) {
      writeFileSync(`${neighbours}/${name}/${how}`, "600");
    }
  }
}

/** Sends datagrams of many lengths, a few at a time; each must come back as it was. */
export async function converse(speaker: Speaker): Promise<number> {
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
