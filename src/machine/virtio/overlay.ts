/**
 * A copy-on-write disk over an image whose bytes never change: a qcow2 image with the other as its backing file. Where
 * it is not to be kept it is a file without a name, which goes with the process, however that ends.
 */
import { fstatSync, realpathSync } from "node:fs";
import * as v from "valibot";
import { ImageError } from "../../devices/images/image-error.ts";
import { formatNames, probeBytes, probeImage } from "../../devices/images/probe.ts";
import { overlayImage } from "../../devices/images/qcow2/create.ts";
import { readHeader } from "../../devices/images/qcow2/header.ts";
import { ConfigError } from "../../exit-codes.ts";
import { deviceBytes } from "../../ffi/block-device.ts";
import { close, Open, open, pread, unlink, writeAll } from "../../ffi/file.ts";
import { SystemError } from "../../ffi/libc.ts";
import { DiskConfig } from "../config/devices.ts";

export interface OverlayOptions {
  /** The folder for what is not kept. */
  readonly tmpdir: string;
  /** A file that is not there yet. */
  readonly keep?: string | undefined;
  /** Size of the disk; the image's if not given. */
  readonly bytes?: number | undefined;
  /** The image may have backing files of its own. */
  readonly backing?: boolean | undefined;
}

export interface Overlay {
  readonly disk: v.InferOutput<typeof DiskConfig>;
  /** Size of the disk. */
  readonly bytes: number;
  /** Lets go of it; one that is kept and was never used is removed. */
  close(unused: boolean): void;
}

const sectorBytes = 512;

/** `what` is what the image is called in a message: "IMAGE". Throws ConfigError; then nothing is left. */
export function openOverlay(what: string, path: string, options: OverlayOptions): Overlay {
  const { keep, tmpdir } = options;
  const fail = (why: string) => new ConfigError(`${what} ${path}: ${why}`, what);
  const below = imageBelow(path, options.backing ?? false, fail);
  const bytes = options.bytes ?? below.bytes;
  if (bytes < below.bytes) {
    const why = `less than the ${below.bytes} bytes of ${path}; a disk can only grow`;
    throw new ConfigError(`--disk-size ${bytes}: ${why}`, "--disk-size");
  }
  if (bytes % sectorBytes !== 0) {
    throw new ConfigError(`--disk-size ${bytes}: no whole sectors of 512 bytes`, "--disk-size");
  }
  const content = imageOver(below, bytes, fail);
  const fd = keep === undefined ? withoutName(tmpdir) : withName(keep);
  const remove = () => keep !== undefined && unlink(keep);
  if (!writeAll(fd, content)) {
    remove();
    close(fd);
    const [option, where] = keep === undefined ? ["--tmpdir", tmpdir] : ["--keep", keep];
    throw new ConfigError(`${option} ${where}: no room; name another place`, option);
  }
  const disk = v.parse(DiskConfig, {
    ...{ path: keep ?? `/proc/self/fd/${fd}`, image_type: "Qcow2", backing_files: true },
  });
  return {
    disk,
    bytes,
    close(unused) {
      if (unused) remove();
      close(fd);
    },
  };
}

interface Below {
  readonly path: string;
  readonly format: "raw" | "qcow2";
  readonly bytes: number;
}

function imageBelow(path: string, backing: boolean, fail: (why: string) => ConfigError): Below {
  let fd: number;
  try {
    fd = open(path, Open.readOnly | Open.nonBlock);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw fail(`${error.reason}; name an image that chv may read`);
  }
  try {
    const status = fstatSync(fd);
    if (!status.isFile() && !status.isBlockDevice()) throw fail("no file; name an image");
    const fileBytes = status.isFile() ? status.size : deviceBytes(fd);
    const read = (offset: number, length: number) => {
      const bytes = new Uint8Array(length);
      pread(fd, bytes, length, offset);
      return bytes;
    };
    const found = probeImage(read(0, probeBytes));
    const format = found === "luks" ? "raw" : found;
    if (format !== "raw" && format !== "qcow2") {
      throw fail(`a ${formatNames[format]} image; convert it with qemu-img convert`);
    }
    const header = format === "raw" ? undefined : readHeader(read, fileBytes);
    // it could name any file of the host
    if (header?.backing && !backing) {
      throw fail("it has a backing file; allow that with --backing-files");
    }
    const bytes = header?.bytes ?? fileBytes;
    if (bytes < sectorBytes) throw fail("smaller than one sector of 512 bytes; name an image");
    const whole = Math.ceil(bytes / sectorBytes) * sectorBytes;
    return { path: realpathSync(path), format, bytes: whole };
  } catch (error) {
    throw error instanceof ImageError ? fail(error.message) : error;
  } finally {
    close(fd);
  }
}

function imageOver(
  { path, format }: Below,
  bytes: number,
  fail: (why: string) => ConfigError,
): Uint8Array {
  try {
    return overlayImage({ bytes, backing: { path, format } });
  } catch (error) {
    throw error instanceof ImageError ? fail(error.message) : error;
  }
}

function withoutName(folder: string): number {
  try {
    return open(folder, Open.temporary | Open.readWrite, 0o600);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    if (error.code !== "EOPNOTSUPP" && error.code !== "EISDIR") {
      const why = `${error.reason}; name a folder that this user may write`;
      throw new ConfigError(`--tmpdir ${folder}: ${why}`, "--tmpdir");
    }
  }
  // a file system without O_TMPFILE
  const path = `${folder}/chv-${crypto.randomUUID()}`;
  const fd = open(path, Open.readWrite | Open.create | Open.exclusive, 0o600);
  unlink(path);
  return fd;
}

function withName(path: string): number {
  try {
    return open(path, Open.readWrite | Open.create | Open.exclusive, 0o600);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const there = error.code === "EEXIST";
    const what = there ? "name one that is not there" : `name one in a folder that can be written`;
    throw new ConfigError(`--keep ${path}: ${error.reason}; ${what}`, "--keep");
  }
}
