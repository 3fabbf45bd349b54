/** Modules of the 6.12 cloud kernel for guests: `./dev kernel 6.12-cloud` fetches them. */

import { readdirSync } from "node:fs";
import { cache } from "../../lab/paths.ts";

const folder = `${cache}/kernels/6.12-cloud/modules`;
let files: readonly string[] | undefined;

/** What a network interface needs, in the order in which it can be inserted. */
export const netModules = ["failover", "net_failover", "virtio_net"];

/** The modules' files on this machine, in the order of the names. */
export function kernelModules(names: readonly string[]): string[] {
  const all = files ?? readdirSync(folder, { recursive: true, encoding: "utf8" });
  files = all;
  return names.map((name) => {
    const file = all.find((one) => one.endsWith(`/${name}.ko`));
    if (!file) throw new Error(`${folder} has no ${name}.ko`);
    return `${folder}/${file}`;
  });
}
