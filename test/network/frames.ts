/** Ethernet frames of a test, made and read by hand (RFC 791, 768, 9293, 1071; IEEE 802.3). */

export const broadcast = [255, 255, 255, 255, 255, 255];
export const hostMac = [2, 0, 0, 0, 0, 1];
const [tcp, udp] = [6, 17];

/** A frame of EtherType 0x88b5, which is for experiments: `length` bytes in all, told apart by `mark`. */
export function plainFrame(
  length: number,
  mark = 0,
  to: readonly number[] = broadcast,
): Uint8Array {
  const frame = new Uint8Array(length);
  for (let i = 0; i < length; i++) frame[i] = i * 7 + mark;
  frame.set([...to, ...hostMac, 0x88, 0xb5]);
  return frame;
}

/** Bytes that repeat only after 251. */
export const pattern = (length: number, from = 0): Uint8Array =>
  new Uint8Array(length).map((_, i) => (i + from) % 251);

/** The Internet checksum's sum, without the complement. */
function sum(bytes: Uint8Array, start = 0): number {
  let total = start;
  for (let i = 0; i < bytes.length; i += 2) total += (bytes[i]! << 8) + (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

export interface Ends {
  readonly fromMac: readonly number[];
  readonly toMac: readonly number[];
  readonly from: readonly number[];
  readonly to: readonly number[];
}

const pseudoHeader = (from: Uint8Array, to: Uint8Array, protocol: number, length: number) =>
  Uint8Array.of(...from, ...to, 0, protocol, length >> 8, length & 0xff);

function ipFrame(ends: Ends, protocol: number, body: Uint8Array): Uint8Array {
  const frame = new Uint8Array(14 + 20 + body.length);
  const view = new DataView(frame.buffer);
  frame.set([...ends.toMac, ...ends.fromMac, 0x08, 0x00, 0x45]);
  view.setUint16(16, 20 + body.length);
  frame.set([64, protocol], 22);
  frame.set([...ends.from, ...ends.to], 26);
  view.setUint16(24, sum(frame.subarray(14, 34)) ^ 0xffff);
  frame.set(body, 34);
  return frame;
}

/** The checksum field of a segment as it is left to the other side: the sum of the pseudo header alone. */
function partial(ends: Ends, protocol: number, segment: Uint8Array, at: number): Uint8Array {
  const [from, to] = [Uint8Array.from(ends.from), Uint8Array.from(ends.to)];
  const value = sum(pseudoHeader(from, to, protocol, segment.length));
  new DataView(segment.buffer).setUint16(at, value);
  return segment;
}

/** A TCP segment whose checksum is left to the other side; its payload may be far longer than one of the wire. */
export function tcpFrame(ends: Ends, payload: Uint8Array, flags = 0x18): Uint8Array {
  const segment = new Uint8Array(20 + payload.length);
  const view = new DataView(segment.buffer);
  view.setUint16(0, 4321);
  view.setUint16(2, 80);
  view.setUint32(4, 1000);
  segment.set([0x50, flags, 0xff, 0xff], 12);
  segment.set(payload, 20);
  return ipFrame(ends, tcp, partial(ends, tcp, segment, 16));
}

export function udpFrame(ends: Ends, payload: Uint8Array): Uint8Array {
  const datagram = new Uint8Array(8 + payload.length);
  const view = new DataView(datagram.buffer);
  view.setUint16(0, 4321);
  view.setUint16(2, 53);
  view.setUint16(4, datagram.length);
  datagram.set(payload, 8);
  return ipFrame(ends, udp, partial(ends, udp, datagram, 6));
}

/** virtio_net_hdr_v1 (virtio 1.2 section 5.1.6). */
export function virtioHeader(fields: {
  readonly flags?: number;
  readonly gsoType?: number;
  readonly headerLength?: number;
  readonly gsoSize?: number;
  readonly checksumStart?: number;
  readonly checksumOffset?: number;
}): Uint8Array {
  const header = new DataView(new ArrayBuffer(12));
  header.setUint8(0, fields.flags ?? 0);
  header.setUint8(1, fields.gsoType ?? 0);
  header.setUint16(2, fields.headerLength ?? 0, true);
  header.setUint16(4, fields.gsoSize ?? 0, true);
  header.setUint16(6, fields.checksumStart ?? 0, true);
  header.setUint16(8, fields.checksumOffset ?? 0, true);
  return new Uint8Array(header.buffer);
}

export interface Packet {
  readonly protocol: number;
  /** Bytes of the IP header's own checksum, and that of TCP or UDP, are right. A fragment's is not looked at. */
  readonly headerIntact: boolean;
  readonly checksumIntact: boolean;
  /** In bytes; and whether more fragments follow. */
  readonly fragmentOffset: number;
  readonly moreFragments: boolean;
  /** Behind TCP's or UDP's header; of a fragment, behind IP's. */
  readonly payload: Uint8Array;
  /** TCP's sequence number. */
  readonly sequence: number;
}

/** Reads an IPv4 packet back. */
export function packetOf(frame: Uint8Array): Packet {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const header = 14 + (frame[14]! & 15) * 4;
  const end = 14 + view.getUint16(16);
  const protocol = frame[23]!;
  const fragment = view.getUint16(20);
  const [fragmentOffset, moreFragments] = [(fragment & 0x1fff) * 8, (fragment & 0x2000) !== 0];
  const body = frame.subarray(header, end);
  const [from, to] = [frame.subarray(26, 30), frame.subarray(30, 34)];
  const pseudo = pseudoHeader(from, to, protocol, body.length);
  const bodyStart = protocol === tcp ? (body[12]! >> 4) * 4 : 8;
  const isFragment = fragmentOffset > 0 || moreFragments;
  return {
    ...{ protocol, fragmentOffset, moreFragments },
    headerIntact: sum(frame.subarray(14, header)) === 0xffff,
    checksumIntact: sum(body, sum(pseudo)) === 0xffff,
    payload: isFragment ? body : body.subarray(bodyStart),
    sequence: protocol === tcp && !isFragment ? view.getUint32(header + 4) : 0,
  };
}
