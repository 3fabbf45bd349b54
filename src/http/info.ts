/** What `vm.info` tells: the configuration, the state, how much RAM the guest has, and its devices while it runs. */
import { balloonedBytes, deviceTree } from "../machine/virtio/tree.ts";
import type { Vmm } from "../machine/vmm/vmm.ts";

export function vmInfo(vmm: Vmm): object {
  const { config, shownConfig, state, guest } = vmm;
  const { size, zones = [] } = config.memory;
  const bytes = size + zones.reduce((sum, zone) => sum + zone.size, 0);
  if (guest === undefined) return { config: shownConfig, state, memory_actual_size: bytes };
  const { virtio } = guest.machine;
  return {
    config: shownConfig,
    state,
    memory_actual_size: bytes - balloonedBytes(virtio),
    device_tree: deviceTree(virtio),
    ...(guest.machine.kernel.choice && { boot: guest.machine.kernel.choice }),
  };
}
