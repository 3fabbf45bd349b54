/** The disk of cloud-init's seed. */
import { log } from "../../log.ts";
import type * as SeedDisk from "../cloud-init/seed-disk.ts";
import type { BootConfig } from "../config/vm.ts";
import type { Owned } from "../owned.ts";
import { openDisk } from "./disks.ts";
import type { VirtioDevice } from "./spec.ts";

/** Behind the other disks; none if none is asked for. Throws ConfigError. */
export function openSeed(
  { cloud_init, net = [], disks = [] }: BootConfig,
  owned: Owned,
): VirtioDevice[] {
  if (cloud_init === undefined) return [];
  // its YAML reader is loaded only where it is needed
  const { openSeedDisk } = require("../cloud-init/seed-disk.ts") as typeof SeedDisk;
  const warn = (line: string) => log.warn(line);
  const { fd, disk } = openSeedDisk(cloud_init, { hasNet: net.length > 0, warn });
  owned.fd(fd);
  return [{ ...openDisk(disk, disks.length, owned), label: "--cloud-init" }];
}
