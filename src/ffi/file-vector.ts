/**
 * Reading and writing of files from and to host memory piece by piece, and what else a disk does to a file. Results are
 * those of the system calls; a failure is minus the errno, and nothing is thrown.
 */
import { Errno, errno } from "./libc.ts";
import { fileLibc } from "./libc-late.ts";

/** linux/fs.h: the data is on stable storage when the write returns. */
export const RWF_DSYNC = 2;
// linux/falloc.h
export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_ZERO_RANGE = 16;

const outcome = (result: number | bigint) => (Number(result) < 0 ? -errno() : Number(result));

/** preadv2(2) into `count` iovecs at a host address. */
export function readVector(fd: number, iovecs: number, count: number, offset: number): number {
  return outcome(fileLibc().preadv2(fd, iovecs, count, offset, 0));
}

/** pwritev2(2) from `count` iovecs at a host address; `flags` are RWF_ ones. */
export function writeVector(
  fd: number,
  iovecs: number,
  count: number,
  offset: number,
  flags: number,
): number {
  return outcome(fileLibc().pwritev2(fd, iovecs, count, offset, flags));
}

export function dataSync(fd: number): number {
  return outcome(fileLibc().fdatasync(fd));
}

/** fallocate(2). */
export function allocateRange(fd: number, mode: number, offset: number, length: number): number {
  return outcome(fileLibc().fallocate(fd, mode, offset, length));
}

/** The calls above, for those who are handed them. */
export interface FileCalls {
  readonly readVector: typeof readVector;
  readonly writeVector: typeof writeVector;
  readonly dataSync: typeof dataSync;
  readonly allocateRange: typeof allocateRange;
}
export const fileCalls: FileCalls = { readVector, writeVector, dataSync, allocateRange };

/** Whether room can be given back of a file, tried where it has none: at `end`, its size in whole pages or more. */
export function canPunch(fd: number, end: number): boolean {
  const result = allocateRange(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, end, 4096);
  return result !== -Errno.EOPNOTSUPP && result !== -Errno.ENOSYS;
}
