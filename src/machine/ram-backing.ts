/**
 * What lies behind guest RAM: private anonymous memory by default, a memfd when it is to be shared, a file when one is
 * named. One mapping for all of it; the owner closes it.
 */
import { existsSync, statSync } from "node:fs";
import { ConfigError } from "../exit-codes.ts";
import { close, Open, open, truncate } from "../ffi/file.ts";
import { SystemError } from "../ffi/libc.ts";
import { Madvise, MapFlag, madvise, memfd, mmap, munmap, Prot } from "../ffi/memory.ts";

const pageBytes = 4096;
const hugePageBytes = 2 * 1024 * 1024;

export interface BackingOptions {
  /** Bytes. */
  readonly size: number;
  readonly file?: string | undefined;
  readonly shared: boolean;
  readonly hugepages: boolean;
  readonly mergeable: boolean;
  readonly prefault: boolean;
  readonly thp: boolean;
}

export interface RamBacking {
  readonly kind: "anonymous" | "memfd" | "file";
  /** Host address of the first byte; aligned to 2 MiB. */
  readonly address: number;
  /** The descriptor behind a shared mapping; -1 for anonymous memory. */
  readonly fd: number;
  close(): void;
}

/** Maps the memory. Throws ConfigError; then nothing is left behind. */
export function createBacking(options: BackingOptions): RamBacking {
  const { fd, kind } = openBacking(options);
  try {
    const address = mapAligned(options, fd);
    try {
      advise(options, address, kind);
    } catch (error) {
      munmap(address, options.size);
      throw error;
    }
    return {
      kind,
      address,
      fd,
      close() {
        munmap(address, options.size);
        if (fd >= 0) close(fd);
      },
    };
  } catch (error) {
    if (fd >= 0) close(fd);
    throw explain(error, options);
  }
}

function openBacking(options: BackingOptions): { fd: number; kind: RamBacking["kind"] } {
  try {
    if (options.file !== undefined)
      return { fd: openFile(options.file, options.size), kind: "file" };
    if (!options.shared) return { fd: -1, kind: "anonymous" };
    const fd = memfd("chv-ram", options.hugepages);
    truncate(fd, options.size);
    return { fd, kind: "memfd" };
  } catch (error) {
    throw explain(error, options);
  }
}

/** A directory gets an unlinked file of the right size; a file is opened, made if it is not there, and sized. */
function openFile(path: string, size: number): number {
  const isDirectory = existsSync(path) && statSync(path).isDirectory();
  const flags = isDirectory ? Open.temporary : Open.create;
  const fd = open(path, Open.readWrite | flags, 0o600);
  truncate(fd, size);
  return fd;
}

/** Over-maps by one huge page and trims, so that transparent huge pages fit from the first byte on. */
function mapAligned(options: BackingOptions, fd: number): number {
  const { size } = options;
  let flags = options.shared ? MapFlag.shared : MapFlag.private;
  if (fd < 0) flags |= MapFlag.anonymous;
  // huge pages are set aside here and now, or the first touch of one that is not there would be a SIGBUS
  if (!options.hugepages) flags |= MapFlag.noReserve;
  else if (fd < 0) flags |= MapFlag.hugeTlb;
  const slack = mmap(
    0,
    size + hugePageBytes,
    Prot.none,
    MapFlag.private | MapFlag.anonymous | MapFlag.noReserve,
  );
  const address = Math.ceil(slack / hugePageBytes) * hugePageBytes;
  if (address > slack) munmap(slack, address - slack);
  const tail = slack + size + hugePageBytes - (address + size);
  if (tail > 0) munmap(address + size, tail);
  try {
    return mmap(address, size, Prot.read | Prot.write, flags | MapFlag.fixed, fd, 0);
  } catch (error) {
    munmap(address, size);
    throw error;
  }
}

function advise(options: BackingOptions, address: number, kind: RamBacking["kind"]): void {
  const { size } = options;
  madvise(address, size, Madvise.dontDump);
  if (kind !== "file" && !options.hugepages) {
    tryAdvice(address, size, options.thp ? Madvise.hugePage : Madvise.noHugePage);
  }
  if (options.mergeable) madvise(address, size, Madvise.mergeable);
  if (options.prefault) prefault(address, size);
}

/** A kernel without transparent huge pages refuses the advice; the guest runs all the same. */
function tryAdvice(address: number, size: number, advice: number): void {
  try {
    madvise(address, size, advice);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
  }
}

function prefault(address: number, size: number): void {
  madvise(address, Math.ceil(size / pageBytes) * pageBytes, Madvise.populateWrite);
}

function explain(error: unknown, options: BackingOptions): Error {
  if (!(error instanceof SystemError)) return error as Error;
  const what = options.file ?? `${options.size / 1024 / 1024} MiB`;
  const fix = options.hugepages
    ? "reserve huge pages (sysctl vm.nr_hugepages) or drop hugepages=on"
    : options.file !== undefined
      ? "name a directory or file that this user may write"
      : "ask for less, or free memory";
  return new ConfigError(`--memory: cannot map ${what}: ${error.reason}; ${fix}`, "--memory");
}
