/**
 * TCP both ways at once between the host and a guest whose network is Linux's own: its driver, played here, hands frames
 * with their headers to a second tap, in a namespace that is the guest.
 */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { Block } from "../../../src/ffi/block.ts";
import { close } from "../../../src/ffi/file.ts";
import { bringUp, setIpv4, setMac } from "../../../src/ffi/interface.ts";
import { check, libc } from "../../../src/ffi/libc.ts";
import { attachTap, openTun, setVirtioHeader, tapCalls } from "../../../src/ffi/tap.ts";
import { packetOf, pattern } from "../../network/frames.ts";
import { NetworkNamespace } from "../../network/namespace.ts";
import { accept, connect, listen, Talk } from "../../network/tcp.ts";
import { guestMac, headerBytes, NetRig } from "./net-rig.ts";

const [hostAddress, guestAddress] = [
  [10, 0, 0, 1],
  [10, 0, 0, 2],
];
const mask = Uint8Array.of(255, 255, 255, 0);
const port = 5001;
const bytes = 300_000;
const longest = 1514;
/** A fuse: what takes so long does not end. */
const limitMs = 300_000;
const [csum, tso4] = [1, 2]; // TUN_F_, linux/if_tun.h
const [IPv4, TCP] = [0x0800, 6];
/** In an ARP packet its second byte lies where IPv4 says which protocol it carries. */
const hostMac = Uint8Array.of(2, TCP, 0, 0, 0, 1);
const MRG_RXBUF = 2 ** 15;
const offloads = 2 ** 0 + 2 ** 1 + 2 ** 7 + 2 ** 11; // CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4

/**
 * How long a kernel makes its segments is otherwise a matter of time: as long as what it thinks goes out in a
 * millisecond, which on a slow machine are two frames (ip-sysctl.rst, tcp_min_tso_segs; BBR has a measure of its own).
 */
function useLongSegments(namespace: NetworkNamespace): void {
  const settings = { tcp_congestion_control: "reno", tcp_min_tso_segs: "40" };
  namespace.run(() => {
    for (const [name, value] of Object.entries(settings)) {
      writeFileSync(`/proc/sys/net/ipv4/${name}`, value);
    }
  });
}

/** The guest: a kernel's network behind the driver's half of the queues. */
class Guest {
  readonly namespace = new NetworkNamespace();
  readonly tap: number;
  readonly #buffer = new Block(70_000);

  constructor(offload: number) {
    this.tap = this.namespace.run(() => {
      const fd = openTun();
      attachTap(fd, "eth0", false);
      setVirtioHeader(fd, headerBytes);
      setMac("eth0", Uint8Array.from(guestMac));
      setIpv4("eth0", Uint8Array.from(guestAddress!), mask);
      bringUp("eth0");
      return fd;
    });
    expect(tapCalls.setOffload(this.tap, offload)).toBe(0);
  }

  hand(header: Uint8Array, frame: Uint8Array): void {
    this.#buffer.bytes.set(header);
    this.#buffer.bytes.set(frame, headerBytes);
    const length = headerBytes + frame.length;
    check(Number(libc.write(this.tap, this.#buffer.address as never, length)), "write");
  }

  /** The next frame that the guest's kernel sends, its header in front. */
  take(): Uint8Array | undefined {
    const length = Number(libc.read(this.tap, this.#buffer.address as never, 70_000));
    return length < 0 ? undefined : this.#buffer.bytes.slice(0, length);
  }

  close(): void {
    close(this.tap);
    this.namespace[Symbol.dispose]();
  }
}

/** The longest frames each way, and whether every checksum of TCP was right as it was. */
function exchange(features: number, guestOffload: number) {
  const rig = new NetRig({ queueSize: 256, features });
  const guest = new Guest(guestOffload);
  for (const { namespace } of [rig, guest]) useLongSegments(namespace);
  rig.namespace.run(() => {
    setMac(rig.tap, hostMac);
    setIpv4(rig.tap, Uint8Array.from(hostAddress!), mask);
  });
  const listener = rig.namespace.run(() => listen(hostAddress!, port));
  const [up, down] = [pattern(bytes), pattern(bytes, 77)];
  const inGuest = new Talk(
    guest.namespace.run(() => connect(hostAddress!, port)),
    up,
  );
  const onHost: Talk[] = [];
  const seen = { toGuest: 0, toHost: 0, allSummed: true };
  const look = (header: Uint8Array, frame: Uint8Array) => {
    if (frame[12]! * 256 + frame[13]! !== IPv4 || frame[23] !== TCP) return;
    const left = header[0] !== 0 || header[1] !== 0;
    if (left || !packetOf(frame).checksumIntact) seen.allSummed = false;
  };
  rig.post(Array.from({ length: 200 }, () => [2000]));
  const deadline = Date.now() + limitMs;
  while (inGuest.receivedBytes < bytes || (onHost[0]?.receivedBytes ?? 0) < bytes) {
    expect(Date.now()).toBeLessThan(deadline);
    if (onHost.length === 0) {
      const fd = accept(listener);
      if (fd >= 0) onHost.push(new Talk(fd, down));
    }
    for (const talk of [inGuest, ...onHost]) talk.go();
    for (let frame = guest.take(); frame; frame = guest.take()) {
      const [header, rest] = [frame.subarray(0, headerBytes), frame.subarray(headerBytes)];
      look(header, rest);
      seen.toHost = Math.max(seen.toHost, rest.length);
      rig.send(rest, header);
      rig.drivers[1]!.collect();
    }
    rig.worker.pump();
    const received = rig.received();
    for (const { header, frame } of received) {
      const bytesOfHeader = new Uint8Array(header.buffer, 0, headerBytes);
      look(bytesOfHeader, frame);
      seen.toGuest = Math.max(seen.toGuest, frame.length);
      guest.hand(bytesOfHeader, frame);
    }
    const used = received.reduce((sum, { lengths }) => sum + lengths.length, 0);
    if (used > 0) rig.post(Array.from({ length: used }, () => [2000]));
  }
  expect(Buffer.compare(Buffer.concat(onHost[0]!.received), up)).toBe(0);
  expect(Buffer.compare(Buffer.concat(inGuest.received), down)).toBe(0);
  for (const talk of [inGuest, ...onHost]) talk.close();
  close(listener);
  guest.close();
  rig[Symbol.dispose]();
  return seen;
}

test("a stream goes in long segments both ways when both sides take them", () => {
  const seen = exchange(MRG_RXBUF + offloads, csum + tso4);

  expect(seen.toGuest).toBeGreaterThan(10 * longest);
  expect(seen.toHost).toBeGreaterThan(10 * longest);
}, 600_000);

test("without offloads it goes in frames of the MTU, with every checksum right", () => {
  expect(exchange(MRG_RXBUF, 0)).toEqual({ toGuest: longest, toHost: longest, allSummed: true });
}, 600_000);
