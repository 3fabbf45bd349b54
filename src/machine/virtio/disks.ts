/** Opens the disks of a configuration: image, lock, size; and says what virtio devices they are. */
import { fstatSync } from "node:fs";
import { ImageError } from "../../devices/images/image-error.ts";
import {
  type BlockSpec,
  blockConfig,
  blockConfigWritable,
  blockFeatures,
  sectorBytes,
} from "../../devices/virtio/block-config.ts";
import { DeviceType, Feature, maxQueueSize, maxQueues } from "../../devices/virtio/registers.ts";
import { ConfigError } from "../../exit-codes.ts";
import { deviceBytes } from "../../ffi/block-device.ts";
import { Open, open } from "../../ffi/file.ts";
import { claimFile } from "../../ffi/file-lock.ts";
import { SystemError } from "../../ffi/libc.ts";
import type { VmConfig } from "../config/vm.ts";
import type { Owned } from "../owned.ts";
import { type DiskContent, openContent } from "./disk-images.ts";
import { limitsOf } from "./limits.ts";
import type { VirtioDevice } from "./spec.ts";

type DiskConfig = NonNullable<VmConfig["disks"]>[number];

const O_DIRECT = 0o40000;
const directBlockBytes = 4096;

/** Opens a disk; what it opened is `owned`. Throws ConfigError naming the disk; then nothing is left open. */
export function openDisk(config: DiskConfig, index: number, owned: Owned): VirtioDevice {
  const { path, readonly, direct, num_queues: queues, queue_size: size } = config;
  const fail = (why: string) => new ConfigError(`--disk ${path ?? ""}: ${why}`, "--disk");
  if (path === undefined) throw fail("path= is missing; add it");
  if (queues > maxQueues) throw fail(`num_queues=${queues} is above ${maxQueues}; lower it`);
  if (size > maxQueueSize || (size & (size - 1)) !== 0) {
    throw fail(`queue_size=${size} is not a power of two up to ${maxQueueSize}; choose one`);
  }
  let fd: number;
  try {
    const access = readonly ? Open.readOnly : Open.readWrite;
    fd = open(path, access | Open.nonBlock | (direct ? O_DIRECT : 0));
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw fail(`${error.reason}; name an image that chv may ${readonly ? "read" : "write"}`);
  }
  owned.fd(fd);
  return describe(config, index, fd, path, owned, fail);
}

function describe(
  config: DiskConfig,
  index: number,
  fd: number,
  path: string,
  owned: Owned,
  fail: (why: string) => ConfigError,
): VirtioDevice {
  const status = fstatSync(fd);
  if (!status.isFile() && !status.isBlockDevice()) {
    throw fail("neither a file nor a block device; name an image");
  }
  const taken = claimFile(fd, path, config.readonly ? "read" : "write");
  if (taken) throw fail(taken);
  const fileBytes = status.isFile() ? status.size : deviceBytes(fd);
  const { bytes, ...content } = contentOf(fd, path, fileBytes, config, owned, fail);
  checkIoThreads(config, content.qcow2 !== undefined, fail);
  if (bytes < sectorBytes) throw fail("smaller than one sector of 512 bytes; name an image");

  const blockSize = config.direct ? directBlockBytes : sectorBytes;
  if (config.direct && bytes % directBlockBytes !== 0) {
    throw fail("direct=on needs a size in whole blocks of 4096 bytes; extend it");
  }
  const spec: BlockSpec = {
    ...{ fd, sectors: Math.floor(bytes / sectorBytes), readonly: config.readonly },
    ...{ direct: config.direct, serial: config.serial ?? config.id ?? `_disk${index}` },
    ...{ queues: config.num_queues, queueSize: config.queue_size, writeback: config.wce },
    ...{ blockSize, physicalBlockSize: Math.max(blockSize, status.blksize) },
    ...{ ...content, uring: true, limits: limitsOf(config.rate_limiter_config) },
  };
  return {
    id: config.id ?? `_disk${index}`,
    label: `--disk ${path}`,
    identity: {
      type: DeviceType.block,
      featuresLow:
        blockFeatures(spec) + 2 ** Feature.RING_INDIRECT_DESC + 2 ** Feature.RING_EVENT_IDX,
      featuresHigh: 2 ** (Feature.VERSION_1 - 32),
      queueSizes: new Array<number>(spec.queues).fill(spec.queueSize),
    },
    config: blockConfig(spec),
    writable: blockConfigWritable(spec),
    backend: { kind: "block", spec },
    usesChores: true,
    ioThreads: config.io_threads,
  };
}

/** Each worker has its own buckets and its own view of the image: what must be one for all queues needs one worker. */
function checkIoThreads(
  config: DiskConfig,
  qcow2: boolean,
  fail: (why: string) => ConfigError,
): void {
  const { io_threads: threads, num_queues: queues } = config;
  if (threads > queues) {
    throw fail(`io_threads=${threads} is above num_queues=${queues}; raise num_queues`);
  }
  const limited = limitsOf(config.rate_limiter_config) !== undefined;
  const other = limited ? "bw_ and ops_ limits" : qcow2 ? "a qcow2 image" : undefined;
  if (threads > 1 && other !== undefined) {
    throw fail(`io_threads=${threads} and ${other} exclude each other; lower it to 1`);
  }
}

function contentOf(
  fd: number,
  path: string,
  fileBytes: number,
  config: DiskConfig,
  owned: Owned,
  fail: (why: string) => ConfigError,
): DiskContent {
  try {
    return openContent(fd, path, fileBytes, config, owned);
  } catch (error) {
    throw error instanceof ImageError ? fail(error.message) : error;
  }
}
