/**
 * A second network behind the host: the host routes between a device's tap (10.0.0.0/24, the guest is 10.0.0.2) and the
 * wire (10.0.1.0/24, the far end is 10.0.1.2). What leaves by the wire has no offloads: the kernel has done what a
 * network card would have done.
 */
import { writeFileSync } from "node:fs";
import { Block } from "../../src/ffi/block.ts";
import { close } from "../../src/ffi/file.ts";
import { bringUp, macOf, setIpv4 } from "../../src/ffi/interface.ts";
import { check, libc } from "../../src/ffi/libc.ts";
import { attachTap, openTun, setVirtioHeader } from "../../src/ffi/tap.ts";
import type { Ends } from "./frames.ts";
import type { NetworkNamespace } from "./namespace.ts";

const headerBytes = 12;
const name = "wire";
const mask = Uint8Array.of(255, 255, 255, 0);
const [guest, far] = [
  [10, 0, 0, 2],
  [10, 0, 1, 2],
];
const farMac = [2, 0, 0, 0, 1, 2];

export class Wire {
  readonly fd: number;
  readonly #buffer = new Block(70_000);
  readonly #hostMac: readonly number[];
  readonly #wireMac: readonly number[];

  constructor(
    namespace: NetworkNamespace,
    tap: string,
    readonly guestMac: readonly number[],
  ) {
    const made = namespace.run(() => {
      const fd = openTun();
      attachTap(fd, name, false);
      setVirtioHeader(fd, headerBytes);
      setIpv4(tap, Uint8Array.of(10, 0, 0, 1), mask);
      setIpv4(name, Uint8Array.of(10, 0, 1, 1), mask);
      bringUp(name);
      writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
      return { fd, hostMac: [...macOf(tap)], wireMac: [...macOf(name)] };
    });
    this.fd = made.fd;
    this.#hostMac = made.hostMac;
    this.#wireMac = made.wireMac;
    const text = (mac: readonly number[]) =>
      mac.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
    for (const [address, mac, device] of [
      [guest, guestMac, tap],
      [far, farMac, name],
    ] as const) {
      const neighbour = ["replace", address!.join("."), "lladdr", text(mac), "dev", device];
      namespace.command("ip", "neighbour", ...neighbour);
    }
  }

  /** Of a packet from the guest to the far end, and the other way. */
  get out(): Ends {
    return { fromMac: this.guestMac, toMac: this.#hostMac, from: guest!, to: far! };
  }
  get in(): Ends {
    return { fromMac: farMac, toMac: this.#wireMac, from: far!, to: guest! };
  }

  /** What has left by the wire. */
  arrived(): Uint8Array[] {
    const frames: Uint8Array[] = [];
    for (;;) {
      const length = Number(libc.read(this.fd, this.#buffer.address as never, 70_000));
      if (length < 0) return frames;
      frames.push(this.#buffer.bytes.slice(headerBytes, length));
    }
  }

  /** A frame comes in by the wire, with the header of the sender's card. */
  send(frame: Uint8Array, header: Uint8Array): void {
    this.#buffer.bytes.set(header);
    this.#buffer.bytes.set(frame, headerBytes);
    const length = headerBytes + frame.length;
    check(Number(libc.write(this.fd, this.#buffer.address as never, length)), "write");
  }

  close(): void {
    close(this.fd);
  }
}
