/** Files: open(2), read(2), write(2) and friends, every descriptor with O_CLOEXEC. */
import { Block } from "./block.ts";
import { check, cString, Errno, errno, libc } from "./libc.ts";

// asm-generic/fcntl.h
export const Open = {
  readOnly: 0,
  writeOnly: 1,
  readWrite: 2,
  create: 0o100,
  exclusive: 0o200,
  noControllingTerminal: 0o400,
  truncate: 0o1000,
  append: 0o2000,
  nonBlock: 0o4000,
  directory: 0o200000,
  cloexec: 0o2000000,
  temporary: 0o20200000,
} as const;
const F_GETFL = 3;
/** asm-generic/ioctls.h */
const FIONREAD = 0x541b;
const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;

/** Opens a file; the descriptor comes back. Throws SystemError. */
export function open(path: string, flags: number, mode = 0): number {
  return check(libc.open(cString(path), flags | Open.cloexec, mode), `open ${path}`);
}

export function close(fd: number): void {
  check(libc.close(fd), "close");
}

/** Reads at `offset` into a typed array or a host address until `length` bytes are there or the file ends. */
export function pread(
  fd: number,
  into: Uint8Array | number,
  length: number,
  offset: number,
): number {
  let done = 0;
  while (done < length) {
    const target = typeof into === "number" ? into + done : into.subarray(done);
    const count = Number(libc.pread(fd, target as never, length - done, offset + done));
    if (count < 0 && errno() === Errno.EINTR) continue;
    if (check(count, "pread") === 0) break;
    done += count;
  }
  return done;
}

/** One read(2) to a host address: the count, 0 at the end, or minus the errno. */
export function readSome(fd: number, address: number, length: number): number {
  const count = Number(libc.read(fd, address as never, length));
  return count < 0 ? -errno() : count;
}

/** One pwrite(2) from a host address: the count, or minus the errno. */
export function pwriteSome(fd: number, address: number, length: number, offset: number): number {
  const count = Number(libc.pwrite(fd, address as never, length, offset));
  return count < 0 ? -errno() : count;
}

/** How many bytes a pipe, socket or terminal has to read; 0 where that cannot be said. */
export function bytesToRead(fd: number): number {
  const count = new Block(4);
  return libc.ioctl(fd, FIONREAD, count.address) < 0 ? 0 : count.view.getInt32(0, true);
}

/** One write(2) from a typed array or a host address: the count, or minus the errno. */
export function writeSome(fd: number, from: Uint8Array | number, length: number): number {
  const count = Number(libc.write(fd, from as never, length));
  return count < 0 ? -errno() : count;
}

/**
 * Writes all of it, waiting where the descriptor makes it wait. False when the descriptor takes no more (EPIPE, ENOSPC,
 * …).
 */
export function writeAll(fd: number, data: Uint8Array): boolean {
  let done = 0;
  while (done < data.length) {
    const count = Number(libc.write(fd, data.subarray(done), data.length - done));
    if (count >= 0) done += count;
    else if (errno() === Errno.EAGAIN) waitWritable(fd);
    else if (errno() !== Errno.EINTR) return false;
  }
  return true;
}

const POLLOUT = 4;

function waitWritable(fd: number): void {
  const request = new Block(8);
  request.view.setInt32(0, fd, true);
  request.view.setInt16(4, POLLOUT, true);
  libc.poll(request.bytes, 1, 1000);
}

export function truncate(fd: number, length: number): void {
  check(libc.ftruncate(fd, length), "ftruncate");
}

/** The open file's status flags (O_NONBLOCK, access mode, …); minus the errno when the descriptor is not open. */
export function statusFlags(fd: number): number {
  const flags = libc.fcntl(fd, F_GETFL, 0);
  return flags < 0 ? -errno() : flags;
}

/** What would wait fails with EAGAIN instead, for everyone who has the open file. */
export function setNonBlocking(fd: number): void {
  check(libc.fcntl(fd, F_SETFL, statusFlags(fd) | Open.nonBlock), "fcntl(F_SETFL)");
}

/** A second descriptor for the same open file, close-on-exec. */
export function duplicate(fd: number): number {
  return check(libc.fcntl(fd, F_DUPFD_CLOEXEC, 3), "fcntl(F_DUPFD_CLOEXEC)");
}

export function unlink(path: string): void {
  check(libc.unlink(cString(path)), `unlink ${path}`);
}

/** Gives a file a second name, where nothing has it. Throws SystemError. */
export function link(path: string, second: string): void {
  check(libc.link(cString(path), cString(second)), `link ${second}`);
}

/** What a symbolic link says, of at most 255 bytes. Throws SystemError. */
export function readLink(path: string): string {
  const text = new Uint8Array(255);
  const length = check(Number(libc.readlink(cString(path), text, text.length)), "readlink");
  return new TextDecoder().decode(text.subarray(0, length));
}
