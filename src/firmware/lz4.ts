/**
 * LZ4's legacy frame, which `lz4 -l` writes and Linux uses for its payload: LZ4 Frame Format 1.6.4,
 * "Legacy frame", and LZ4 Block Format. A magic number, then blocks, each a 32-bit length and a
 * compressed block that unpacks to 8 MiB (the last one to less). The input is hostile: every length
 * is checked against both buffers.
 */
export const lz4LegacyMagic = 0x184c_2102;
/** What one block unpacks to. */
const blockSize = 8 * 0x10_0000;
/** A length nibble of 15 goes on in the bytes that follow. */
const moreLength = 15;
const minMatch = 4;

/** Input that is no LZ4, or that unpacks to another length than it should. */
export class Lz4Error extends Error {
  override readonly name = "Lz4Error";
}

/** Unpacks a whole frame, `size` bytes exactly; an Lz4Error says what is wrong with it. */
export function decompressLz4Legacy(source: Uint8Array, size: number): Uint8Array {
  const view = new DataView(source.buffer, source.byteOffset, source.byteLength);
  if (source.length < 4 || view.getUint32(0, true) !== lz4LegacyMagic) {
    throw new Lz4Error("no legacy frame");
  }
  const target = new Uint8Array(size);
  let written = 0;
  for (let at = 4; at < source.length; ) {
    if (source.length - at < 4) throw new Lz4Error("a block header is cut short");
    const length = view.getUint32(at, true);
    at += 4;
    if (length > source.length - at) throw new Lz4Error("a block is cut short");
    const room = Math.min(size - written, blockSize);
    written = unpackBlock(source, at, at + length, target, written, written + room);
    at += length;
  }
  if (written !== size) throw new Lz4Error(`${written} bytes instead of ${size}`);
  return target;
}

/**
 * Unpacks source[from, to) to target[start, limit), and returns where it ended. A block is a row of
 * sequences: a token of two length nibbles, literals, and a match, a distance back into this
 * block's output; the last has no match.
 */
function unpackBlock(
  source: Uint8Array,
  from: number,
  to: number,
  target: Uint8Array,
  start: number,
  limit: number,
): number {
  let at = from;
  let out = start;
  while (at < to) {
    const token = source[at++]!;
    let length = token >> 4;
    if (length === moreLength) {
      let more = 255;
      while (more === 255) {
        if (at >= to) throw new Lz4Error("a length is cut short");
        more = source[at++]!;
        length += more;
      }
    }
    if (length > to - at || length > limit - out) throw new Lz4Error("literals out of bounds");
    if (length > 48) {
      target.set(source.subarray(at, at + length), out);
      at += length;
      out += length;
    } else for (const end = at + length; at < end; ) target[out++] = source[at++]!;
    if (at === to) return out;

    if (to - at < 2) throw new Lz4Error("a match is cut short");
    const distance = source[at]! | (source[at + 1]! << 8);
    at += 2;
    if (distance === 0 || distance > out - start) throw new Lz4Error("a match out of bounds");
    length = (token & 15) + minMatch;
    if (length === moreLength + minMatch) {
      let more = 255;
      while (more === 255) {
        if (at >= to) throw new Lz4Error("a length is cut short");
        more = source[at++]!;
        length += more;
      }
    }
    if (length > limit - out) throw new Lz4Error("a match out of bounds");
    let match = out - distance;
    const end = out + length;
    // A match may overlap what it makes: a long one is copied in runs that double.
    if (length > 64) {
      for (let run = distance; out < end; run *= 2) {
        target.copyWithin(out, match, match + Math.min(run, end - out));
        out += Math.min(run, end - out);
      }
    } else while (out < end) target[out++] = target[match++]!;
  }
  throw new Lz4Error("a block ends in a match");
}
