/**
 * Persistent memory as its driver sees it (virtio 1.2 section 5.19; linux/virtio_pmem.h): where in guest-physical
 * memory it lies, and one queue of flush requests. Not offered: VIRTIO_PMEM_F_SHMEM_REGION.
 */
import { addr, struct, u32 } from "../../ffi/struct.ts";

/** A persistent memory device, as plain data. Start and size in bytes. */
export interface PmemSpec {
  /** The file behind it, for the flush. */
  readonly fd: number;
  /** Guest-physical. */
  readonly start: number;
  readonly size: number;
  readonly hostAddress: number;
  /** What the guest writes never reaches the file: there is nothing to flush. */
  readonly discard: boolean;
  /** Use io_uring where the host has it. */
  readonly uring: boolean;
}

export const pmemQueueSize = 128;

export const VirtioPmemConfig = struct("virtio_pmem_config", 16, { start: addr, size: addr });

/** struct virtio_pmem_req and struct virtio_pmem_resp. */
export const VirtioPmemReq = struct("virtio_pmem_req", 4, { type: u32 });
export const VirtioPmemResp = struct("virtio_pmem_resp", 4, { ret: u32 });
export const VIRTIO_PMEM_REQ_TYPE_FLUSH = 0;
/** What a response says (section 5.19.7): done, or -1. */
export const PmemReturn = { success: 0, failure: 0xffff_ffff } as const;

export function pmemConfig({ start, size }: PmemSpec): Uint8Array {
  const config = new VirtioPmemConfig();
  config.start = start;
  config.size = size;
  return new Uint8Array(config.view.buffer);
}

/** What the backend has done, by place in its counters. */
export const PmemCounters = ["flush_ops", "errors"] as const;
