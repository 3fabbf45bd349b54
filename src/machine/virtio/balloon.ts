/** The memory balloon of a configuration: whether this guest's RAM can be taken back, and what virtio device it is. */
import {
  type BalloonSpec,
  balloonConfig,
  balloonFeatures,
  balloonPageBytes,
  balloonQueueSize,
  balloonQueues,
  balloonWritable,
} from "../../devices/virtio/balloon-config.ts";
import { DeviceType, Feature } from "../../devices/virtio/registers.ts";
import { ConfigError } from "../../exit-codes.ts";
import type { VmConfig } from "../config/vm.ts";
import type { VirtioDevice } from "./spec.ts";

type BalloonConfig = NonNullable<VmConfig["balloon"]>;

const hugePageBytes = 2 ** 21;
const option = "--balloon";

/** Throws ConfigError. */
export function openBalloon(config: BalloonConfig, memory: VmConfig["memory"]): VirtioDevice {
  const { size, free_page_reporting: reporting, deflate_on_oom: deflateOnOom } = config;
  const fail = (why: string) => new ConfigError(`${option}: ${why}`, option);
  if (size % balloonPageBytes !== 0) {
    throw fail(`size=${size} is not a whole number of pages of 4K; round it`);
  }
  if (size >= memory.size) {
    throw fail(`size=${size} leaves nothing of the guest's ${memory.size} bytes; ask for less`);
  }
  // pages go into the balloon 4 KiB at a time, from all over
  if (memory.hugepages && (size > 0 || !reporting)) {
    throw fail("pages of 4K do not come back from hugepages=on; use free_page_reporting=on alone");
  }
  const spec: BalloonSpec = {
    granule: memory.hugepages ? hugePageBytes : balloonPageBytes,
    ...{ shared: memory.shared, deflateOnOom, reporting },
  };
  const ring = 2 ** Feature.RING_INDIRECT_DESC + 2 ** Feature.RING_EVENT_IDX;
  return {
    id: config.id ?? "_balloon",
    label: option,
    identity: {
      type: DeviceType.balloon,
      featuresLow: balloonFeatures(spec) + ring,
      featuresHigh: 2 ** (Feature.VERSION_1 - 32),
      queueSizes: new Array<number>(balloonQueues(spec)).fill(balloonQueueSize),
    },
    config: balloonConfig(size),
    writable: balloonWritable(),
    backend: { kind: "balloon", spec },
  };
}
