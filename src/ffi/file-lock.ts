/** Open-file-description locks (fcntl(2), F_OFD_SETLK): they belong to the open file and go with it. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { allocate } from "./block.ts";
import { Errno, errno, libc, SystemError } from "./libc.ts";
import { addr, bytes, i32, struct, u16 } from "./struct.ts";

const Flock = struct(
  "flock",
  32,
  { l_type: u16, l_whence: u16, l_start: addr, l_len: addr, l_pid: i32, pad: bytes(4) },
  { align: 8 },
);
// asm-generic/fcntl.h
const F_OFD_SETLK = 37;
const lockType = { read: 0, write: 1 } as const;

/** Locks the whole file, for readers together or for one writer alone. False when another open file holds it. */
export function lockFile(fd: number, kind: keyof typeof lockType): boolean {
  const lock = allocate(Flock);
  lock.fields.l_type = lockType[kind];
  if (libc.fcntl(fd, F_OFD_SETLK, lock.address) === 0) return true;
  const error = errno();
  if (error === Errno.EAGAIN || error === Errno.EACCES) return false;
  throw new SystemError("fcntl(F_OFD_SETLK)", error);
}

/** A killed process's requests in flight hold its files until the kernel has ended them, for a moment after its end. */
const goneMs = 1000;
const pauseMs = 5;

/** Locks the whole file, after a holder that has just died, too. Undefined then; else why not, and what to do. */
export function claimFile(
  fd: number,
  path: string,
  kind: keyof typeof lockType,
): string | undefined {
  const until = performance.now() + goneMs;
  while (!lockFile(fd, kind)) {
    const holder = lockHolder(path);
    if (holder !== undefined) return `in use by process ${holder}; end it first`;
    if (performance.now() > until) return "in use by another process; end it first";
    Bun.sleepSync(pauseMs);
  }
  return undefined;
}

/** Who holds a lock on the file, as far as /proc tells this user; undefined when it does not. */
export function lockHolder(path: string): number | undefined {
  const { dev, ino } = statSync(path);
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    if (processLocks(pid, dev, ino)) return Number(pid);
  }
  return undefined;
}

function processLocks(pid: string, dev: number, ino: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      const file = statSync(`/proc/${pid}/fd/${fd}`, { throwIfNoEntry: false });
      if (file?.dev !== dev || file.ino !== ino) return false;
      return /^lock:.*OFDLCK/m.test(readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8"));
    });
  } catch {
    return false; // another user's process, or one that has just ended
  }
}
