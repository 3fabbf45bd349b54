/**
 * A kernel, initramfs or command line that cannot be booted. The message is one line for the user:
 * what, which file, why, and what to do about it.
 */
export class KernelError extends Error {
  override readonly name = "KernelError";
}

/** How messages write an address or a size that is one. */
export const hex = (value: number): string => `0x${value.toString(16)}`;

/** How messages write an amount of memory: MiB, rounded up. */
export const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 0x10_0000)} MiB`;
