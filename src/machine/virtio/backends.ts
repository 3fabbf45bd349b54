/** The backends, by kind: what an I/O worker runs for each device. */
import { BlockBackend } from "../../devices/virtio/block.ts";
import { EntropyBackend } from "../../devices/virtio/entropy.ts";
import { NetBackend } from "../../devices/virtio/net.ts";
import type { BackendFactory } from "./host.ts";

export const createBackend: BackendFactory = (host, { spec, config, counters }) => {
  const { backend } = spec;
  switch (backend.kind) {
    case "block":
      return new BlockBackend(backend.spec, host, config, counters);
    case "entropy":
      return new EntropyBackend(backend.spec, host, counters);
    case "net":
      return new NetBackend(backend.spec, host, config, counters, spec.kickFds);
  }
};
