/** The virtio devices of a machine as `vm.info` shows them, and what of the guest's RAM its balloon holds. */

import { locked } from "../../bus/lock.ts";
import { balloonPageBytes, VirtioBalloonConfig } from "../../devices/virtio/balloon-config.ts";
import type { PluggedVirtio } from "./spec.ts";

/** A node of Cloud Hypervisor's device tree. */
export interface DeviceNode {
  readonly id: string;
  readonly resources: readonly object[];
  readonly parent: string | null;
  readonly children: readonly string[];
  /** `0000:00:SS.0`, where the guest sees it; null for what is no PCI function. */
  readonly pci_bdf: string | null;
}

/** Segment 0, bus 0, function 0. */
export const bdfOf = (slot: number): string => `0000:00:${slot.toString(16).padStart(2, "0")}.0`;

/** A PCI function is the parent of the virtio device in it. */
export function deviceTree(devices: readonly PluggedVirtio[]): Record<string, DeviceNode> {
  const nodes = devices.flatMap(({ spec }): DeviceNode[] => {
    const { id } = spec;
    const leaf = { id, resources: [], parent: null, children: [], pci_bdf: null };
    if (!("slot" in spec)) return [leaf];
    const parent = `_virtio-pci-${id}`;
    const pci_bdf = bdfOf(spec.slot as number);
    return [
      { id: parent, resources: [], parent: null, children: [id], pci_bdf },
      { ...leaf, parent },
    ];
  });
  return Object.fromEntries(nodes.map((node) => [node.id, node]));
}

/** Bytes that the balloon's driver says it has given up; no more than it was asked for. */
export function balloonedBytes(devices: readonly PluggedVirtio[]): number {
  const balloon = devices.find(({ spec }) => spec.backend.kind === "balloon");
  if (balloon === undefined) return 0;
  let pages = 0;
  locked(balloon.lock, () => {
    const { buffer, byteOffset } = balloon.config;
    const { actual, num_pages } = new VirtioBalloonConfig(new DataView(buffer, byteOffset));
    pages = Math.min(actual, num_pages);
  });
  return pages * balloonPageBytes;
}
