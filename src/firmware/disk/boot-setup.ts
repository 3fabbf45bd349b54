/** What a disk says is to be booted, whichever loader it was written for. */
import type { Medium } from "./medium.ts";
import { DiskError } from "./medium.ts";
import type { Volume } from "./volumes.ts";

/** A kernel or an initramfs on the disk; read when it is asked for. */
export interface BootFile {
  readonly path: string;
  /** Its partition, for messages. */
  readonly place: string;
  /** At most `limit` bytes, if not said 512 MiB. Throws DiskError. */
  read(limit?: number): Uint8Array;
}

export interface BootSetup {
  readonly loader: "GRUB" | "systemd-boot" | "UKI";
  readonly title: string;
  /** The file that says so, and its partition. */
  readonly config: string;
  readonly kernel: BootFile;
  /** In order: they become one archive. */
  readonly initrds: readonly BootFile[];
  readonly cmdline: string;
  /** The partition that `root=` names, where it is on this disk. */
  readonly root: string | undefined;
  /** Its PARTUUID, which a kernel without an initramfs understands. */
  readonly rootPartUuid: string | undefined;
  /** Partitions and what is on them. */
  readonly disk: string;
  readonly notes: readonly string[];
}

/** There is nothing on the disk that says what to boot; the message says what was looked for. */
export class NoBootSetup extends DiskError {}

export interface BootSource {
  readonly disk: Medium;
  /** Another entry than the default one. */
  readonly entry: string | undefined;
}

/** Of a kernel, and of all initramfs files together. */
export const kernelBytesMax = 512 * 2 ** 20;

/** A file of a partition. */
export function fileOf(volume: Volume, path: string): BootFile {
  return {
    path,
    place: volume.name,
    read(limit = kernelBytesMax) {
      const bytes = volume.files?.readFile(path, limit);
      if (!bytes) throw new DiskError(`${path} is no file of ${volume.shown}`);
      return bytes;
    },
  };
}

/** One archive of several: each begins at a multiple of four bytes (Linux, "initramfs buffer format"). */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const padded = (length: number) => Math.ceil(length / 4) * 4;
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + padded(length), 0));
  let at = 0;
  for (const bytes of parts) {
    all.set(bytes, at);
    at += padded(bytes.length);
  }
  return all;
}
