/** linux/vhost.h, vhost_types.h: virtqueues that the kernel serves. Addresses in `user` fields are this process's. */
import { io, ior, iow, iowr } from "./ioctl.ts";
import { addr, i32, struct, u32, u64 } from "./struct.ts";

const VHOST_VIRTIO = 0xaf;

const features = { size: 8 };
export const VhostMemory = struct(
  "vhost_memory",
  8,
  { nregions: u32, padding: u32 },
  { align: 8 }, // its regions follow
);
export const VhostMemoryRegion = struct("vhost_memory_region", 32, {
  guest_phys_addr: addr,
  memory_size: addr,
  userspace_addr: addr,
  flags_padding: u64,
});
export const VhostVringState = struct("vhost_vring_state", 8, { index: u32, num: u32 });
export const VhostVringFile = struct("vhost_vring_file", 8, { index: u32, fd: i32 });
export const VhostVringAddr = struct("vhost_vring_addr", 40, {
  index: u32,
  flags: u32,
  desc_user_addr: addr,
  used_user_addr: addr,
  avail_user_addr: addr,
  log_guest_addr: addr,
});

export const VHOST_GET_FEATURES = ior("VHOST_GET_FEATURES", VHOST_VIRTIO, 0x00, features);
export const VHOST_SET_FEATURES = iow("VHOST_SET_FEATURES", VHOST_VIRTIO, 0x00, features);
export const VHOST_SET_OWNER = io("VHOST_SET_OWNER", VHOST_VIRTIO, 0x01);
export const VHOST_SET_MEM_TABLE = iow("VHOST_SET_MEM_TABLE", VHOST_VIRTIO, 0x03, VhostMemory);
export const VHOST_SET_VRING_NUM = iow("VHOST_SET_VRING_NUM", VHOST_VIRTIO, 0x10, VhostVringState);
export const VHOST_SET_VRING_ADDR = iow("VHOST_SET_VRING_ADDR", VHOST_VIRTIO, 0x11, VhostVringAddr);
export const VHOST_SET_VRING_BASE = iow(
  "VHOST_SET_VRING_BASE",
  VHOST_VIRTIO,
  0x12,
  VhostVringState,
);
export const VHOST_GET_VRING_BASE = iowr(
  "VHOST_GET_VRING_BASE",
  VHOST_VIRTIO,
  0x12,
  VhostVringState,
);
export const VHOST_SET_VRING_KICK = iow("VHOST_SET_VRING_KICK", VHOST_VIRTIO, 0x20, VhostVringFile);
export const VHOST_SET_VRING_CALL = iow("VHOST_SET_VRING_CALL", VHOST_VIRTIO, 0x21, VhostVringFile);
export const VHOST_SET_VRING_ERR = iow("VHOST_SET_VRING_ERR", VHOST_VIRTIO, 0x22, VhostVringFile);
export const VHOST_NET_SET_BACKEND = iow(
  "VHOST_NET_SET_BACKEND",
  VHOST_VIRTIO,
  0x30,
  VhostVringFile,
);
