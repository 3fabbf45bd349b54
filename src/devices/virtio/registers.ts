/** Numbers of virtio 1.2 (linux/virtio_config.h, virtio_ids.h, virtio_pci.h, virtio_ring.h). */

/** Device status (virtio 1.2 section 2.1). */
export const Status = {
  ACKNOWLEDGE: 1,
  DRIVER: 2,
  DRIVER_OK: 4,
  FEATURES_OK: 8,
  NEEDS_RESET: 64,
  FAILED: 128,
} as const;

/** Feature bits of every device, by number (section 6). */
export const Feature = {
  RING_INDIRECT_DESC: 28,
  RING_EVENT_IDX: 29,
  VERSION_1: 32,
  ACCESS_PLATFORM: 33,
} as const;

export const DeviceType = {
  net: 1,
  block: 2,
  console: 3,
  entropy: 4,
  balloon: 5,
  pmem: 27,
} as const;

/** ISR status (section 4.1.4.5). */
export const Isr = { queue: 1, config: 2 } as const;

/** The value of a vector register that names no vector (section 4.1.5.1.2). */
export const noVector = 0xffff;

/** Most queues of a device (a console of 8 ports), and most entries of a queue here. */
export const maxQueues = 18;
export const maxQueueSize = 32768;
