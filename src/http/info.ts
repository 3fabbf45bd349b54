/** What `vm.info` tells: the configuration, the state, and how much RAM the guest has. */
import type { Vmm } from "../machine/vmm/vmm.ts";

export function vmInfo(vmm: Vmm): object {
  const { config, shownConfig, state } = vmm;
  return { config: shownConfig, state, memory_actual_size: config.memory.size };
}
