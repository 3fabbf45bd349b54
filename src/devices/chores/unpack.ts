/**
 * Unpacking of what a disk image holds compressed, to a size that is known before. The data is hostile: no more than
 * that size is ever produced, and less, or more, is a failure.
 */
import type { inflateRawSync } from "node:zlib";

type Unpack = typeof inflateRawSync;
type Zlib = { inflateRawSync: Unpack; zstdDecompressSync: Unpack };
const zlib = () => process.getBuiltinModule("node:zlib") as Zlib;

const smallestChunk = 64; // zlib takes no less

/** One output chunk of the right size: nothing is joined. Throws when it would be more. */
const options = (size: number) => ({
  maxOutputLength: size,
  chunkSize: Math.max(size, smallestChunk),
});

/** One raw deflate stream (RFC 1951), whatever is behind it. False when it is broken or of another size. */
export function unpackDeflate(source: Uint8Array, target: Uint8Array): boolean {
  try {
    const unpacked = zlib().inflateRawSync(source, options(target.length));
    if (unpacked.length !== target.length) return false;
    target.set(unpacked);
    return true;
  } catch {
    return false;
  }
}

/** As many zstd frames as it takes (RFC 8878), whatever is behind them. */
export function unpackZstd(source: Uint8Array, target: Uint8Array): boolean {
  let [at, filled] = [0, 0];
  try {
    while (filled < target.length) {
      const length = zstdFrameLength(source.subarray(at));
      if (length < 0) return false;
      const frame = source.subarray(at, at + length);
      const unpacked = zlib().zstdDecompressSync(frame, options(target.length - filled));
      target.set(unpacked, filled);
      filled += unpacked.length;
      at += length;
    }
    return true;
  } catch {
    return false;
  }
}

const zstdMagic = 0xfd2fb528;
/** By the two flag bits of the frame header descriptor (section 3.1.1.1.1). */
const contentSizeBytes = [0, 2, 4, 8];
const dictionaryIdBytes = [0, 1, 2, 4];
const rleBlock = 1;
const reservedBlock = 3;

/**
 * Bytes of the zstd frame that `data` begins with (section 3.1.1), by its headers alone; -1 when there is none. The
 * runtime's decompressor wants to know where the data ends.
 */
export function zstdFrameLength(data: Uint8Array): number {
  if (data.length < 5) return -1;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (view.getUint32(0, true) !== zstdMagic) return -1;
  const descriptor = data[4]!;
  const single = (descriptor >> 5) & 1;
  const checksum = (descriptor >> 2) & 1;
  let sizeBytes = contentSizeBytes[descriptor >> 6]!;
  if (sizeBytes === 0 && single === 1) sizeBytes = 1;
  let at = 5 + (1 - single) + dictionaryIdBytes[descriptor & 3]! + sizeBytes;
  for (let last = 0; last === 0; ) {
    if (at + 3 > data.length) return -1;
    const header = view.getUint16(at, true) | (data[at + 2]! << 16);
    last = header & 1;
    const type = (header >> 1) & 3;
    if (type === reservedBlock) return -1;
    at += 3 + (type === rleBlock ? 1 : header >>> 3);
  }
  if (checksum === 1) at += 4;
  return at <= data.length ? at : -1;
}
