/** Opens persistent memory: its file, size, lock and mapping; and says what virtio device it is. */
import { existsSync, fstatSync, statSync } from "node:fs";
import { type PmemSpec, pmemConfig, pmemQueueSize } from "../../devices/virtio/pmem-config.ts";
import { DeviceType, Feature } from "../../devices/virtio/registers.ts";
import { ConfigError } from "../../exit-codes.ts";
import { deviceBytes } from "../../ffi/block-device.ts";
import { Open, open, truncate } from "../../ffi/file.ts";
import { claimFile } from "../../ffi/file-lock.ts";
import { SystemError } from "../../ffi/libc.ts";
import { Madvise, MapFlag, madvise, munmap } from "../../ffi/memory.ts";
import type { VmConfig } from "../config/vm.ts";
import type { Owned } from "../owned.ts";
import { mapAligned, openTemporary } from "../ram-backing.ts";
import type { PersistentPlaces } from "./persistent.ts";
import type { VirtioDevice } from "./spec.ts";

type PmemConfig = NonNullable<VmConfig["pmem"]>[number];
type Fail = (why: string) => ConfigError;

/** What Linux's nd_pmem and DAX want size and place to be a multiple of. */
const granule = 2 ** 21;

/** What it opened is `owned`. Throws ConfigError naming the file. */
export function openPmem(
  config: PmemConfig,
  index: number,
  places: PersistentPlaces,
  owned: Owned,
): VirtioDevice {
  const { file, discard_writes: discard, mergeable } = config;
  const label = `--pmem ${file}`;
  const fail: Fail = (why) => new ConfigError(`${label}: ${why}`, "--pmem");
  if (mergeable && !discard) {
    throw fail("mergeable=on is for private pages; add discard_writes=on, or leave it out");
  }
  try {
    const { fd, size } = openBehind(config, owned, fail);
    const start = places.take(size);
    if (start === undefined) {
      throw fail("does not fit the physical address bits; raise --cpus max_phys_bits=");
    }
    const flags = discard ? MapFlag.private | MapFlag.noReserve : MapFlag.shared;
    const hostAddress = mapAligned(size, flags, fd);
    owned.add(() => munmap(hostAddress, size));
    madvise(hostAddress, size, Madvise.dontDump);
    if (mergeable) merge(hostAddress, size, fail);
    const spec: PmemSpec = { fd, start, size, hostAddress, discard, uring: true };
    return describe(config.id ?? `_pmem${index}`, label, spec);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const access = discard ? "read" : "write";
    throw fail(`${error.reason}; name a file or folder that chv may ${access}`);
  }
}

function describe(id: string, label: string, spec: PmemSpec): VirtioDevice {
  const config = pmemConfig(spec);
  return {
    id,
    label,
    identity: {
      type: DeviceType.pmem,
      featuresLow: 2 ** Feature.RING_INDIRECT_DESC + 2 ** Feature.RING_EVENT_IDX,
      featuresHigh: 2 ** (Feature.VERSION_1 - 32),
      queueSizes: [pmemQueueSize],
    },
    config,
    writable: new Uint8Array(config.length),
    backend: { kind: "pmem", spec },
    usesChores: true,
  };
}

/** The file behind it, and how much of it is mapped. */
function openBehind(
  { file, size, discard_writes: discard }: PmemConfig,
  owned: Owned,
  fail: Fail,
): { fd: number; size: number } {
  if (size !== undefined && (size === 0 || size % granule !== 0))
    throw fail(notWhole("size", size));
  if (existsSync(file) && statSync(file).isDirectory()) {
    if (size === undefined) throw fail("size= is missing, and a folder has none; add it");
    const fd = owned.fd(openTemporary(file, "chv-pmem"));
    truncate(fd, size);
    return { fd, size };
  }
  const access = discard ? Open.readOnly : Open.readWrite;
  const fd = owned.fd(open(file, access | Open.nonBlock));
  const status = fstatSync(fd);
  if (!status.isFile() && !status.isBlockDevice()) {
    throw fail("neither a file nor a folder; name one");
  }
  const taken = claimFile(fd, file, discard ? "read" : "write");
  if (taken) throw fail(taken);
  const bytes = status.isFile() ? status.size : deviceBytes(fd);
  if (size === undefined && (bytes === 0 || bytes % granule !== 0)) {
    throw fail(notWhole("the file's size", bytes));
  }
  if (size !== undefined && size > bytes) {
    throw fail(`size=${size} is above the file's ${bytes}; extend the file, or ask for less`);
  }
  return { fd, size: size ?? bytes };
}

const notWhole = (what: string, bytes: number): string =>
  `${what} of ${bytes} bytes is not a whole number of 2M; round it`;

/** Lets the host merge equal pages, of those that the guest has written to. */
function merge(hostAddress: number, size: number, fail: Fail): void {
  try {
    madvise(hostAddress, size, Madvise.mergeable);
  } catch (error) {
    if (!(error instanceof SystemError && error.code === "EINVAL")) throw error;
    throw fail("mergeable=on: this host's kernel has no KSM; leave it out");
  }
}
