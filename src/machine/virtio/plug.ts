/** Plugs a machine's virtio devices into the transport that the user wants. */
import type { Owned } from "../owned.ts";
import type { MachineSpec } from "../spec.ts";
import type * as Mmio from "./mmio.ts";
import { plug, type VirtioDevice } from "./spec.ts";

/** Throws ConfigError when there are too many. */
export function plugInto(
  transport: "pci" | "mmio",
  devices: readonly VirtioDevice[],
  owned: Owned,
): Pick<MachineSpec, "virtio" | "virtioMmio"> {
  if (transport === "pci") return { virtio: plug(devices, owned), virtioMmio: undefined };
  const { plugMmio } = require("./mmio.ts") as typeof Mmio;
  return { virtio: [], virtioMmio: plugMmio(devices, owned) };
}
