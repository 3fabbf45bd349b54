/**
 * What the other side is left to do (virtio 1.2 sections 5.1.6.2 and 5.1.6.4): checksums, segments of TCP, fragments of
 * UDP. Seen behind the host, where packets leave it as a wire has them, and in the driver's buffers.
 */
import { afterAll, afterEach, expect, test } from "bun:test";
import { windowOn } from "../../../src/ffi/block.ts";
import { readFrame } from "../../../src/ffi/tap.ts";
import {
  type Packet,
  packetOf,
  pattern,
  plainFrame,
  tcpFrame,
  udpFrame,
  virtioHeader,
} from "../../network/frames.ts";
import { Wire } from "../../network/wire.ts";
import { guestMac, headerBytes, NetRig, type RigOptions, TapHome } from "./net-rig.ts";

const [CTRL_OFFLOADS, GUEST_CSUM, GUEST_TSO4, MRG_RXBUF, CTRL_VQ] = [
  2 ** 2,
  2 ** 1,
  2 ** 7,
  2 ** 15,
  2 ** 17,
] as const;
const base = CTRL_VQ + MRG_RXBUF;
/** linux/virtio_net.h */
const [NEEDS_CSUM, GSO_TCPV4, GSO_UDP, GSO_ECN] = [1, 1, 3, 0x80] as const;
const mss = 1448;
const longest = 1514;

const home = new TapHome();
const wire = new Wire(home.namespace, home.tap(1).name, guestMac);
afterAll(() => {
  wire.close();
  home.close();
});
let rig: NetRig;
afterEach(() => rig[Symbol.dispose]());
function open(options: RigOptions = {}): void {
  rig = new NetRig({ home, ...options });
  wire.arrived();
}

const tcpHeader = (gsoType: number) =>
  virtioHeader({
    ...{ flags: NEEDS_CSUM, gsoType, headerLength: 54, gsoSize: gsoType === 0 ? 0 : mss },
    ...{ checksumStart: 34, checksumOffset: 16 },
  });
const udpHeader = (gsoType: number) =>
  virtioHeader({
    ...{ flags: NEEDS_CSUM, gsoType, headerLength: 42, gsoSize: gsoType === 0 ? 0 : mss },
    ...{ checksumStart: 34, checksumOffset: 6 },
  });

const same = (one: Uint8Array, other: Uint8Array) => Buffer.compare(one, other) === 0;

/** The payloads of TCP segments, in order; every one of them must be as a wire has it. */
function stream(frames: readonly Uint8Array[]): Uint8Array {
  const packets = frames.map(packetOf);
  for (const [i, packet] of packets.entries()) {
    expect(packet.headerIntact && packet.checksumIntact).toBe(true);
    expect(frames[i]!.length).toBeLessThanOrEqual(longest);
  }
  packets.sort((one, other) => one.sequence - other.sequence);
  return Buffer.concat(packets.map(({ payload }) => payload));
}

function posted(count = 60): void {
  rig.post(Array.from({ length: count }, () => [1600]));
}

test("a checksum that the guest left out is right on the wire", () => {
  open();
  rig.send(tcpFrame(wire.out, pattern(100)), tcpHeader(0));

  const frames = wire.arrived();

  expect(same(stream(frames), pattern(100))).toBe(true);
});

test.each<number>([0, GSO_ECN])(
  "a long TCP segment of the guest is cut for the wire (type 1 | %d)",
  (ecn) => {
    open();
    const payload = pattern(30_000);
    const flags = ecn === 0 ? 0x18 : 0x98; // CWR
    rig.send(tcpFrame(wire.out, payload, flags), tcpHeader(GSO_TCPV4 | ecn), [100, 1, 9000]);

    const frames = wire.arrived();

    expect(frames.length).toBe(Math.ceil(30_000 / mss));
    expect(same(stream(frames), payload)).toBe(true);
    // the congestion window was reduced once: the first segment alone says so (RFC 3168 section 6.1.2)
    const reduced = frames.filter((frame) => frame[47]! >> 7 === 1);
    expect(reduced).toEqual(ecn === 0 ? [] : [frames[0]!]);
    expect([...rig.counters.subarray(2, 4)]).toEqual([30_054, 1]);
  },
);

test("a long UDP datagram of the guest is fragmented for the wire", () => {
  open();
  const payload = pattern(5000);
  rig.send(udpFrame(wire.out, payload), udpHeader(GSO_UDP));

  const frames = wire.arrived();

  const fragments: Packet[] = frames.map(packetOf);
  for (const fragment of fragments) expect(fragment.headerIntact).toBe(true);
  for (const frame of frames) expect(frame.length).toBeLessThanOrEqual(longest);
  expect(fragments.map(({ moreFragments }) => moreFragments)).toEqual([true, true, true, false]);
  // the datagram as a whole again: IP's header of the first fragment, its length, and all bodies
  const whole = Uint8Array.from([
    ...frames[0]!.subarray(0, 34),
    ...fragments.flatMap((fragment) => [...fragment.payload]),
  ]);
  new DataView(whole.buffer).setUint16(16, whole.length - 14);
  whole.fill(0, 20, 22);
  expect(packetOf(whole).checksumIntact).toBe(true);
  expect(same(packetOf(whole).payload, payload)).toBe(true);
});

test("a long TCP segment comes to the guest whole, when it takes that", () => {
  open({ features: base + GUEST_CSUM + GUEST_TSO4 });
  posted();
  const payload = pattern(30_000);
  wire.send(tcpFrame(wire.in, payload), tcpHeader(GSO_TCPV4));
  rig.settle();

  const [received, ...more] = rig.received();

  expect(more).toEqual([]);
  const { header, frame } = received!;
  expect(header.getUint8(0)).toBe(NEEDS_CSUM);
  expect(header.getUint8(1)).toBe(GSO_TCPV4);
  expect(header.getUint16(4, true)).toBe(mss);
  expect([header.getUint16(6, true), header.getUint16(8, true)]).toEqual([34, 16]);
  expect(header.getUint16(10, true)).toBe(Math.ceil((30_054 + headerBytes) / 1600));
  expect(same(packetOf(frame).payload, payload)).toBe(true);
});

test("the longest that the kernel leaves whole comes whole", () => {
  open({ features: base + GUEST_CSUM + GUEST_TSO4 });
  posted();
  const payload = pattern(65_535 - 54); // GSO_LEGACY_MAX_SIZE is 65536, Ethernet's header included
  wire.send(tcpFrame(wire.in, payload), tcpHeader(GSO_TCPV4));
  rig.settle();

  const [received] = rig.received();
  expect(received!.frame.length).toBe(65_535);
  expect(same(packetOf(received!.frame).payload, payload)).toBe(true);
});

test("with checksums alone it comes in pieces, which the guest may trust", () => {
  open({ features: base + GUEST_CSUM });
  posted();
  wire.send(tcpFrame(wire.in, pattern(30_000)), tcpHeader(GSO_TCPV4));
  rig.settle();

  const received = rig.received();

  expect(received.length).toBe(Math.ceil(30_000 / mss));
  for (const { header, frame } of received) {
    expect(header.getUint8(1)).toBe(0);
    expect(frame.length).toBeLessThanOrEqual(longest);
  }
  const payloads = received.map(({ frame }) => packetOf(frame).payload);
  expect(same(Buffer.concat(payloads), pattern(30_000))).toBe(true);
});

test("without offloads it comes as a wire has it", () => {
  open({ features: base });
  posted();
  wire.send(tcpFrame(wire.in, pattern(30_000)), tcpHeader(GSO_TCPV4));
  rig.settle();

  const received = rig.received();

  for (const { header } of received) expect(header.getUint16(0)).toBe(0); // flags and gso_type
  const sent = stream(received.map(({ frame }) => frame));
  expect(same(sent, pattern(30_000))).toBe(true);
});

test("a guest that switches segmentation off gets pieces from then on", () => {
  open({ features: base + GUEST_CSUM + GUEST_TSO4 + CTRL_OFFLOADS });
  posted();
  expect(rig.command(5, 0, GUEST_CSUM, 0, 0, 0, 0, 0, 0, 0)).toBe(0);
  wire.send(tcpFrame(wire.in, pattern(10_000)), tcpHeader(GSO_TCPV4));
  rig.settle();

  expect(rig.received().length).toBe(Math.ceil(10_000 / mss));
});

test("frames that come while no driver is ready are never handed to one that takes less", () => {
  open({ features: base + GUEST_CSUM + GUEST_TSO4 });
  rig.backend.stop();
  wire.send(tcpFrame(wire.in, pattern(30_000)), tcpHeader(GSO_TCPV4));
  rig[Symbol.dispose]();

  open({ features: base });
  posted();
  rig.settle();

  expect(rig.received()).toEqual([]);
});

/** readv(2) from a tap that has found checksums right, as it says of packets that came by a network card. */
const DATA_VALID = 2;
const readValid: typeof readFrame = (fd, iovecs, count) => {
  const length = readFrame(fd, iovecs, count);
  const base = Number(new BigUint64Array(windowOn(iovecs, 8))[0]);
  if (length > 0) new Uint8Array(windowOn(base, 1))[0] = DATA_VALID;
  return length;
};

test.each([
  ["who takes checksums", base + GUEST_CSUM, DATA_VALID],
  ["who does not: flags are zero (section 5.1.6.4.1)", base, 0],
  ["nor merges buffers", CTRL_VQ, 0],
])("what a tap says of checksums is for a driver %s", (_, features, flags) => {
  open({ features, calls: { readFrame: readValid } });
  const buffers = [[2000], [1, 2000], [40, 2000]];
  for (const _ of buffers) rig.host.send(plainFrame(60, 1));
  rig.post(buffers);
  rig.settle();

  expect(rig.received().map(({ header }) => header.getUint8(0))).toEqual([flags, flags, flags]);
});
