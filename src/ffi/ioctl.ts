/** ioctl(2) request codes that carry the size of their struct, so that layout and code check each other. */
import type { Block } from "./block.ts";
import { Errno, errno, libc, SystemError } from "./libc.ts";

export interface Request {
  readonly name: string;
  readonly code: number;
}

interface Sized {
  readonly size: number;
}

// asm-generic/ioctl.h: direction in bits 31:30, size in 29:16, type in 15:8, number in 7:0
const encode = (direction: number, type: number, number: number, size: number) =>
  ((direction << 30) | (size << 16) | (type << 8) | number) >>> 0;

export const io = (name: string, type: number, number: number): Request => ({
  name,
  code: encode(0, type, number, 0),
});
export const iow = (name: string, type: number, number: number, argument: Sized): Request => ({
  name,
  code: encode(1, type, number, argument.size),
});
export const ior = (name: string, type: number, number: number, argument: Sized): Request => ({
  name,
  code: encode(2, type, number, argument.size),
});
export const iowr = (name: string, type: number, number: number, argument: Sized): Request => ({
  name,
  code: encode(3, type, number, argument.size),
});

/**
 * Makes the call, again where a signal came in between (KVM_CREATE_VM does not wait with one pending); a non-negative
 * result comes back. Throws SystemError "ioctl(KVM_CREATE_VM): EBADF".
 */
export function ioctl(fd: number, request: Request, argument: Block | number = 0): number {
  const word = typeof argument === "number" ? argument : argument.address;
  for (;;) {
    const result = libc.ioctl(fd, request.code, word);
    if (result >= 0) return result;
    const error = errno();
    if (error !== Errno.EINTR) throw new SystemError(`ioctl(${request.name})`, error);
  }
}
