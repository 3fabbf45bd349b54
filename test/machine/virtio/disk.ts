/** A disk of two queues as plain data, without an image: for tests of what a device is plugged into. */
import type { VirtioDevice } from "../../../src/machine/virtio/spec.ts";

export function disk(id: string): VirtioDevice {
  const image = { fd: -1, sectors: 8, readonly: true, direct: false, serial: "" };
  const shape = { queues: 2, queueSize: 256, blockSize: 512, physicalBlockSize: 512 };
  const habits = { writeback: false, discard: false, uring: false };
  return {
    ...{ label: `--disk ${id}`, id },
    ...{ config: Uint8Array.of(1, 2, 3, 4), writable: Uint8Array.of(0, 0, 0, 1) },
    identity: { type: 2, featuresLow: 0, featuresHigh: 1, queueSizes: [256, 256] },
    backend: { kind: "block", spec: { ...image, ...shape, ...habits } },
  };
}
