/**
 * What a file is: stat(2). The runtime's `node:fs` would tell as well, but each thread that imports it spends 1.5 ms of
 * its start on that; so nothing on the way to the first KVM_RUN does (test/tidy.test.ts).
 */
import { allocate, Block } from "./block.ts";
import { cString, Errno, errno, libc, SystemError } from "./libc.ts";
import { addr, bytes, struct, u32, u64 } from "./struct.ts";

/** struct stat of <asm/stat.h>, up to the times. */
export const Stat = struct("stat", 144, {
  st_dev: u64,
  st_ino: u64,
  st_nlink: u64,
  st_mode: u32,
  st_uid: u32,
  st_gid: u32,
  st_rdev: u64,
  st_size: addr,
  st_blksize: addr,
  st_blocks: addr,
  times: bytes(72),
});

/** By number: C libraries before 2.33 have no function of that name. */
const SYS_newfstatat = 262;
/** AT_FDCWD, as an int that lies in a register. */
const currentFolder = 0xffff_ff9c;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;
const S_IFMT = 0o170000;
const S_IFSOCK = 0o140000;
const S_IFREG = 0o100000;
const S_IFBLK = 0o060000;
const S_IFDIR = 0o040000;
const S_IFIFO = 0o010000;

const kinds = new Map([
  [S_IFREG, "file"],
  [S_IFDIR, "folder"],
  [S_IFSOCK, "socket"],
  [S_IFIFO, "pipe"],
  [S_IFBLK, "block device"],
] as const);

export interface FileStatus {
  readonly kind: "file" | "folder" | "socket" | "pipe" | "block device" | "other";
  /** Bytes; of a file alone. */
  readonly size: number;
}

/** Of an open file. Throws SystemError. */
export function statusOf(fd: number): FileStatus {
  const status = stat(fd, "", AT_EMPTY_PATH);
  if (!status) throw new SystemError("fstat");
  return status;
}

/** Of whatever has that name; undefined when nothing has, or this user cannot tell. */
export const statusAt = (path: string): FileStatus | undefined => stat(currentFolder, path, 0);

/** The same, of a symbolic link itself. */
export const linkStatusAt = (path: string): FileStatus | undefined =>
  stat(currentFolder, path, AT_SYMLINK_NOFOLLOW);

function stat(folder: number, path: string, flags: number): FileStatus | undefined {
  const text = cString(path);
  const name = new Block(text.length);
  name.bytes.set(text);
  const { address, fields } = allocate(Stat);
  const call = () => libc.syscall(SYS_newfstatat, folder, name.address, address, flags, 0, 0);
  while (Number(call()) < 0) if (errno() !== Errno.EINTR) return undefined;
  const kind = kinds.get((fields.st_mode & S_IFMT) as typeof S_IFREG) ?? "other";
  return { kind, size: fields.st_size };
}
