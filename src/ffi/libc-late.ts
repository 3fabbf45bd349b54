/** C functions of which a start needs none, by what they are for. They return what libc returns, as in libc.ts. */
import { FFIType } from "bun:ffi";
import { linkLater } from "./libc.ts";

/** Terminals and pseudo-terminals. */
export const terminalLibc = linkLater({
  isatty: { args: ["i32"], returns: "i32" },
  tcgetattr: { args: ["i32", "ptr"], returns: "i32" },
  tcsetattr: { args: ["i32", "i32", "ptr"], returns: "i32" },
  cfmakeraw: { args: ["ptr"], returns: "void" },
  posix_openpt: { args: ["i32"], returns: "i32" },
  grantpt: { args: ["i32"], returns: "i32" },
  unlockpt: { args: ["i32"], returns: "i32" },
  ptsname_r: { args: ["i32", "ptr", "u64"], returns: "i32" },
});

/** Sockets. */
export const socketLibc = linkLater({
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  socketpair: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  shutdown: { args: ["i32", "i32"], returns: "i32" },
  accept4: { args: ["i32", "ptr", "ptr", "i32"], returns: "i32" },
  send: { args: ["i32", "ptr", "u64", "i32"], returns: FFIType.i64_fast },
  sendmsg: { args: ["i32", "ptr", "i32"], returns: FFIType.i64_fast },
  recvmsg: { args: ["i32", "ptr", "i32"], returns: FFIType.i64_fast },
});

/** Signal handlers, and what one needs. */
export const signalLibc = linkLater({
  signal: { args: ["i32", "ptr"], returns: "ptr" },
  siginterrupt: { args: ["i32", "i32"], returns: "i32" },
  pipe2: { args: ["ptr", "i32"], returns: "i32" },
  mprotect: { args: ["u64", "u64", "i32"], returns: "i32" },
});

/** Files by iovecs, and what a disk does to them. */
export const fileLibc = linkLater({
  preadv2: { args: ["i32", "u64", "i32", "i64", "i32"], returns: FFIType.i64_fast },
  pwritev2: { args: ["i32", "u64", "i32", "i64", "i32"], returns: FFIType.i64_fast },
  fdatasync: { args: ["i32"], returns: "i32" },
  fallocate: { args: ["i32", "i32", "i64", "i64"], returns: "i32" },
});
