/**
 * The virtio devices of a configuration, in slot order: console, disks, nets, rng, fs, pmem, and what came later. The
 * code that opens one is loaded where one is asked for: a start without it does not pay for it.
 */
import { ConfigError } from "../../exit-codes.ts";
import type { BootConfig } from "../config/vm.ts";
import { Consoles } from "../console/consoles.ts";
import type { Owned } from "../owned.ts";
import type * as Balloon from "./balloon.ts";
import type * as ConsoleDevices from "./consoles.ts";
import type * as Disks from "./disks.ts";
import { openEntropy } from "./entropy.ts";
import type * as Nets from "./nets.ts";
import { PersistentPlaces } from "./persistent.ts";
import type * as Pmems from "./pmems.ts";
import type * as Seed from "./seed.ts";
import type { VirtioDevice } from "./spec.ts";

const balloon = () => require("./balloon.ts") as typeof Balloon;
const consoleDevices = () => require("./consoles.ts") as typeof ConsoleDevices;
const disks = () => require("./disks.ts") as typeof Disks;
const nets = () => require("./nets.ts") as typeof Nets;
const pmems = () => require("./pmems.ts") as typeof Pmems;
const seed = () => require("./seed.ts") as typeof Seed;

/** Opens every device; what that opens is `owned`. Throws ConfigError naming the option. */
export function openDevices(
  config: BootConfig,
  owned: Owned,
  consoles = new Consoles(owned),
): VirtioDevice[] {
  const { memory, cpus } = config;
  const places = new PersistentPlaces(memory.size, memory.hotplug_size, cpus.max_phys_bits);
  const devices: VirtioDevice[] = [
    ...(config.console.mode === "Off"
      ? []
      : consoleDevices().openConsoleDevice(config.console, consoles)),
    ...(config.disks ?? []).map((disk, index) => disks().openDisk(disk, index, owned)),
    ...(config.cloud_init ? seed().openSeed(config, owned) : []),
    ...(config.net ?? []).map((net, index) => nets().openNet(net, index, owned)),
    openEntropy(config.rng, owned),
    ...(config.pmem ?? []).map((pmem, index) => pmems().openPmem(pmem, index, places, owned)),
    ...(config.balloon ? [balloon().openBalloon(config.balloon, config.memory)] : []),
    ...(config.ports?.length ? consoleDevices().openPortsDevice(config.ports, consoles) : []),
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
