/**
 * Makes a raw disk larger while its guest runs: the file first, then what its workers serve, then the guest is told.
 */
import { fstatSync } from "node:fs";
import { locked } from "../../bus/lock.ts";
import { growCapacity, readCapacity, sectorBytes } from "../../devices/virtio/block-config.ts";
import { ConfigError } from "../../exit-codes.ts";
import { truncate } from "../../ffi/file.ts";
import { SystemError } from "../../ffi/libc.ts";
import type { PluggedVirtio } from "./spec.ts";

/** False when there is no disk of that id. Throws ConfigError naming the disk; then it is as it was. */
export function resizeDisk(devices: readonly PluggedVirtio[], id: string, bytes: number): boolean {
  const plugged = devices.find(({ spec }) => spec.id === id);
  if (plugged?.spec.backend.kind !== "block") return false;
  const { spec, config, lock, device } = plugged;
  const disk = plugged.spec.backend.spec;
  const fail = (why: string) => new ConfigError(`${spec.label}: ${why}`, "--disk");
  const now = readCapacity(config) * sectorBytes;
  if (disk.qcow2) throw fail("a qcow2 image is not resized while it is used; give a raw image");
  if (disk.readonly) throw fail("readonly=on cannot be resized; leave it out");
  if (!fstatSync(disk.fd).isFile()) {
    throw fail("a block device cannot be resized by chv; resize it, and boot again");
  }
  if (bytes % disk.blockSize !== 0) {
    throw fail(`${bytes} bytes are no whole number of blocks of ${disk.blockSize}; round it`);
  }
  if (bytes < now) throw fail(`it has ${now} bytes and does not shrink; ask for more`);
  if (bytes === now) return true;
  try {
    truncate(disk.fd, bytes);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw fail(`${bytes} bytes: ${error.reason}; ask for less, or make room`);
  }
  const sectors = bytes / sectorBytes;
  growCapacity(spec.config, sectors); // what it has after a reset
  locked(lock, () => {
    growCapacity(config, sectors);
    device.configChanged();
  });
  return true;
}
