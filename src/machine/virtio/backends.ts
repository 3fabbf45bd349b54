/** The backends, by kind: what an I/O worker runs for each device. */

import type { EventRing } from "../../bus/event-ring.ts";
import type { Backend, BackendHost } from "../../devices/virtio/backend.ts";
import { BalloonBackend } from "../../devices/virtio/balloon.ts";
import { BlockBackend } from "../../devices/virtio/block.ts";
import { ConsoleBackend } from "../../devices/virtio/console.ts";
import { EntropyBackend } from "../../devices/virtio/entropy.ts";
import { NetBackend } from "../../devices/virtio/net.ts";
import { PmemBackend } from "../../devices/virtio/pmem.ts";
import { openFarEnd } from "../console/far-end.ts";
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
    case "balloon":
      return new BalloonBackend(backend.spec, host, counters);
    case "block":
      return new BlockBackend(backend.spec, host, config, counters, undefined, queues);
    case "console": {
      if (!events) throw new Error("a console is served in the machine's process alone");
      const { spec: device, ends } = backend;
      return new ConsoleBackend(device, host, config, counters, (port, side) =>
        openFarEnd(ends[port]!, side, host, events),
      );
    }
    case "entropy":
      return new EntropyBackend(backend.spec, host, counters);
    case "net":
      return new NetBackend(backend.spec, host, config, counters, spec.kickFds);
    case "pmem":
      return new PmemBackend(backend.spec, host, counters);
  }
}
