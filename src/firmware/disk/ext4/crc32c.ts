/** CRC-32C (Castagnoli), reflected, as ext4's checksums use it: no inversion at either end. */

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f6_3b78 : value >>> 1;
  return value;
});

/** Goes on from `seed` (0xffffffff at the start). */
export function crc32c(seed: number, data: Uint8Array): number {
  let sum = seed;
  for (const byte of data) sum = (sum >>> 8) ^ table[(sum ^ byte) & 0xff]!;
  return sum >>> 0;
}
