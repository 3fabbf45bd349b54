/** The backends, by kind: what an I/O worker runs for each device. */
import type { EventRing } from "../../bus/event-ring.ts";
import type { Backend, BackendHost } from "../../devices/virtio/backend.ts";
import { BlockBackend } from "../../devices/virtio/block.ts";
import { ConsoleBackend } from "../../devices/virtio/console.ts";
import { EntropyBackend } from "../../devices/virtio/entropy.ts";
import { NetBackend } from "../../devices/virtio/net.ts";
import { openFarEnd } from "../console/far-end.ts";
import type { PluggedVirtio } from "./spec.ts";

/** `events` is where a console tells of the escape key and of lost output; without it there are none. */
export function createBackend(
  host: BackendHost,
  { spec, config, counters }: PluggedVirtio,
  events?: EventRing,
): Backend {
  const { backend } = spec;
  switch (backend.kind) {
    case "block":
      return new BlockBackend(backend.spec, host, config, counters);
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
  }
}
