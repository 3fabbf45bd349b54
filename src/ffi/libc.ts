/**
 * The one door to libc. Every other file of this folder takes its calls from here; nothing outside the folder does.
 *
 * Integer arguments are not range-checked by the runtime (a `u16` of 70000 arrives as 4464), so callers pass what they
 * have checked. Addresses and 64-bit lengths are numbers below 2^53. A `ptr` argument takes a number or a typed array;
 * a typed array's address holds for the duration of the call only.
 */
import { dlopen, type FFIFunction, FFIType, type Pointer, read } from "bun:ffi";
import { Errno, errnoName } from "./errno.ts";

const { symbols } = dlopen("libc.so.6", {
  __errno_location: { args: [], returns: "ptr" },
  ioctl: { args: ["i32", "u64", "u64"], returns: "i32" },
  mmap: { args: ["u64", "u64", "i32", "i32", "i32", "i64"], returns: FFIType.i64_fast },
  munmap: { args: ["u64", "u64"], returns: "i32" },
  madvise: { args: ["u64", "u64", "i32"], returns: "i32" },
  memcpy: { args: ["ptr", "ptr", "u64"], returns: "ptr" },
  memset: { args: ["ptr", "i32", "u64"], returns: "ptr" },
  memfd_create: { args: ["ptr", "u32"], returns: "i32" },
  ftruncate: { args: ["i32", "i64"], returns: "i32" },
  open: { args: ["ptr", "i32", "u32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
  read: { args: ["i32", "ptr", "u64"], returns: FFIType.i64_fast },
  write: { args: ["i32", "ptr", "u64"], returns: FFIType.i64_fast },
  pread: { args: ["i32", "ptr", "u64", "i64"], returns: FFIType.i64_fast },
  pwrite: { args: ["i32", "ptr", "u64", "i64"], returns: FFIType.i64_fast },
  fcntl: { args: ["i32", "i32", "u64"], returns: "i32" },
  eventfd: { args: ["u32", "i32"], returns: "i32" },
  epoll_create1: { args: ["i32"], returns: "i32" },
  epoll_ctl: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  epoll_wait: { args: ["i32", "ptr", "i32", "i32"], returns: "i32" },
  poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
  timerfd_create: { args: ["i32", "i32"], returns: "i32" },
  timerfd_settime: { args: ["i32", "i32", "ptr", "ptr"], returns: "i32" },
  clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
  pthread_sigmask: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  sigtimedwait: { args: ["ptr", "ptr", "ptr"], returns: "i32" },
  prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" },
  syscall: {
    args: ["i64", "u64", "u64", "u64", "u64", "u64", "u64"],
    returns: FFIType.i64_fast,
  },
  getpid: { args: [], returns: "i32" },
  unlink: { args: ["ptr"], returns: "i32" },
  link: { args: ["ptr", "ptr"], returns: "i32" },
  readlink: { args: ["ptr", "ptr", "u64"], returns: FFIType.i64_fast },
});

/**
 * Functions that most threads never call are linked when one is called first: each takes 7 µs of a thread's start.
 * What comes back gives them.
 */
export function linkLater<const F extends Record<string, FFIFunction>>(functions: F) {
  let linked: ReturnType<typeof dlopen<F>>["symbols"] | undefined;
  return () => (linked ??= dlopen("libc.so.6", functions).symbols);
}

/** The C functions, as declared above. They return what libc returns; -1 means errno is set. */
export const libc = symbols;

const errnoAddress: Pointer = symbols.__errno_location() as Pointer;

/** The calling thread's errno. Meaningful right after a call that returned -1. */
export function errno(): number {
  return read.i32(errnoAddress, 0);
}

export { Errno, errnoName };

const reasons: Record<string, string> = {
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  ENOENT: "no such file or directory",
  ENOTDIR: "not a directory",
  EISDIR: "is a directory",
  ENOMEM: "out of memory",
  ENOSPC: "no space left on device",
  EADDRINUSE: "address already in use",
  EBUSY: "busy",
  ENXIO: "no such device or address",
  ENODEV: "no such device",
  EROFS: "read-only file system",
  EMFILE: "too many open files",
  ENAMETOOLONG: "file name too long",
  ELOOP: "too many levels of symbolic links",
};

/** A call to the host failed: `message` is "open: ENOENT", `code` is "ENOENT", `reason` says it in words. */
export class SystemError extends Error {
  readonly errno: number;
  readonly code: string;
  constructor(call: string, value: number = errno()) {
    const code = errnoName(value);
    super(`${call}: ${code}`);
    this.name = "SystemError";
    this.errno = value;
    this.code = code;
  }
  get reason(): string {
    return reasons[this.code] ?? this.code;
  }
}

/** Passes a result through, or throws what errno says when it is negative. */
export function check(result: number, call: string): number {
  if (result < 0) throw new SystemError(call);
  return result;
}

/**
 * A NUL-terminated copy of a path or name, for a `ptr` argument. A NUL inside is an error: it would cut the name short.
 */
export function cString(text: string): Uint8Array {
  if (text.includes("\0")) throw new RangeError(`"${text}" holds a NUL character`);
  return new TextEncoder().encode(`${text}\0`);
}
