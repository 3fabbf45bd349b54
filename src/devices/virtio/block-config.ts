/**
 * The block device as its driver sees it (virtio 1.2 section 5.2; linux/virtio_blk.h): what it is given, the features
 * that follow from that, and its configuration space.
 */

import { addr, struct, u8, u16, u32 } from "../../ffi/struct.ts";
import type { Qcow2Spec } from "../images/qcow2/spec.ts";
import type { RateLimiterSpec } from "./rate-limiter.ts";

/** A disk, as plain data. */
export interface BlockSpec {
  /** The open image; with `direct` it was opened with O_DIRECT. */
  readonly fd: number;
  /** Capacity in units of 512 bytes, as it is at first: configuration space has what it grows to. */
  readonly sectors: number;
  readonly readonly: boolean;
  readonly direct: boolean;
  /** What GET_ID answers; its first 20 bytes. */
  readonly serial: string;
  readonly queues: number;
  /** The most entries of a queue. */
  readonly queueSize: number;
  /** Writes may stay in the host's page cache until a flush; the driver can change that. */
  readonly writeback: boolean;
  /** Bytes of a logical block, and of what the host reads and writes at once: powers of two from 512 up. */
  readonly blockSize: number;
  readonly physicalBlockSize: number;
  /** The image can give room back (see `canPunch`). */
  readonly discard: boolean;
  /** Use io_uring where the host has it. */
  readonly uring: boolean;
  /** A raw image whose format was probed: the guest must not turn it into another (see sector-guard.ts). */
  readonly guarded?: boolean;
  readonly limits?: RateLimiterSpec | undefined;
  /** The image is a qcow2 one, and this is what is in it. */
  readonly qcow2?: Qcow2Spec | undefined;
  /** What a DISCARD gives back at once, a power of two; `physicalBlockSize` where it does not say. */
  readonly discardBlockSize?: number;
}

export const sectorBytes = 512;
/** VIRTIO_BLK_ID_BYTES. */
export const idBytes = 20;

/** VIRTIO_BLK_F_…, by number. */
export const BlockFeature = {
  SEG_MAX: 2,
  RO: 5,
  BLK_SIZE: 6,
  FLUSH: 9,
  TOPOLOGY: 10,
  CONFIG_WCE: 11,
  MQ: 12,
  DISCARD: 13,
  WRITE_ZEROES: 14,
} as const;

/** VIRTIO_BLK_T_…, VIRTIO_BLK_S_…, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP. */
export const BlockRequest = {
  IN: 0,
  OUT: 1,
  FLUSH: 4,
  GET_ID: 8,
  DISCARD: 11,
  WRITE_ZEROES: 13,
} as const;
export const BlockStatus = { OK: 0, IOERR: 1, UNSUPP: 2 } as const;
export const unmapFlag = 1;

/** struct virtio_blk_outhdr, and struct virtio_blk_discard_write_zeroes behind it. */
export const VirtioBlkOuthdr = struct("virtio_blk_outhdr", 16, {
  type: u32,
  ioprio: u32,
  sector: addr,
});
export const VirtioBlkDiscardWriteZeroes = struct("virtio_blk_discard_write_zeroes", 16, {
  sector: addr,
  num_sectors: u32,
  flags: u32,
});

/** struct virtio_blk_config, up to where secure erase begins, which is not offered. */
export const VirtioBlkConfig = struct(
  "virtio_blk_config",
  60,
  {
    capacity: addr,
    size_max: u32,
    seg_max: u32,
    cylinders: u16,
    heads: u8,
    sectors: u8,
    blk_size: u32,
    physical_block_exp: u8,
    alignment_offset: u8,
    min_io_size: u16,
    opt_io_size: u32,
    wce: u8,
    unused: u8,
    num_queues: u16,
    max_discard_sectors: u32,
    max_discard_seg: u32,
    discard_sector_alignment: u32,
    max_write_zeroes_sectors: u32,
    max_write_zeroes_seg: u32,
    write_zeroes_may_unmap: u8,
    unused1_0: u8,
    unused1_1: u8,
    unused1_2: u8,
  },
  { packed: true },
);

/** The longest range of one DISCARD or WRITE_ZEROES request: just under 2 GiB. */
export const maxRangeSectors = 2 ** 22 - 1;
const maxDepth = 256;

/** Requests of one queue that are in hand at the same time. */
export const queueDepth = (queueSize: number): number => Math.min(queueSize, maxDepth);
/** Most pieces of memory of one request: a chain has two descriptors besides. */
export const segMax = (queueSize: number): number => Math.max(queueDepth(queueSize) - 2, 1);

/** The device's own feature bits, 0 to 23. */
export function blockFeatures(spec: BlockSpec): number {
  const { SEG_MAX, RO, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, MQ, DISCARD, WRITE_ZEROES } =
    BlockFeature;
  const bits: number[] = [SEG_MAX, BLK_SIZE, FLUSH, TOPOLOGY];
  if (spec.queues > 1) bits.push(MQ);
  if (spec.readonly) bits.push(RO);
  else bits.push(CONFIG_WCE, WRITE_ZEROES);
  if (!spec.readonly && spec.discard) bits.push(DISCARD);
  return bits.reduce((sum, bit) => sum + 2 ** bit, 0);
}

/** Configuration space after a reset. */
export function blockConfig(spec: BlockSpec): Uint8Array {
  const config = new VirtioBlkConfig();
  config.capacity = spec.sectors;
  config.seg_max = segMax(spec.queueSize);
  config.blk_size = spec.blockSize;
  const blocks = Math.max(spec.physicalBlockSize / spec.blockSize, 1);
  config.physical_block_exp = Math.log2(blocks);
  config.min_io_size = blocks;
  config.num_queues = spec.queues;
  if (!spec.readonly) {
    config.wce = spec.writeback ? 1 : 0;
    config.max_write_zeroes_sectors = maxRangeSectors;
    config.max_write_zeroes_seg = 1;
    config.write_zeroes_may_unmap = spec.discard ? 1 : 0;
    if (spec.discard) {
      config.max_discard_sectors = maxRangeSectors;
      config.max_discard_seg = 1;
      const discards = spec.discardBlockSize ?? blocks * spec.blockSize;
      config.discard_sector_alignment = discards / sectorBytes;
    }
  }
  return new Uint8Array(config.view.buffer);
}

/**
 * Sets the capacity, in sectors, to a larger one. Byte by byte from the lowest on: who reads meanwhile sees a number
 * that is never above it.
 */
export function growCapacity(config: Uint8Array, sectors: number): void {
  const bytes = new VirtioBlkConfig();
  bytes.capacity = sectors;
  for (let at = 0; at < capacityBytes; at++) Atomics.store(config, at, bytes.view.getUint8(at));
}

/** The capacity in sectors, from configuration space in shared memory. */
export function readCapacity(config: Uint8Array): number {
  let sectors = 0;
  for (let at = capacityBytes - 1; at >= 0; at--)
    sectors = sectors * 256 + Atomics.load(config, at);
  return sectors;
}

const capacityBytes = 8; // at the start

/** Which bytes of configuration space the driver may write (1): the write cache's switch. */
export function blockConfigWritable(spec: BlockSpec): Uint8Array {
  const writable = new Uint8Array(VirtioBlkConfig.size);
  if (!spec.readonly) writable[VirtioBlkConfig.offsets.wce] = 1;
  return writable;
}

/** What a backend has done: places in its counters. */
export const BlockCounter = {
  read_ops: 0,
  read_bytes: 1,
  write_ops: 2,
  write_bytes: 3,
  flush_ops: 4,
  discard_ops: 5,
  write_zeroes_ops: 6,
  errors: 7,
} as const;
export const blockCounters = Object.keys(BlockCounter).length;
