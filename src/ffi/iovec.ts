/** struct iovec of <sys/uio.h>: base and length, 64 bits each; written as 32-bit words. */
export const iovecBytes = 16;
export const iovecWords = iovecBytes / 4;

const highUnit = 0x1_0000_0000;

/** Writes one iovec at word `at`; `length` is below 2^32. */
export function putIovec(words: Uint32Array, at: number, base: number, length: number): void {
  const high = Math.floor(base / highUnit);
  words[at] = base - high * highUnit;
  words[at + 1] = high;
  words[at + 2] = length;
  words[at + 3] = 0;
}
