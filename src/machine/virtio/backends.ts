/**
 * The backends, by kind: what an I/O worker runs for each device. A kind's code is loaded where there is such a device.
 */

import type { EventRing } from "../../bus/event-ring.ts";
import type { Backend, BackendHost } from "../../devices/virtio/backend.ts";
import type * as Balloon from "../../devices/virtio/balloon.ts";
import type * as Block from "../../devices/virtio/block.ts";
import type * as Console from "../../devices/virtio/console.ts";
import type * as Entropy from "../../devices/virtio/entropy.ts";
import type * as Net from "../../devices/virtio/net.ts";
import type * as Pmem from "../../devices/virtio/pmem.ts";
import type * as FarEnd from "../console/far-end.ts";
import type { WiredVirtio } from "./spec.ts";

/** What a backend is made of, in whatever home. */
export interface BackendPlace {
  readonly spec: Pick<WiredVirtio, "backend" | "kickFds">;
  /** Configuration space, and what is counted, in shared memory. */
  readonly config: Uint8Array;
  readonly counters: Float64Array;
  /** Those of the device's queues that this backend serves; all, if it does not say. */
  readonly queues?: readonly number[];
}

/** `events` is where a console tells of the escape key and of lost output; without it there are none. */
export function createBackend(host: BackendHost, place: BackendPlace, events?: EventRing): Backend {
  const { spec, config, counters, queues } = place;
  const { backend } = spec;
  switch (backend.kind) {
    case "balloon": {
      const { BalloonBackend } = require("../../devices/virtio/balloon.ts") as typeof Balloon;
      return new BalloonBackend(backend.spec, host, counters);
    }
    case "block": {
      const { BlockBackend } = require("../../devices/virtio/block.ts") as typeof Block;
      return new BlockBackend(backend.spec, host, config, counters, undefined, queues);
    }
    case "console": {
      if (!events) throw new Error("a console is served in the machine's process alone");
      const { spec: device, ends } = backend;
      const { ConsoleBackend } = require("../../devices/virtio/console.ts") as typeof Console;
      const { openFarEnd } = require("../console/far-end.ts") as typeof FarEnd;
      return new ConsoleBackend(device, host, config, counters, (port, side) =>
        openFarEnd(ends[port]!, side, host, events),
      );
    }
    case "entropy": {
      const { EntropyBackend } = require("../../devices/virtio/entropy.ts") as typeof Entropy;
      return new EntropyBackend(backend.spec, host, counters);
    }
    case "net": {
      const { NetBackend } = require("../../devices/virtio/net.ts") as typeof Net;
      const { kickFds } = spec;
      return new NetBackend(backend.spec, host, config, counters, kickFds, undefined, queues);
    }
    case "pmem": {
      const { PmemBackend } = require("../../devices/virtio/pmem.ts") as typeof Pmem;
      return new PmemBackend(backend.spec, host, counters);
    }
  }
}
