/** Opens the network interfaces of a configuration, and says what virtio devices they are. */
import {
  macBytes,
  maxPairs,
  NetFeature,
  type NetSpec,
  netConfig,
  netFeatures,
  netQueueSizes,
} from "../../devices/virtio/net-config.ts";
import { netShared } from "../../devices/virtio/net-shared.ts";
import { DeviceType, Feature, maxQueueSize } from "../../devices/virtio/registers.ts";
import { ConfigError } from "../../exit-codes.ts";
import { SystemError } from "../../ffi/libc.ts";
import { openVhostNet, vhostFeatures } from "../../ffi/vhost.ts";
import type { Owned } from "../owned.ts";
import { limitsOf } from "./limits.ts";
import type { VirtioDevice } from "./spec.ts";
import { type NetConfig, openTaps } from "./taps.ts";

/** Opens an interface; what it opened is `owned`. Throws ConfigError naming the option. */
export function openNet(config: NetConfig, index: number, owned: Owned): VirtioDevice {
  const id = config.id ?? `_net${index}`;
  const label = labelOf(config);
  const fail = (why: string) => new ConfigError(`${label}: ${why}`, "--net");
  const { num_queues: queues, queue_size: queueSize, rate_limiter_config: rates } = config;
  if (queues % 2 !== 0) {
    const why = "not even: receive and transmit queues come in pairs";
    throw fail(`num_queues=${queues} is ${why}; add or drop one`);
  }
  if (queues > 2 * maxPairs) throw fail(`num_queues=${queues} is above ${2 * maxPairs}; lower it`);
  if (queueSize > maxQueueSize || (queueSize & (queueSize - 1)) !== 0) {
    throw fail(`queue_size=${queueSize} is not a power of two up to ${maxQueueSize}; choose one`);
  }
  const limit = limitsOf(rates);
  if (config.vhost && limit) {
    throw fail("vhost=on and bw_ or ops_ limits exclude each other; drop one");
  }
  checkIoThreads(config, limit !== undefined, fail);
  const mac = config.mac === undefined ? randomMac() : stationMac("mac", config.mac, fail);
  if (config.host_mac !== undefined) stationMac("host_mac", config.host_mac, fail);
  const vhosts = config.vhost ? openVhosts(queues / 2, owned, fail) : [];
  const spec: NetSpec = {
    ...{ taps: openTaps(config, queues / 2, owned, fail), mac, mtu: config.mtu ?? 0, queueSize },
    ...{ tso: config.offload_tso, ufo: config.offload_ufo, csum: config.offload_csum },
    ...(limit && { receiveLimit: limit, transmitLimit: limit }),
    vhosts,
    ...(config.io_threads > 1 && { shared: netShared(config.io_threads) }),
  };
  const bytes = netConfig(spec);
  return {
    ...{ id, label },
    identity: {
      type: DeviceType.net,
      featuresLow: featuresLow(spec),
      featuresHigh: 2 ** (Feature.VERSION_1 - 32),
      queueSizes: netQueueSizes(spec),
    },
    config: bytes,
    writable: new Uint8Array(bytes.length),
    backend: { kind: "net", spec },
    ioThreads: config.io_threads,
  };
}

/** Each worker has its own buckets: what is a limit on the whole interface needs one worker. */
function checkIoThreads(
  { io_threads: threads, num_queues: queues, vhost }: NetConfig,
  limited: boolean,
  fail: (why: string) => ConfigError,
): void {
  if (threads > 0 && vhost) {
    throw fail(`vhost=on and io_threads=${threads} exclude each other; drop one`);
  }
  if (threads > queues / 2) {
    const pairs = `the ${queues / 2} pair${queues > 2 ? "s" : ""} of num_queues=${queues}`;
    throw fail(`io_threads=${threads} is above ${pairs}; raise num_queues`);
  }
  if (threads > 1 && limited) {
    const both = `io_threads=${threads} and bw_ and ops_ limits`;
    throw fail(`${both} exclude each other; lower it to 1`);
  }
}

function labelOf({ tap, fds, id }: NetConfig): string {
  if (tap !== undefined) return `--net tap=${tap}`;
  if (fds !== undefined) return `--net fd=[${fds.join(",")}]`;
  return id === undefined ? "--net" : `--net id=${id}`;
}

/** Six bytes of the text, which has the form of a MAC. An address of a group is nobody's own. */
export function stationMac(key: string, text: string, fail: (why: string) => Error): number[] {
  const mac = text.split(":").map((byte) => Number.parseInt(byte, 16));
  if ((mac[0]! & 1) !== 0) {
    throw fail(`${key}=${text} is a multicast address; give one whose first byte is even`);
  }
  if (mac.every((byte) => byte === 0)) throw fail(`${key}=${text} is no address; give another`);
  return mac;
}

/** Locally administered (bit 1 of the first byte), unicast (bit 0). */
function randomMac(): number[] {
  const [first, ...rest] = crypto.getRandomValues(new Uint8Array(macBytes));
  return [(first! & 0xfc) | 2, ...rest];
}

function openVhosts(count: number, owned: Owned, fail: (why: string) => Error): number[] {
  try {
    return Array.from({ length: count }, () => owned.fd(openVhostNet()));
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const { code, reason } = error;
    const why = `vhost=on: no /dev/vhost-net (${reason})`;
    if (code === "ENOENT" || code === "ENODEV" || code === "ENXIO") {
      throw fail(`${why}; load it with "modprobe vhost_net", or leave vhost=on out`);
    }
    throw fail(`${why}; let chv open it for writing, or leave vhost=on out`);
  }
}

/** The device's own features and the rings'; with vhost, of the latter those that it has. */
function featuresLow(spec: NetSpec): number {
  const own = netFeatures(spec);
  const ring = 2 ** Feature.RING_INDIRECT_DESC + 2 ** Feature.RING_EVENT_IDX;
  const vhost = spec.vhosts[0];
  if (vhost === undefined) return own + ring;
  const has = Number(vhostFeatures(vhost) & 0xffff_ffffn);
  const merging = 2 ** NetFeature.MRG_RXBUF;
  return ((own & ~merging) | ((own | ring) & has & (ring | merging))) >>> 0;
}
