/**
 * What lies behind guest RAM: private anonymous memory by default, a memfd when it is to be shared, a file when one is
 * named. One mapping for all of it; the owner closes it.
 */
import { ConfigError } from "../exit-codes.ts";
import { close, Open, open, truncate, unlink } from "../ffi/file.ts";
import { statusAt } from "../ffi/file-status.ts";
import { SystemError } from "../ffi/libc.ts";
import { Madvise, MapFlag, madvise, memfd, mmap, munmap, Prot } from "../ffi/memory.ts";

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
  const { size, file, shared } = options;
  let fd = -1;
  let address = 0;
  const release = () => {
    if (address > 0) munmap(address, size);
    if (fd >= 0) close(fd);
  };
  try {
    fd = openBacking(options);
    if (fd >= 0) truncate(fd, size);
    address = mapAligned(size, flagsOf(options, fd), fd);
    advise(options, address);
  } catch (error) {
    release();
    throw explain(error, options);
  }
  const kind = file !== undefined ? "file" : shared ? "memfd" : "anonymous";
  return { kind, address, fd, close: release };
}

/** The descriptor of what is to be mapped; -1 for anonymous memory. */
function openBacking({ file, shared, hugepages }: BackingOptions): number {
  if (file !== undefined) return openFile(file);
  return shared ? memfd("chv-ram", hugepages) : -1;
}

/** A directory gets an unlinked file; a file is opened, and made if it is not there. */
function openFile(path: string): number {
  if (statusAt(path)?.kind !== "folder") return open(path, Open.readWrite | Open.create, 0o600);
  return openTemporary(path, "chv-ram");
}

/** A file without a name in a folder; `name` shows for a moment where the file system has no O_TMPFILE. */
export function openTemporary(folder: string, name: string): number {
  try {
    return open(folder, Open.readWrite | Open.temporary, 0o600);
  } catch (error) {
    if (!(error instanceof SystemError && error.code === "EOPNOTSUPP")) throw error;
    return openUnlinked(`${folder}/${name}-${process.pid}`);
  }
}

/** For file systems without O_TMPFILE. */
function openUnlinked(path: string): number {
  const fd = open(path, Open.readWrite | Open.create | Open.exclusive, 0o600);
  try {
    unlink(path);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

function flagsOf({ shared, hugepages }: BackingOptions, fd: number): number {
  let flags = shared ? MapFlag.shared : MapFlag.private;
  if (fd < 0) flags |= MapFlag.anonymous;
  // huge pages (a file may have them too) are set aside here and now, or the first touch of one that is not there
  // would be a SIGBUS
  if (fd < 0) flags |= hugepages ? MapFlag.hugeTlb : MapFlag.noReserve;
  return flags;
}

/**
 * Maps `size` bytes to read and write, aligned to 2 MiB: over-maps by one huge page and trims, so that transparent huge
 * pages fit. Throws SystemError.
 */
export function mapAligned(size: number, flags: number, fd: number): number {
  const slack = mmap(
    0,
    size + hugePageBytes,
    Prot.none,
    MapFlag.private | MapFlag.anonymous | MapFlag.noReserve,
  );
  const address = Math.ceil(slack / hugePageBytes) * hugePageBytes;
  if (address > slack) munmap(slack, address - slack);
  const tail = slack + hugePageBytes - address;
  if (tail > 0) munmap(address + size, tail);
  try {
    return mmap(address, size, Prot.read | Prot.write, flags | MapFlag.fixed, fd, 0);
  } catch (error) {
    munmap(address, size);
    throw error;
  }
}

function advise(options: BackingOptions, address: number): void {
  const { size } = options;
  const give = (advice: number) => madvise(address, size, advice);
  give(Madvise.dontDump);
  if (options.file === undefined && !options.hugepages) {
    // A kernel without transparent huge pages refuses; the guest runs all the same. Of the first one a start touches
    // some ten small pages: zeroing all of it takes 0.5 to 3 ms.
    ifKnown(() => give(Madvise.noHugePage));
    const rest = size - hugePageBytes;
    if (options.thp && rest > 0) {
      ifKnown(() => madvise(address + hugePageBytes, rest, Madvise.hugePage));
    }
  }
  if (options.mergeable && !ifKnown(() => give(Madvise.mergeable))) {
    throw tooOld("mergeable=on", "KSM");
  }
  if (options.prefault && !ifKnown(() => give(Madvise.populateWrite))) {
    throw tooOld("prefault=on", "MADV_POPULATE_WRITE (Linux 5.14)");
  }
}

/** False when the kernel does not know the advice. */
function ifKnown(give: () => void): boolean {
  try {
    give();
    return true;
  } catch (error) {
    if (error instanceof SystemError && error.code === "EINVAL") return false;
    throw error;
  }
}

const tooOld = (key: string, what: string) =>
  new ConfigError(`--memory: ${key}: this host's kernel has no ${what}; leave it out`, "--memory");

function explain(error: unknown, options: BackingOptions): unknown {
  if (!(error instanceof SystemError)) return error;
  const what = options.file ?? `${options.size / 1024 / 1024} MiB`;
  const fix = options.hugepages
    ? "reserve huge pages (sysctl vm.nr_hugepages) or drop hugepages=on"
    : options.file !== undefined
      ? "name a directory or file that this user may write, with room for it"
      : "ask for less, or free memory";
  return new ConfigError(`--memory: cannot map ${what}: ${error.reason}; ${fix}`, "--memory");
}
