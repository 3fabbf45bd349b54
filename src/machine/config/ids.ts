/** Names of devices: those that the user gave are unique, the others get one that says what they are: "_disk0". */
import { ConfigError } from "../../exit-codes.ts";
import type { VmConfig } from "./vm.ts";

/** Lists of devices, and what begins the names of theirs. */
const lists = {
  disks: "_disk",
  net: "_net",
  fs: "_fs",
  pmem: "_pmem",
  devices: "_vfio",
} as const;
const singles = { vsock: "_vsock", balloon: "_balloon" } as const;

/** The disk of cloud-init's seed, which nobody boots from. */
export const seedId = "_cloud-init";

type Named = { readonly id?: string | undefined };

/** The configuration with an id for each device. Throws ConfigError when two have the same. */
export function withIds(config: VmConfig): VmConfig {
  const taken = new Set<string>();
  const take = (option: string, { id }: Named): void => {
    if (id === undefined) return;
    if (taken.has(id)) throw new ConfigError(`${option}: id=${id} is given twice; choose another`);
    taken.add(id);
  };
  for (const list of Object.keys(lists) as (keyof typeof lists)[]) {
    for (const device of config[list] ?? []) take(list, device);
  }
  for (const one of Object.keys(singles) as (keyof typeof singles)[]) take(one, config[one] ?? {});

  const next = new Map<string, number>();
  const fresh = (prefix: string): string => {
    let number = next.get(prefix) ?? 0;
    while (taken.has(`${prefix}${number}`)) number++;
    next.set(prefix, number + 1);
    return `${prefix}${number}`;
  };
  const named = <D extends Named>(device: D, prefix: string): D =>
    device.id === undefined ? { ...device, id: fresh(prefix) } : device;
  const all: Record<string, unknown> = {};
  for (const [list, prefix] of Object.entries(lists)) {
    const devices = config[list as keyof typeof lists] as readonly Named[] | undefined;
    if (devices) all[list] = devices.map((device) => named(device, prefix));
  }
  for (const [one, prefix] of Object.entries(singles)) {
    const device = config[one as keyof typeof singles] as Named | undefined;
    if (device) all[one] = device.id === undefined ? { ...device, id: prefix } : device;
  }
  return { ...config, ...all };
}
