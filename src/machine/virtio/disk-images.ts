/** Finds out which format a disk's image has, and opens it accordingly. */
import { ImageError } from "../../devices/images/image-error.ts";
import { formatNames, probeBytes, probeImage } from "../../devices/images/probe.ts";
import { openQcow2 } from "../../devices/images/qcow2/open.ts";
import type { Qcow2Spec } from "../../devices/images/qcow2/spec.ts";
import { Block } from "../../ffi/block.ts";
import { pread } from "../../ffi/file.ts";
import { canPunch } from "../../ffi/file-vector.ts";
import type { VmConfig } from "../config/vm.ts";
import type { Owned } from "../owned.ts";

type DiskConfig = NonNullable<VmConfig["disks"]>[number];

const pageBytes = 4096;

/** The disk that an image holds. */
export interface DiskContent {
  readonly bytes: number;
  /** Room can be given back. */
  readonly discard: boolean;
  /** Nobody said that the image is raw: see `BlockSpec`. */
  readonly guarded: boolean;
  readonly qcow2?: Qcow2Spec;
  /** What is given back at once. */
  readonly discardBlockSize?: number;
}

/** `fd` is the image, open and locked, of `fileBytes`. Throws ImageError. */
export function openContent(
  fd: number,
  path: string,
  fileBytes: number,
  config: DiskConfig,
  owned: Owned,
): DiskContent {
  const { image_type: type, direct, readonly, backing_files: backing, sparse } = config;
  const probed = type === undefined || type === "Unknown";
  const punch = sparse && canPunch(fd, Math.ceil(fileBytes / pageBytes) * pageBytes);
  if (type !== "Qcow2" && !(probed && probe(fd) === "qcow2")) {
    return { bytes: fileBytes, discard: punch, guarded: probed };
  }
  const own = (other: number) => void owned.fd(other);
  const qcow2 = openQcow2(fd, path, { readonly, direct, backing, punch, own });
  const { bytes, tables } = qcow2.layers[0]!;
  const discardBlockSize = 2 ** tables!.clusterBits;
  return { bytes, discard: sparse, guarded: false, qcow2, discardBlockSize };
}

/** An image of another format, served raw, would show the guest the format's own tables. */
function probe(fd: number): "raw" | "qcow2" {
  const memory = new Block(2 * pageBytes); // aligned for O_DIRECT
  const address = Math.ceil(memory.address / pageBytes) * pageBytes;
  pread(fd, address, pageBytes, 0);
  const from = address - memory.address;
  const format = probeImage(memory.bytes.subarray(from, from + probeBytes));
  // a disk that its guest has encrypted is raw
  if (format === "raw" || format === "luks") return "raw";
  if (format === "qcow2") return "qcow2";
  const what = `a ${formatNames[format]} image, which chv does not serve`;
  throw new ImageError(`${what}; convert it with qemu-img convert`);
}
