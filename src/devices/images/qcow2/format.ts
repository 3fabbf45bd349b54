/**
 * The qcow2 format, versions 2 and 3, as far as it is laid out in numbers (QEMU, docs/interop/qcow2.rst). All of them
 * are big-endian. 64-bit entries are handled as two 32-bit words, high and low.
 */

/** "QFI\xfb". */
export const qcow2Magic = 0x514649fb;

/** Offsets in the header (section "Header"). */
export const HeaderAt = {
  version: 4,
  backingOffset: 8,
  backingLength: 16,
  clusterBits: 20,
  bytes: 24,
  cryptMethod: 32,
  l1Entries: 36,
  l1Offset: 40,
  refcountsOffset: 48,
  refcountsClusters: 56,
  incompatible: 72,
  autoclear: 88,
  refcountOrder: 96,
  headerLength: 100,
  compressionType: 104,
} as const;
export const version2Length = 72;
export const version3Length = 104;

/** Bits of incompatible_features. */
export const Incompatible = {
  dirty: 0,
  corrupt: 1,
  dataFile: 2,
  compressionType: 3,
  extendedL2: 4,
} as const;

/** Header extensions. */
export const Extension = {
  end: 0,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
} as const;

/** Entries of all tables: bytes of one. */
export const entryBytes = 8;

/** In an L1 or L2 entry's high word: the table or cluster has a refcount of exactly one (bit 63). */
export const copiedFlag = 0x8000_0000;
/** In an L2 entry's high word: a compressed cluster (bit 62). */
export const compressedFlag = 0x4000_0000;
/** In an L2 entry's low word: the cluster reads as zeroes, with version 3 (bit 0). */
export const zeroFlag = 1;
/** Bits 9 to 55 are an offset, in both words; the others below are reserved. */
export const offsetHigh = 0x00ff_ffff;
export const offsetLow = 0xffff_fe00;
export const reservedHigh = 0x3f00_0000;
export const reservedLow = 0x0000_01fe;

export const highUnit = 0x1_0000_0000;

/** The offset in an entry; above 2^53 it is not exact, and beyond any file. */
export const offsetOf = (high: number, low: number): number =>
  (high & offsetHigh) * highUnit + ((low & offsetLow) >>> 0);

/** Limits: those of the format, and QEMU's, which an image that it made keeps. */
export const minClusterBits = 9;
export const maxClusterBits = 21;
export const maxL1Bytes = 2 ** 25;
export const maxRefcountTableBytes = 2 ** 23;
export const maxBackingName = 1023;
export const maxRefcountOrder = 6;
/** Where arithmetic on byte offsets stays exact. */
export const maxBytes = 2 ** 52;

/** Tables are read and written in pieces of this, or of one cluster if that is less: aligned for O_DIRECT. */
export const pieceBytes = 4096;
export const pieceOf = (clusterBytes: number): number => Math.min(pieceBytes, clusterBytes);
