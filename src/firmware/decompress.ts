/**
 * Decompresses a bzImage's payload on the host: gzip (RFC 1952) and zstd (RFC 8878) by the
 * runtime's built-ins, LZ4 by lz4.ts. The build puts the unpacked size into the payload's last four
 * bytes (linux/scripts/Makefile.lib, "size_append"; gzip's own format ends in it), and that many
 * bytes are all that is ever allocated or produced.
 */
import type { gunzipSync } from "node:zlib";
import { decompressLz4Legacy } from "./lz4.ts";

type Zlib = { gunzipSync: typeof gunzipSync; zstdDecompressSync: typeof gunzipSync };

export type PayloadFormat = "gzip" | "zstd" | "LZ4" | "XZ" | "LZMA" | "bzip2" | "LZO";

/** Which formats Linux's payloads come in, by their first bytes (linux/lib/decompress.c). */
const magics: readonly (readonly [PayloadFormat, readonly number[]])[] = [
  ["gzip", [0x1f, 0x8b]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
  ["LZ4", [0x02, 0x21, 0x4c, 0x18]],
  ["XZ", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["LZMA", [0x5d, 0x00, 0x00]],
  ["bzip2", [0x42, 0x5a, 0x68]],
  ["LZO", [0x89, 0x4c, 0x5a, 0x4f]],
];

/** The format of data by its first bytes, undefined when none is known. */
export function payloadFormat(start: Uint8Array): PayloadFormat | undefined {
  return magics.find(([, magic]) => magic.every((byte, i) => start[i] === byte))?.[0];
}

/** The formats that `decompress` takes. */
export type HostFormat = "gzip" | "zstd" | "LZ4";
export const isHostFormat = (format: PayloadFormat): format is HostFormat =>
  format === "gzip" || format === "zstd" || format === "LZ4";

/** Data that does not unpack to what it promises. */
export class DecompressError extends Error {
  override readonly name = "DecompressError";
}

/**
 * The size a payload says it unpacks to, in bytes. It is the file's word: check it before it is
 * believed.
 */
export function unpackedSize(payload: Uint8Array): number {
  if (payload.length < 8) throw new DecompressError(`it has only ${payload.length} bytes`);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  return view.getUint32(payload.length - 4, true);
}

/** How many bytes in front of a payload `decompress` may overwrite. */
export const spareBytes = 4;

/**
 * Unpacks the payload that fills `buffer` but for `spareBytes` in front, to `size` bytes exactly;
 * the buffer is overwritten. A DecompressError says what is wrong with the payload.
 */
export function decompress(format: HostFormat, buffer: Uint8Array, size: number): Uint8Array {
  const payload = buffer.subarray(spareBytes);
  try {
    const unpacked = unpack(format, buffer, payload, size);
    if (unpacked.length !== size) {
      throw new DecompressError(`it unpacks to ${unpacked.length} bytes instead of ${size}`);
    }
    // A plain array: Buffer's slice, for one, is another thing.
    return new Uint8Array(unpacked.buffer, unpacked.byteOffset, unpacked.length);
  } catch (error) {
    if (error instanceof DecompressError) throw error;
    throw new DecompressError(`${error instanceof Error ? error.message : error}`, {
      cause: error,
    });
  }
}

function unpack(format: HostFormat, buffer: Uint8Array, payload: Uint8Array, size: number) {
  if (format === "LZ4") return decompressLz4Legacy(payload.subarray(0, -4), size);
  // One output chunk of the right size: nothing is joined, nothing copied. Loaded here because few
  // boots need it.
  const zlib = process.getBuiltinModule("node:zlib") as Zlib;
  const options = { maxOutputLength: size, chunkSize: Math.max(size, 64) };
  if (format === "gzip") return zlib.gunzipSync(payload, options);
  return zlib.zstdDecompressSync(declareSize(buffer, size).subarray(0, -4), options);
}

/**
 * RFC 8878 section 3.1.1.1: Linux's payload is a frame without a content size, which the library
 * would unpack through a window of 128 MiB. With the size in the frame header it unpacks straight
 * into the output, in two thirds of the time. Moves the header into the spare bytes and inserts the
 * field; any other kind of frame is left as it is.
 */
function declareSize(buffer: Uint8Array, size: number): Uint8Array {
  const headerSize = 6; // magic, descriptor, window descriptor
  const descriptor = buffer[spareBytes + 4]!;
  const sizedOrOther = 0xe0 | 0x03; // content size, single segment, dictionary
  if ((descriptor & sizedOrOther) !== 0) return buffer.subarray(spareBytes);
  buffer.copyWithin(0, spareBytes, spareBytes + headerSize);
  buffer[4] = descriptor | 0x80; // a content size of four bytes
  new DataView(buffer.buffer, buffer.byteOffset).setUint32(headerSize, size, true);
  return buffer;
}
