/** What lies on a disk, in one line for a person: `GPT: partition 1 (ext4 "root"), …`. */
import { DiskError } from "../../firmware/disk/medium.ts";
import { Volumes } from "../../firmware/disk/volumes.ts";
import type { VmConfig } from "../config/vm.ts";
import { Owned } from "../owned.ts";
import { openMedium } from "./image-medium.ts";

type Disk = Pick<NonNullable<VmConfig["disks"]>[number], "path" | "backing_files">;

/** Undefined where it cannot be read. */
export function describeDisk(disk: Disk): string | undefined {
  const owned = new Owned();
  try {
    return Volumes.of(openMedium(disk as Parameters<typeof openMedium>[0], owned)).shown;
  } catch (error) {
    if (error instanceof DiskError) return undefined;
    throw error;
  } finally {
    owned.close();
  }
}
