/**
 * The memory balloon as its driver sees it (virtio 1.2 section 5.5; linux/virtio_balloon.h): what it is given, the
 * features that follow from that, and its configuration space.
 *
 * Not offered: statistics and free page hints, which nothing here asks for; MUST_TELL_HOST, for a page that is used
 * again is there again without a word; PAGE_POISON.
 */
import { struct, u32 } from "../../ffi/struct.ts";

/** A balloon, as plain data. */
export interface BalloonSpec {
  /** Bytes that the host takes back at once: a page of what RAM is made of, 4 KiB or 2 MiB. */
  readonly granule: number;
  /** RAM is a shared mapping: pages are taken from the file behind it (MADV_REMOVE), not from this process alone. */
  readonly shared: boolean;
  readonly deflateOnOom: boolean;
  readonly reporting: boolean;
}

/** VIRTIO_BALLOON_F_…, by number. */
export const BalloonFeature = { DEFLATE_ON_OOM: 2, REPORTING: 5 } as const;

/** VIRTIO_BALLOON_PFN_SHIFT: a page of the balloon, whatever the guest's own are. */
export const balloonPageBytes = 4096;

/** struct virtio_balloon_config, as far as it is there without free page hints and page poison. */
export const VirtioBalloonConfig = struct("virtio_balloon_config", 8, {
  num_pages: u32,
  actual: u32,
});

export const balloonQueueSize = 128;
/**
 * Inflate, deflate; then those that a device with all features has (section 5.5.2): statistics, free page hints,
 * reporting. Which of them a driver takes for reporting where the others are not offered is not agreed upon: Linux the
 * next one, number 2, the specification number 4. So each of them is one.
 */
export const balloonQueues = ({ reporting }: BalloonSpec): number => (reporting ? 5 : 2);

/** The device's own feature bits. */
export function balloonFeatures({ deflateOnOom, reporting }: BalloonSpec): number {
  let bits = 0;
  if (deflateOnOom) bits += 2 ** BalloonFeature.DEFLATE_ON_OOM;
  if (reporting) bits += 2 ** BalloonFeature.REPORTING;
  return bits;
}

/** Configuration space that asks for `bytes` of the guest's RAM. */
export function balloonConfig(bytes: number): Uint8Array {
  const config = new VirtioBalloonConfig();
  config.num_pages = Math.floor(bytes / balloonPageBytes);
  return new Uint8Array(config.view.buffer);
}

/** Which bytes of it the driver may write (1): `actual`. */
export function balloonWritable(): Uint8Array {
  return new Uint8Array(VirtioBalloonConfig.size).fill(1, VirtioBalloonConfig.offsets.actual);
}

/** What the backend has done, by place in its counters. `returned_bytes` is what was given to the host of all that. */
export const BalloonCounters = [
  ...["inflate_ops", "inflate_bytes", "deflate_ops", "deflate_bytes"],
  ...["report_ops", "report_bytes", "returned_bytes", "errors"],
] as const;
