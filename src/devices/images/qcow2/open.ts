/**
 * Opens a qcow2 image and the files below it, checks what can be checked before the disk is used, and describes them as
 * plain data. On the main thread, where it may wait for the host.
 */
import { fstatSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { Block } from "../../../ffi/block.ts";
import { deviceBytes } from "../../../ffi/block-device.ts";
import { Open, open, pread } from "../../../ffi/file.ts";
import { claimFile } from "../../../ffi/file-lock.ts";
import { SystemError } from "../../../ffi/libc.ts";
import { ImageError, plain } from "../image-error.ts";
import { probeBytes, probeImage } from "../probe.ts";
import { entryBytes, pieceBytes, pieceOf } from "./format.ts";
import { type BackingName, type Qcow2Header, readHeader } from "./header.ts";
import { metadataOf } from "./parts.ts";
import type { LayerSpec, Qcow2Spec, WriteSpec } from "./spec.ts";

/** Files of one chain, at most. */
const maxLayers = 32;
const repair = "repair it with qemu-img check -r all";

export interface Qcow2OpenOptions {
  readonly readonly: boolean;
  /** The image was opened with O_DIRECT. The files below it never are: many machines share them, and their cache. */
  readonly direct: boolean;
  /** Backing files may be opened. */
  readonly backing: boolean;
  /** Room may be given back to the host, which can take it (see `canPunch`). */
  readonly punch: boolean;
  /** Takes over a descriptor that was opened. */
  readonly own: (fd: number) => void;
}

/** `fd` is the image, open and locked. Throws ImageError. */
export function openQcow2(fd: number, path: string, options: Qcow2OpenOptions): Qcow2Spec {
  const file = fileOf(fd);
  const header = readHeader((at, length) => readAt(fd, at, length), file.bytes);
  const { readonly, direct } = options;
  if (direct && header.clusterBits < Math.log2(pieceBytes)) {
    throw new ImageError(`direct=on needs clusters of ${pieceBytes} bytes or more; leave it out`);
  }
  if (!readonly) refuseWriting(header);
  const layers = [layerOf(fd, file.bytes, direct, header)];
  openBacking(header.backing, path, [file], layers, options);
  if (readonly) return { layers, write: undefined };
  const write = writeOf(
    fd,
    header,
    options.punch,
    file.isFile ? Number.POSITIVE_INFINITY : file.bytes,
  );
  if (!metadataOf(layers[0]!, write).sound) {
    throw new ImageError(`a broken qcow2 image: its tables lie on each other; ${repair}`);
  }
  return { layers, write };
}

function refuseWriting({ dirty, corrupt }: Qcow2Header): void {
  if (corrupt) throw new ImageError(`a qcow2 image that is marked corrupt; ${repair}`);
  if (dirty) {
    throw new ImageError(`a qcow2 image that was not closed, so refcounts may be wrong; ${repair}`);
  }
}

function layerOf(fd: number, fileBytes: number, direct: boolean, header: Qcow2Header): LayerSpec {
  const { bytes, version, clusterBits, compression, l1Offset, l1Entries } = header;
  const l1 = readTable(fd, l1Offset, l1Entries * entryBytes, 2 ** clusterBits);
  const tables = { version, clusterBits, compression, l1Offset, l1Entries, l1 };
  return { fd, bytes, fileBytes, direct, tables };
}

function writeOf(fd: number, header: Qcow2Header, punch: boolean, limit: number): WriteSpec {
  const { refcountOrder, refcountsOffset, refcountsClusters, clusterBits, autoclear } = header;
  const clusterBytes = 2 ** clusterBits;
  const refcounts = readTable(fd, refcountsOffset, refcountsClusters * clusterBytes, clusterBytes);
  const start = readTable(fd, 0, pieceOf(clusterBytes), pieceOf(clusterBytes));
  return { refcountOrder, refcountsOffset, refcounts, header: start, autoclear, limit, punch };
}

interface OpenFile {
  readonly bytes: number;
  readonly isFile: boolean;
  /** The same for the same file. */
  readonly identity: string;
}

function fileOf(fd: number): OpenFile {
  const status = fstatSync(fd);
  const bytes = status.isFile() ? status.size : deviceBytes(fd);
  const isFile = status.isFile();
  const identity = isFile ? `${status.dev}:${status.ino}` : `device ${status.rdev}`;
  return { bytes, isFile, identity };
}

/** Opens what an image names, and what that names, to the end of the chain. */
function openBacking(
  first: BackingName | undefined,
  path: string,
  files: OpenFile[],
  layers: LayerSpec[],
  options: Qcow2OpenOptions,
): void {
  let [backing, above] = [first, path];
  while (backing) {
    if (!options.backing) {
      const what = `its backing file ${plain(backing.name)} is not allowed`;
      throw new ImageError(`${what}; allow it with backing_files=on`);
    }
    if (layers.length === maxLayers) {
      const what = `more than ${maxLayers - 1} backing files`;
      throw new ImageError(`${what}; join them with qemu-img convert`);
    }
    const next = resolve(dirname(above), pathOf(backing.name));
    const fail = (why: string) => new ImageError(`its backing file ${plain(next)}: ${why}`);
    const fd = openFile(next, options, fail);
    const file = fileOf(fd);
    if (files.some(({ identity }) => identity === file.identity)) {
      throw fail("it is part of the chain already; restore the image from a copy");
    }
    files.push(file);
    const format = backing.format ?? probeImage(readAt(fd, 0, probeBytes));
    if (format === "raw") {
      const { bytes } = file;
      layers.push({ fd, bytes, fileBytes: bytes, direct: false, tables: undefined });
      return;
    }
    if (format !== "qcow2") throw fail(`${plain(format)}, which chv does not serve; convert it`);
    try {
      const header = readHeader((at, length) => readAt(fd, at, length), file.bytes);
      layers.push(layerOf(fd, file.bytes, false, header));
      backing = header.backing;
    } catch (error) {
      throw error instanceof ImageError ? fail(error.message) : error;
    }
    above = next;
  }
}

/** A backing file's name as a path: names of other kinds have a protocol before a colon. */
function pathOf(name: string): string {
  const path = name.replace(/^file:(?:\/\/(?=\/))?/, "");
  if (/^[^/]*:/.test(path) || path.includes("\0")) {
    throw new ImageError(
      `its backing file ${plain(name)} is no file; convert it with qemu-img convert`,
    );
  }
  return path;
}

function openFile(
  path: string,
  { own }: Qcow2OpenOptions,
  fail: (why: string) => ImageError,
): number {
  let fd: number;
  try {
    fd = open(path, Open.readOnly | Open.nonBlock);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw fail(`${error.reason}; put it there, readable`);
  }
  own(fd);
  const status = fstatSync(fd);
  if (!status.isFile() && !status.isBlockDevice()) {
    throw fail("neither a file nor a block device; restore the image from a copy");
  }
  const taken = claimFile(fd, path, "read");
  if (taken) throw fail(taken);
  return fd;
}

/** Reads `length` bytes; what lies behind the end of the file reads as zeroes. By way of aligned memory: O_DIRECT. */
function readAt(fd: number, offset: number, length: number): Uint8Array {
  const start = Math.floor(offset / pieceBytes) * pieceBytes;
  const bytes = Math.ceil((offset + length - start) / pieceBytes) * pieceBytes;
  const memory = new Block(bytes + pieceBytes);
  const address = Math.ceil(memory.address / pieceBytes) * pieceBytes;
  pread(fd, address, bytes, start);
  const from = address - memory.address + offset - start;
  return memory.bytes.subarray(from, from + length);
}

/** Reads a table into shared memory, in whole units. */
function readTable(fd: number, offset: number, bytes: number, unit: number): SharedArrayBuffer {
  const length = Math.ceil(bytes / unit) * unit;
  const table = new SharedArrayBuffer(length);
  if (length > 0) new Uint8Array(table).set(readAt(fd, offset, length));
  return table;
}
