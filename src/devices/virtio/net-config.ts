/**
 * The network device as its driver sees it (virtio 1.2 section 5.1; linux/virtio_net.h): what it is given, the features
 * that follow from that, and its configuration space.
 */
import { bytes, struct, u8, u16, u32 } from "../../ffi/struct.ts";
import type { RateLimiterSpec } from "./rate-limiter.ts";

/** What the workers share to which a device's pairs of queues are dealt; see NetShared. */
export interface NetSharedSpec {
  readonly shares: number;
  readonly buffer: SharedArrayBuffer;
}

/** A network interface, as plain data. */
export interface NetSpec {
  /** A queue of the tap, open and non-blocking, for each pair of receive and transmit queues. */
  readonly taps: readonly number[];
  /** Six bytes. */
  readonly mac: readonly number[];
  /** What the driver is told of the MTU in bytes; 0: nothing. */
  readonly mtu: number;
  /** The most entries of a queue. */
  readonly queueSize: number;
  /** Segmentation of TCP, fragmentation of UDP, and checksums may be left to the other side, both ways. */
  readonly tso: boolean;
  readonly ufo: boolean;
  readonly csum: boolean;
  /** Limits on what the guest receives, and on what it sends. */
  readonly receiveLimit?: RateLimiterSpec;
  readonly transmitLimit?: RateLimiterSpec;
  /** The kernel serves the queues of data: a descriptor of vhost-net for each pair; empty: the worker does. */
  readonly vhosts: readonly number[];
  /** For a device on several workers. */
  readonly shared?: NetSharedSpec;
}

/** VIRTIO_NET_F_…, by number. */
export const NetFeature = {
  CSUM: 0,
  GUEST_CSUM: 1,
  CTRL_GUEST_OFFLOADS: 2,
  MTU: 3,
  MAC: 5,
  GUEST_TSO4: 7,
  GUEST_TSO6: 8,
  GUEST_ECN: 9,
  GUEST_UFO: 10,
  HOST_TSO4: 11,
  HOST_TSO6: 12,
  HOST_ECN: 13,
  HOST_UFO: 14,
  MRG_RXBUF: 15,
  STATUS: 16,
  CTRL_VQ: 17,
  CTRL_RX: 18,
  CTRL_RX_EXTRA: 20,
  MQ: 22,
  CTRL_MAC_ADDR: 23,
} as const;

/** VIRTIO_NET_CTRL_…: classes of commands, and the commands of each (section 5.1.6.5). */
export const NetControl = {
  RX: 0,
  RX_PROMISC: 0,
  RX_ALLMULTI: 1,
  RX_ALLUNI: 2,
  RX_NOMULTI: 3,
  RX_NOUNI: 4,
  RX_NOBCAST: 5,
  MAC: 1,
  MAC_TABLE_SET: 0,
  MAC_ADDR_SET: 1,
  MQ: 4,
  MQ_VQ_PAIRS_SET: 0,
  GUEST_OFFLOADS: 5,
  GUEST_OFFLOADS_SET: 0,
} as const;
export const NetAck = { OK: 0, ERR: 1 } as const;
/** VIRTIO_NET_S_LINK_UP. */
export const linkUp = 1;
export const macBytes = 6;

/** struct virtio_net_hdr_v1, in front of every frame. */
export const VirtioNetHdr = struct("virtio_net_hdr_v1", 12, {
  flags: u8,
  gso_type: u8,
  hdr_len: u16,
  gso_size: u16,
  csum_start: u16,
  csum_offset: u16,
  num_buffers: u16,
});

/** struct virtio_net_config. Nothing is offered that would use what comes after `mtu`. */
export const VirtioNetConfig = struct(
  "virtio_net_config",
  24,
  {
    mac: bytes(macBytes),
    status: u16,
    max_virtqueue_pairs: u16,
    mtu: u16,
    speed: u32,
    duplex: u8,
    rss_max_key_size: u8,
    rss_max_indirection_table_length: u16,
    supported_hash_types: u32,
  },
  { packed: true },
);
export const headerBytes = VirtioNetHdr.size;
const configBytes = VirtioNetConfig.offsets.speed;

/** Most pairs of queues: with the control queue they are as many as a device can have. */
export const maxPairs = 8;

/** The device's own feature bits, 0 to 23. What only checksums make possible is not offered without them (5.1.3.1). */
export function netFeatures({ taps, mtu, csum, tso, ufo, vhosts }: NetSpec): number {
  const F = NetFeature;
  const bits: number[] = [F.MAC, F.MRG_RXBUF, F.STATUS, F.CTRL_VQ, F.CTRL_MAC_ADDR];
  if (mtu > 0) bits.push(F.MTU);
  if (taps.length > 1) bits.push(F.MQ);
  if (csum) bits.push(F.CSUM, F.GUEST_CSUM, F.CTRL_GUEST_OFFLOADS);
  if (csum && tso) bits.push(F.HOST_TSO4, F.HOST_TSO6, F.HOST_ECN);
  if (csum && tso) bits.push(F.GUEST_TSO4, F.GUEST_TSO6, F.GUEST_ECN);
  if (csum && ufo) bits.push(F.HOST_UFO, F.GUEST_UFO);
  if (vhosts.length === 0) bits.push(F.CTRL_RX, F.CTRL_RX_EXTRA); // the kernel's half does not filter
  return bits.reduce((sum, bit) => sum + 2 ** bit, 0);
}

/** Receive and transmit queues by turns, and the control queue. */
export const netQueueSizes = ({ taps, queueSize }: NetSpec): number[] =>
  new Array<number>(2 * taps.length + 1).fill(queueSize);

/** Configuration space after a reset. The driver writes none of it. */
export function netConfig({ mac, taps, mtu }: NetSpec): Uint8Array {
  const config = new VirtioNetConfig();
  config.mac = Uint8Array.from(mac);
  config.status = linkUp;
  config.max_virtqueue_pairs = taps.length;
  config.mtu = mtu;
  return new Uint8Array(config.view.buffer, 0, configBytes);
}

/** What the backend has done, by place in its counters; bytes are those of frames. */
export const NetCounters = [
  "rx_bytes",
  "rx_frames",
  "tx_bytes",
  "tx_frames",
  "rx_dropped",
  "rx_filtered",
  "tx_dropped",
] as const;
export const [rxBytes, rxFrames, txBytes, txFrames, rxDropped, rxFiltered, txDropped] = [
  0, 1, 2, 3, 4, 5, 6,
];
