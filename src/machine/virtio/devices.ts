/** The virtio devices of a configuration, in slot order: console, disks, nets, rng, fs, pmem, and what came later. */
import { ConfigError } from "../../exit-codes.ts";
import type { BootConfig } from "../config/vm.ts";
import { Consoles } from "../console/consoles.ts";
import type { Owned } from "../owned.ts";
import { openBalloon } from "./balloon.ts";
import { openConsoleDevice, openPortsDevice } from "./consoles.ts";
import { openDisk } from "./disks.ts";
import { openEntropy } from "./entropy.ts";
import { openNet } from "./nets.ts";
import { PersistentPlaces } from "./persistent.ts";
import { openPmem } from "./pmems.ts";
import { openSeed } from "./seed.ts";
import type { VirtioDevice } from "./spec.ts";

/** Opens every device; what that opens is `owned`. Throws ConfigError naming the option. */
export function openDevices(
  config: BootConfig,
  owned: Owned,
  consoles = new Consoles(owned),
): VirtioDevice[] {
  const { memory, cpus } = config;
  const places = new PersistentPlaces(memory.size, memory.hotplug_size, cpus.max_phys_bits);
  const devices: VirtioDevice[] = [
    ...openConsoleDevice(config.console, consoles),
    ...(config.disks ?? []).map((disk, index) => openDisk(disk, index, owned)),
    ...openSeed(config, owned),
    ...(config.net ?? []).map((net, index) => openNet(net, index, owned)),
    openEntropy(config.rng, owned),
    ...(config.pmem ?? []).map((pmem, index) => openPmem(pmem, index, places, owned)),
    ...(config.balloon ? [openBalloon(config.balloon, config.memory)] : []),
    ...openPortsDevice(config.ports, consoles),
  ];
  refuseTwins(devices);
  return devices;
}

function refuseTwins(devices: readonly VirtioDevice[]): void {
  const byId = new Map<string, VirtioDevice>();
  for (const device of devices) {
    const twin = byId.get(device.id);
    byId.set(device.id, device);
    if (twin === undefined) continue;
    const why = `id=${device.id} names ${twin.label} too; choose another`;
    throw new ConfigError(`${device.label}: ${why}`, device.label.split(" ")[0]);
  }
}
