/** What vm.info tells of devices: names and shapes as Cloud Hypervisor's device tree has them. */
import { expect, test } from "bun:test";
import type { PluggedVirtio } from "../../../src/machine/virtio/spec.ts";
import { balloonedBytes, bdfOf, deviceTree } from "../../../src/machine/virtio/tree.ts";

/** No more of a device than is looked at. */
const device = (spec: object, config = new Uint8Array(8)) =>
  ({ spec, config, lock: { acquire() {}, release() {} } }) as unknown as PluggedVirtio;

const balloon = (asked: number, actual: number) => {
  const config = new DataView(new ArrayBuffer(8)); // struct virtio_balloon_config
  config.setUint32(0, asked, true);
  config.setUint32(4, actual, true);
  return device({ backend: { kind: "balloon" } }, new Uint8Array(config.buffer));
};

test("a device's address is its slot, in lower-case hex", () => {
  expect([bdfOf(1), bdfOf(10), bdfOf(31)]).toEqual([
    "0000:00:01.0",
    "0000:00:0a.0",
    "0000:00:1f.0",
  ]);
});

test("a PCI function holds its device", () => {
  expect(deviceTree([device({ id: "_disk0", slot: 2 })])).toEqual({
    "_virtio-pci-_disk0": {
      ...{ id: "_virtio-pci-_disk0", resources: [], parent: null, children: ["_disk0"] },
      pci_bdf: "0000:00:02.0",
    },
    _disk0: {
      ...{ id: "_disk0", resources: [], parent: "_virtio-pci-_disk0", children: [], pci_bdf: null },
    },
  });
});

test("a device on mmio has no address", () => {
  expect(deviceTree([device({ id: "_rng" })])).toEqual({
    _rng: { id: "_rng", resources: [], parent: null, children: [], pci_bdf: null },
  });
});

test("a balloon holds pages of 4 KiB, and no more than it was asked for whatever its driver says", () => {
  expect(balloonedBytes([])).toBe(0);
  expect(balloonedBytes([balloon(100, 0)])).toBe(0);
  expect(balloonedBytes([balloon(100, 30)])).toBe(30 * 4096);
  expect(balloonedBytes([balloon(100, 0xffff_ffff)])).toBe(100 * 4096);
});
