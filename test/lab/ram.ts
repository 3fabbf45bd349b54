/** The RAM of a lab that is being started is a file, of its starter's number, until QEMU has it open. */

import { existsSync, readdirSync, rmSync, statfsSync } from "node:fs";
import { labFolder } from "./paths.ts";
import { processOf } from "./state.ts";

const memoryFolder = "/dev/shm";
const prefix = "chv-lab-";

/** In memory if there is room, else in the lab's folder. `memory` is QEMU's: "6144M". */
export function ramFile(memory: string): string {
  const free = statfsSync(memoryFolder);
  const roomy = free.bavail * free.bsize >= Number.parseInt(memory, 10) * 2 ** 20;
  return `${roomy ? memoryFolder : labFolder}/${prefix}${process.pid}`;
}

/** Removes this process's, and those of starters that were killed. */
export function dropRamFiles(): void {
  for (const folder of [memoryFolder, labFolder].filter((folder) => existsSync(folder))) {
    for (const name of readdirSync(folder)) {
      if (!name.startsWith(prefix)) continue;
      const starter = Number.parseInt(name.slice(prefix.length), 10);
      if (starter === process.pid || !processOf(starter)) {
        rmSync(`${folder}/${name}`, { force: true });
      }
    }
  }
}
