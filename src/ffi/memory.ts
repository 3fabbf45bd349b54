/** Mappings: mmap(2), madvise(2), memfd_create(2); and copies between the runtime's memory and a host address. */
import { check, cString, libc } from "./libc.ts";

// asm-generic/mman-common.h, asm-generic/mman.h, linux/mman.h
export const Prot = { none: 0, read: 1, write: 2, execute: 4 } as const;
export const MapFlag = {
  shared: 0x01,
  private: 0x02,
  fixed: 0x10,
  anonymous: 0x20,
  noReserve: 0x4000,
  populate: 0x8000,
  hugeTlb: 0x40000,
} as const;
export const Madvise = {
  dontNeed: 4,
  remove: 9,
  mergeable: 12,
  hugePage: 14,
  noHugePage: 15,
  dontDump: 16,
  populateWrite: 23,
} as const;
// linux/memfd.h
const MFD_CLOEXEC = 1;
const MFD_HUGETLB = 4;

/** Maps `length` bytes; the host address comes back. Throws SystemError. */
export function mmap(
  address: number,
  length: number,
  protection: number,
  flags: number,
  fd = -1,
  offset = 0,
): number {
  return check(Number(libc.mmap(address, length, protection, flags, fd, offset)), "mmap");
}

export function munmap(address: number, length: number): void {
  check(libc.munmap(address, length), "munmap");
}

/** Throws SystemError where the kernel refuses the advice. */
export function madvise(address: number, length: number, advice: number): void {
  check(libc.madvise(address, length, advice), "madvise");
}

/** An unnamed file in memory; `name` shows in /proc only. */
export function memfd(name: string, hugePages: boolean): number {
  const flags = MFD_CLOEXEC | (hugePages ? MFD_HUGETLB : 0);
  return check(libc.memfd_create(cString(name), flags), "memfd_create");
}

/** Copies bytes to a host address. */
export function copyTo(address: number, data: Uint8Array): void {
  if (data.length > 0) libc.memcpy(address as never, data, data.length);
}

/** Copies bytes from one host address to another; the ranges do not overlap. */
export function copyBetween(to: number, from: number, length: number): void {
  if (length > 0) libc.memcpy(to as never, from as never, length);
}

/** Copies bytes from a host address. */
export function copyFrom(address: number, length: number): Uint8Array {
  const data = new Uint8Array(length);
  if (length > 0) libc.memcpy(data, address as never, length);
  return data;
}

export function zeroAt(address: number, length: number): void {
  if (length > 0) libc.memset(address as never, 0, length);
}
