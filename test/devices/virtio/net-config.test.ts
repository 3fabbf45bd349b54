import { describe, expect, test } from "bun:test";
import {
  linkUp,
  NetAck,
  NetControl,
  NetFeature,
  type NetSpec,
  netConfig,
  netFeatures,
  netQueueSizes,
  VirtioNetConfig,
  VirtioNetHdr,
} from "../../../src/devices/virtio/net-config.ts";
import { valuesInC } from "../../headers.ts";

const spec: NetSpec = {
  ...{ taps: [-1], mac: [2, 3, 4, 5, 6, 7], mtu: 0, queueSize: 256 },
  ...{ tso: true, ufo: true, csum: true, vhosts: [] },
};

const features = (
  "CSUM GUEST_CSUM CTRL_GUEST_OFFLOADS MTU MAC GUEST_TSO4 GUEST_TSO6 GUEST_ECN GUEST_UFO HOST_TSO4 " +
  "HOST_TSO6 HOST_ECN HOST_UFO MRG_RXBUF STATUS CTRL_VQ CTRL_RX CTRL_VLAN CTRL_RX_EXTRA " +
  "GUEST_ANNOUNCE MQ CTRL_MAC_ADDR"
).split(" ");
/** C expressions, each with what our source says it is. */
const claims: Record<string, number> = {};
for (const [name, number] of Object.entries(NetControl)) claims[`VIRTIO_NET_CTRL_${name}`] = number;
for (const [name, number] of Object.entries(NetFeature)) claims[`VIRTIO_NET_F_${name}`] = number;
for (const [name, number] of Object.entries(NetAck)) claims[`VIRTIO_NET_${name}`] = number;
claims.VIRTIO_NET_S_LINK_UP = linkUp;
for (const { structName, offsets, size } of [VirtioNetHdr, VirtioNetConfig] as const) {
  claims[`sizeof(struct ${structName})`] = size;
  for (const [name, at] of Object.entries<number>(offsets)) {
    claims[`offsetof(struct ${structName}, ${name})`] = at;
  }
}
const numbers: Record<string, number> = valuesInC(
  ["linux/virtio_net"],
  [...new Set([...Object.keys(claims), ...features.map((name) => `VIRTIO_NET_F_${name}`)])],
);

test("feature bits, commands and layouts are the header's", () => {
  expect(Object.keys(claims).length).toBeGreaterThan(50);
  for (const [expression, value] of Object.entries(claims)) {
    expect(`${expression} ${value}`).toBe(`${expression} ${numbers[expression]}`);
  }
});

/** Names of feature bits, by the numbers of the kernel's header. */
const namesOf = (bits: number) =>
  features.filter((name) => (bits & (2 ** numbers[`VIRTIO_NET_F_${name}`]!)) !== 0);
const offered = (options: Partial<NetSpec>) => namesOf(netFeatures({ ...spec, ...options }));

const always = [
  "MAC",
  "MRG_RXBUF",
  "STATUS",
  "CTRL_VQ",
  "CTRL_RX",
  "CTRL_RX_EXTRA",
  "CTRL_MAC_ADDR",
];
const checksums = ["CSUM", "GUEST_CSUM", "CTRL_GUEST_OFFLOADS"];
const segments = ["GUEST_TSO4", "GUEST_TSO6", "GUEST_ECN", "HOST_TSO4", "HOST_TSO6", "HOST_ECN"];
const fragments = ["GUEST_UFO", "HOST_UFO"];

describe("an interface offers", () => {
  test.each([
    ["all there is", {}, [...always, ...checksums, ...segments, ...fragments]],
    ["no TSO when it is off", { tso: false }, [...always, ...checksums, ...fragments]],
    ["no UFO when it is off", { ufo: false }, [...always, ...checksums, ...segments]],
    ["neither when checksums are off: they need them", { csum: false }, always],
    ["the MTU when it is set", { csum: false, mtu: 9000 }, [...always, "MTU"]],
    ["several queues when it has them", { csum: false, taps: [-1, -1] }, [...always, "MQ"]],
    [
      "no filter when the kernel serves the queues",
      { csum: false, vhosts: [-1] },
      always.filter((name) => !name.startsWith("CTRL_RX")),
    ],
  ])("%s", (_, options, names) => {
    expect(offered(options).toSorted()).toEqual(names.toSorted());
  });
});

test("configuration space says the MAC, the link, the pairs and the MTU", () => {
  // struct virtio_net_config: mac[6], status (VIRTIO_NET_S_LINK_UP), max_virtqueue_pairs, mtu
  expect([...netConfig({ ...spec, taps: [-1, -1, -1], mtu: 0x2345 })]).toEqual([
    ...[2, 3, 4, 5, 6, 7, 1, 0, 3, 0, 0x45, 0x23],
  ]);
});

test("each pair has two queues, and there is one for control", () => {
  expect(netQueueSizes({ ...spec, taps: [-1, -1], queueSize: 64 })).toEqual([64, 64, 64, 64, 64]);
});
