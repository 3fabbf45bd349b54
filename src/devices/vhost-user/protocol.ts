/**
 * The numbers and structs of the vhost-user protocol, names verbatim (QEMU, docs/interop/vhost-user.rst; vhost_vring_…
 * of linux/vhost_types.h). All of it is little-endian, as x86-64 is.
 */
import { addr, array, bytes, struct, u8, u16, u32, u64 } from "../../ffi/struct.ts";

/** What the front end asks, by number. */
export const Request = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SET_BACKEND_REQ_FD: 21,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  GET_INFLIGHT_FD: 31,
  SET_INFLIGHT_FD: 32,
  RESET_DEVICE: 34,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
} as const;

/** What the back end tells on its own channel, by number. */
export const BackendRequest = { CONFIG_CHANGE_MSG: 2 } as const;

/** VHOST_USER_F_PROTOCOL_FEATURES, a feature bit that no device has. */
export const protocolFeaturesBit = 30;

/** VHOST_USER_PROTOCOL_F_…, by number. */
export const ProtocolFeature = {
  MQ: 0,
  REPLY_ACK: 3,
  BACKEND_REQ: 5,
  CONFIG: 9,
  INFLIGHT_SHMFD: 12,
  RESET_DEVICE: 13,
  CONFIGURE_MEM_SLOTS: 15,
} as const;

export const Header = struct("vhost-user header", 12, { request: u32, flags: u32, size: u32 });
export const headerVersion = 1;
export const versionMask = 3;
export const replyFlag = 4;
export const needReplyFlag = 8;

/** What a payload is. */
export const U64 = struct("u64", 8, { value: u64 });
export const VringState = struct("vhost_vring_state", 8, { index: u32, num: u32 });
export const VringAddr = struct("vhost_vring_addr", 40, {
  index: u32,
  flags: u32,
  desc_user_addr: addr,
  used_user_addr: addr,
  avail_user_addr: addr,
  log_guest_addr: addr,
});
export const MemoryRegion = struct("vhost-user memory region", 32, {
  guest_phys_addr: addr,
  memory_size: addr,
  userspace_addr: addr,
  mmap_offset: addr,
});
/** The regions follow. */
export const Memory = struct("vhost-user memory", 8, { nregions: u32, padding: u32 });
/** One region follows. */
export const SingleMemoryRegion = struct("vhost-user single region", 8, { padding: array(u8, 8) });
/** The bytes of configuration space follow. */
export const ConfigSpace = struct("vhost-user config", 12, { offset: u32, size: u32, flags: u32 });
/** With the padding that C adds; a payload may come without it. */
export const Inflight = struct("vhost-user inflight", 24, {
  mmap_size: addr,
  mmap_offset: addr,
  num_queues: u16,
  queue_size: u16,
});

/** Bits 0 to 7 of the number in SET_VRING_KICK, _CALL and _ERR are the queue, bit 8 says that no descriptor comes. */
export const vringIndexMask = 0xff;
export const vringNoFd = 0x100;
/** VHOST_VRING_F_LOG. */
export const vringLogFlag = 1;

/** The area for requests in flight, split layout: one region for each queue. */
export const QueueRegionSplit = struct("QueueRegionSplit", 16, {
  features: u64,
  version: u16,
  desc_num: u16,
  last_batch_head: u16,
  used_idx: u16,
});
export const DescStateSplit = struct("DescStateSplit", 16, {
  inflight: u8,
  padding: bytes(5),
  next: u16,
  counter: u64,
});

/** VHOST_MEMORY_BASELINE_NREGIONS: regions, and descriptors, of one SET_MEM_TABLE. */
export const maxTableRegions = 8;
/** The longest configuration space. */
export const maxConfigBytes = 256;
