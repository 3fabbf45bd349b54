/** io_uring's ABI: structs and numbers of <linux/io_uring.h>, names verbatim. */
import { addr, array, i32, struct, u8, u16, u32 } from "./struct.ts";

export const IORING_SETUP_CLAMP = 0x10;
export const IORING_SETUP_SUBMIT_ALL = 0x80;
export const IORING_SETUP_COOP_TASKRUN = 0x100;
export const IORING_SETUP_TASKRUN_FLAG = 0x200;

export const IORING_SQ_CQ_OVERFLOW = 0x2;
export const IORING_SQ_TASKRUN = 0x4;

export const IORING_FEAT_SINGLE_MMAP = 0x1;
export const IORING_FEAT_NODROP = 0x2;
export const IORING_FEAT_SUBMIT_STABLE = 0x4;

export const IORING_OFF_SQ_RING = 0;
export const IORING_OFF_SQES = 0x10000000;

export const IORING_ENTER_GETEVENTS = 1;
export const IORING_REGISTER_PROBE = 8;
export const IO_URING_OP_SUPPORTED = 1;

export const IOSQE_ASYNC_BIT = 4;

export const IORING_OP_READV = 1;
export const IORING_OP_WRITEV = 2;
export const IORING_OP_FSYNC = 3;
export const IORING_OP_FALLOCATE = 17;
export const IORING_OP_READ = 22;
export const IORING_OP_WRITE = 23;
export const IORING_FSYNC_DATASYNC = 1;

export const IoSqringOffsets = struct("io_sqring_offsets", 40, {
  head: u32,
  tail: u32,
  ring_mask: u32,
  ring_entries: u32,
  flags: u32,
  dropped: u32,
  array: u32,
  resv1: u32,
  resv2: addr,
});

export const IoCqringOffsets = struct("io_cqring_offsets", 40, {
  head: u32,
  tail: u32,
  ring_mask: u32,
  ring_entries: u32,
  overflow: u32,
  cqes: u32,
  flags: u32,
  resv1: u32,
  resv2: addr,
});

/** `sq_off` and `cq_off`, which follow, are the two structs above. */
export const IoUringParams = struct("io_uring_params", 120, {
  sq_entries: u32,
  cq_entries: u32,
  flags: u32,
  sq_thread_cpu: u32,
  sq_thread_idle: u32,
  features: u32,
  wq_fd: u32,
  resv: array(u32, 3),
  sq_off: array(addr, 5),
  cq_off: array(addr, 5),
});

export const IoUringSqe = struct("io_uring_sqe", 64, {
  opcode: u8,
  flags: u8,
  ioprio: u16,
  fd: i32,
  off: addr,
  addr,
  len: u32,
  rw_flags: u32,
  user_data: addr,
  buf_index: u16,
  personality: u16,
  file_index: u32,
  addr3: addr,
  __pad2: addr,
});

export const IoUringCqe = struct("io_uring_cqe", 16, { user_data: addr, res: i32, flags: u32 });

export const IoUringProbe = struct("io_uring_probe", 16, {
  last_op: u8,
  ops_len: u8,
  resv: u16,
  resv2: array(u32, 3),
});

export const IoUringProbeOp = struct("io_uring_probe_op", 8, {
  op: u8,
  resv: u8,
  flags: u16,
  resv2: u32,
});

/** struct iovec of <sys/uio.h>. */
export const Iovec = struct("iovec", 16, { iov_base: addr, iov_len: addr });
