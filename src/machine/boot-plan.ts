/** What a configuration says of loading; which files, is chosen anew for each boot. */
import type { BootPlan } from "./boot.ts";
import type { BootConfig } from "./config/vm.ts";
import type { KernelFiles } from "./disk-boot/kernel-files.ts";
import type { GuestMemory } from "./guest-memory.ts";
import { possibleCpus } from "./virtual-machine.ts";

/** Without the files. Its memory is what main reaches it by. */
export type LastingPlan = Omit<BootPlan, keyof KernelFiles | "memory"> & {
  readonly memory: GuestMemory;
};

export const planOf = (
  { payload, cpus, serial, watchdog, platform }: BootConfig,
  memory: GuestMemory,
  virtioMmio: BootPlan["virtioMmio"] = [],
): LastingPlan => ({
  entry: payload.kernel_entry,
  memory,
  cpus: possibleCpus(cpus),
  serial: serial.mode !== "Off",
  watchdog,
  virtioMmio,
  platform,
});
