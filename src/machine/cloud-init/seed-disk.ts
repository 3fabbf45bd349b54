/** The seed as a disk: a file in memory that no path leads to. */

import * as v from "valibot";
import { writeAll } from "../../ffi/file.ts";
import { memfd } from "../../ffi/memory.ts";
import type { CloudInit } from "../config/cloud-init.ts";
import { DiskConfig } from "../config/devices.ts";
import { seedId } from "../config/ids.ts";
import { makeSeed, type SeedContext } from "./seed.ts";

export type DiskOptions = v.InferOutput<typeof DiskConfig>;

export interface SeedDisk {
  /** The file; it is the caller's to close. */
  readonly fd: number;
  readonly disk: DiskOptions;
}

/** Throws ConfigError. */
export function openSeedDisk(config: CloudInit, context: SeedContext): SeedDisk {
  const volume = makeSeed(config, context);
  const fd = memfd("chv-cloud-init", false);
  writeAll(fd, volume);
  const disk = v.parse(DiskConfig, {
    ...{ path: `/proc/self/fd/${fd}`, readonly: true, image_type: "Raw" },
    ...{ id: seedId, serial: "cloud-init" },
  });
  return { fd, disk };
}
