/**
 * io_uring(7) by its three system calls. The rings are mapped once; an entry is filled in place, so a request allocates
 * nothing. A ring belongs to the thread that opened it. Its descriptor is readable (epoll) while completions wait.
 */
import { allocate, Block, windowOn } from "./block.ts";
import { close } from "./file.ts";
import { RWF_DSYNC } from "./file-vector.ts";
import * as abi from "./io-uring-abi.ts";
import { Errno, errno, libc, SystemError } from "./libc.ts";
import { MapFlag, mmap, munmap, Prot } from "./memory.ts";

const SYS_io_uring_setup = 425;
const SYS_io_uring_enter = 426;
const SYS_io_uring_register = 427;

/** What the requests below need; all of Linux 5.6. */
const features =
  abi.IORING_FEAT_SINGLE_MMAP | abi.IORING_FEAT_NODROP | abi.IORING_FEAT_SUBMIT_STABLE;
const operations = [
  abi.IORING_OP_READV,
  abi.IORING_OP_WRITEV,
  abi.IORING_OP_FSYNC,
  abi.IORING_OP_FALLOCATE,
  abi.IORING_OP_READ,
  abi.IORING_OP_WRITE,
];
const highestOperation = Math.max(...operations);
/**
 * Ways to set a ring up, best first: what has ended is posted with the thread's next system call, not by an
 * interruption, and a flag says that there is something to post (Linux 5.19). IORING_SETUP_DEFER_TASKRUN would save
 * more, but leaves a thread asleep in epoll_wait (measured on Linux 6.18).
 */
const cooperative =
  abi.IORING_SETUP_COOP_TASKRUN | abi.IORING_SETUP_TASKRUN_FLAG | abi.IORING_SETUP_SUBMIT_ALL;
const setups = [cooperative, 0];
/** Flags of the submission queue: the kernel has completions to post, with the next io_uring_enter. */
const toPost = abi.IORING_SQ_TASKRUN | abi.IORING_SQ_CQ_OVERFLOW;

const word = (name: keyof typeof abi.IoUringSqe.offsets) => abi.IoUringSqe.offsets[name] / 4;
const sqeWords = abi.IoUringSqe.size / 4;
const [fdWord, offWord, addrWord, lenWord] = [word("fd"), word("off"), word("addr"), word("len")];
const [flagsWord, userDataWord] = [word("rw_flags"), word("user_data")];
const cqeWords = abi.IoUringCqe.size / 4;
const resultWord = abi.IoUringCqe.offsets.res / 4;
const highUnit = 0x1_0000_0000;
/** A whole number below 2^52 plus this is a double whose low 52 bits are that number. */
const mantissa = 2 ** 52;
const highMantissa = 0xfffff;
/** In an entry's first word: opcode, flags, ioprio. */
const asyncFlag = 1 << (abi.IOSQE_ASYNC_BIT + 8);
/** The kernel is out of memory for requests: how often it is asked again, a millisecond apart. */
const patience = 1000;

export class IoUring {
  readonly fd: number;
  /** Requests that may be queued and unanswered at the same time. */
  readonly entries: number;
  /** Of the completion that `next` moved to: the request's token, and its result (minus the errno). */
  token = 0;
  result = 0;
  readonly #ringAddress: number;
  readonly #ringBytes: number;
  readonly #sqesAddress: number;
  readonly #ring: Uint32Array;
  readonly #signedRing: Int32Array;
  readonly #sqes: Int32Array;
  /** The same bytes, to write 64-bit numbers. */
  readonly #doubles: Float64Array;
  readonly #sqHead: number;
  readonly #sqTail: number;
  readonly #sqFlags: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqMask: number;
  readonly #cqes: number;
  /** Entries written and handed over, completions there and taken, as far as this side has looked. */
  #tail = 0;
  #submitted = 0;
  #cqEnd = 0;
  #head = 0;

  /** A ring for at least `entries` requests, a power of two; or why the host gives none, in the error. */
  static open(entries: number): IoUring | SystemError {
    for (const flags of setups) {
      const params = allocate(abi.IoUringParams);
      params.fields.flags = flags | abi.IORING_SETUP_CLAMP;
      const fd = Number(libc.syscall(SYS_io_uring_setup, entries, params.address, 0, 0, 0, 0));
      if (fd < 0) {
        if (errno() === Errno.EINVAL) continue;
        return new SystemError("io_uring_setup");
      }
      const error = refusal(fd, entries, params.fields.sq_entries, params.fields.features);
      if (!error) return new IoUring(fd, params.view);
      close(fd);
      return error;
    }
    return new SystemError("io_uring_setup", Errno.EINVAL);
  }

  private constructor(fd: number, paramsView: DataView) {
    const params = new abi.IoUringParams(paramsView);
    const sq = new abi.IoSqringOffsets(paramsView, abi.IoUringParams.offsets.sq_off);
    const cq = new abi.IoCqringOffsets(paramsView, abi.IoUringParams.offsets.cq_off);
    this.fd = fd;
    this.entries = params.sq_entries;
    const sqBytes = sq.array + params.sq_entries * 4;
    const cqBytes = cq.cqes + params.cq_entries * abi.IoUringCqe.size;
    this.#ringBytes = Math.max(sqBytes, cqBytes);
    const sqesBytes = params.sq_entries * abi.IoUringSqe.size;
    const flags = MapFlag.shared | MapFlag.populate;
    const access = Prot.read | Prot.write;
    this.#ringAddress = mmap(0, this.#ringBytes, access, flags, fd, abi.IORING_OFF_SQ_RING);
    this.#sqesAddress = mmap(0, sqesBytes, access, flags, fd, abi.IORING_OFF_SQES);
    const ring = windowOn(this.#ringAddress, this.#ringBytes);
    this.#ring = new Uint32Array(ring);
    this.#signedRing = new Int32Array(ring);
    const sqes = windowOn(this.#sqesAddress, sqesBytes);
    this.#sqes = new Int32Array(sqes);
    this.#doubles = new Float64Array(sqes);
    this.#sqHead = sq.head / 4;
    this.#sqTail = sq.tail / 4;
    this.#sqFlags = sq.flags / 4;
    this.#cqHead = cq.head / 4;
    this.#cqTail = cq.tail / 4;
    this.#cqMask = params.cq_entries - 1;
    this.#cqes = cq.cqes / 4;
    // entry i of the ring is always request slot i
    for (let i = 0; i < params.sq_entries; i++) this.#ring[sq.array / 4 + i] = i;
  }

  /** Queues a transfer of one buffer of host memory. `token` is below 2^32; `flags` are RWF_ ones. */
  read(fd: number, address: number, length: number, offset: number, token: number): void {
    this.#queue(abi.IORING_OP_READ, fd, address, length, offset, 0, token);
  }
  write(
    fd: number,
    address: number,
    length: number,
    offset: number,
    flags: number,
    token: number,
  ): void {
    this.#queue(abi.IORING_OP_WRITE | elsewhere(flags), fd, address, length, offset, flags, token);
  }

  /** Queues a transfer of `count` iovecs at a host address, which the kernel has copied when `submit` returns. */
  readv(fd: number, iovecs: number, count: number, offset: number, token: number): void {
    this.#queue(abi.IORING_OP_READV, fd, iovecs, count, offset, 0, token);
  }
  writev(
    fd: number,
    iovecs: number,
    count: number,
    offset: number,
    flags: number,
    token: number,
  ): void {
    this.#queue(abi.IORING_OP_WRITEV | elsewhere(flags), fd, iovecs, count, offset, flags, token);
  }

  /** Queues an fdatasync(2). */
  dataSync(fd: number, token: number): void {
    this.#queue(abi.IORING_OP_FSYNC, fd, 0, 0, 0, abi.IORING_FSYNC_DATASYNC, token);
  }

  /** Queues a fallocate(2). */
  allocate(fd: number, mode: number, offset: number, length: number, token: number): void {
    this.#queue(abi.IORING_OP_FALLOCATE, fd, length, mode, offset, 0, token);
  }

  /** Hands what is queued to the kernel, and lets it post what has ended. Throws SystemError. */
  submit(): void {
    const queued = (this.#tail - this.#submitted) | 0;
    if (queued === 0 && (Atomics.load(this.#ring, this.#sqFlags) & toPost) === 0) return;
    // no other thread looks: the kernel does, in the call that follows
    this.#signedRing[this.#sqTail] = this.#tail;
    this.#submitted = this.#tail;
    this.#enter(queued);
  }

  #enter(count: number): void {
    for (let refused = 0, queued = count; ; ) {
      const flags = count === 0 ? abi.IORING_ENTER_GETEVENTS : 0;
      const taken = Number(libc.syscall(SYS_io_uring_enter, this.fd, queued, 0, flags, 0, 0));
      if (taken === queued) return;
      const why = taken < 0 ? errno() : Errno.EINTR;
      queued = (this.#tail - Atomics.load(this.#ring, this.#sqHead)) | 0;
      if (why === Errno.EINTR) continue;
      const later = why === Errno.EAGAIN || why === Errno.EBUSY || why === Errno.ENOMEM;
      if (!later || ++refused > patience) throw new SystemError("io_uring_enter", why);
      libc.poll(null, 0, 1);
    }
  }

  /** Moves to the next completion; false when there is none. */
  next(): boolean {
    if (this.#head === this.#cqEnd && !this.#look()) return false;
    const at = this.#cqes + (this.#head & this.#cqMask) * cqeWords;
    this.token = this.#ring[at]!;
    this.result = this.#signedRing[at + resultWord]!;
    this.#head = (this.#head + 1) | 0;
    return true;
  }

  /** Gives back the places of the completions taken; whether there are more. */
  #look(): boolean {
    this.#signedRing[this.#cqHead] = this.#head;
    this.#cqEnd = Atomics.load(this.#signedRing, this.#cqTail);
    return this.#head !== this.#cqEnd;
  }

  /** Requests must have ended: the kernel finishes the others on its own, whatever becomes of their memory. */
  close(): void {
    munmap(this.#sqesAddress, this.entries * abi.IoUringSqe.size);
    munmap(this.#ringAddress, this.#ringBytes);
    close(this.fd);
  }

  #queue(
    opcode: number,
    fd: number,
    address: number,
    length: number,
    offset: number,
    flags: number,
    token: number,
  ): void {
    if (((this.#tail - this.#submitted) | 0) >= this.entries) {
      throw new RangeError("more requests than the ring has entries");
    }
    const sqes = this.#sqes;
    const at = (this.#tail & (this.entries - 1)) * sqeWords;
    // the other words stay 0
    sqes[at] = opcode;
    sqes[at + fdWord] = fd;
    this.#put64(at + offWord, offset);
    this.#put64(at + addrWord, address);
    sqes[at + lenWord] = length;
    sqes[at + flagsWord] = flags;
    sqes[at + userDataWord] = token;
    this.#tail = (this.#tail + 1) | 0;
  }

  /** Without arithmetic on the halves, which the JIT does slowly, but for offsets beyond any file of today. */
  #put64(at: number, value: number): void {
    if (value < mantissa) {
      this.#doubles[at >> 1] = value + mantissa;
      this.#sqes[at + 1] = this.#sqes[at + 1]! & highMantissa;
    } else {
      const high = Math.floor(value / highUnit);
      this.#sqes[at] = value - high * highUnit;
      this.#sqes[at + 1] = high;
    }
  }
}

/**
 * Beside the opcode: what is to be stable when it ends is begun on a thread of the kernel's. XFS and btrfs would wait
 * for the device in `submit` (measured on Linux 6.18).
 */
const elsewhere = (flags: number): number => ((flags & RWF_DSYNC) !== 0 ? asyncFlag : 0);

/** Why a ring is of no use, if it is not. */
function refusal(fd: number, wanted: number, got: number, has: number): SystemError | undefined {
  if ((has & features) !== features) return new SystemError("io_uring features", Errno.ENOSYS);
  if (got < wanted) return new SystemError(`io_uring of ${wanted} entries`, Errno.EINVAL);
  const probe = new Block(abi.IoUringProbe.size + (highestOperation + 1) * abi.IoUringProbeOp.size);
  const result = libc.syscall(
    ...([SYS_io_uring_register, fd, abi.IORING_REGISTER_PROBE] as const),
    ...([probe.address, highestOperation + 1, 0, 0] as const),
  );
  if (Number(result) < 0) return new SystemError("io_uring_register(PROBE)");
  for (const operation of operations) {
    const at = abi.IoUringProbe.size + operation * abi.IoUringProbeOp.size;
    if ((new abi.IoUringProbeOp(probe.view, at).flags & abi.IO_URING_OP_SUPPORTED) === 0) {
      return new SystemError(`io_uring operation ${operation}`, Errno.EOPNOTSUPP);
    }
  }
  return undefined;
}

/** What a user of a ring needs of it. */
export type RequestRing = Pick<
  IoUring,
  | ("fd" | "token" | "result")
  | ("read" | "write" | "readv" | "writev" | "dataSync" | "allocate")
  | ("submit" | "next" | "close")
>;
