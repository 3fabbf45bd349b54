/** Small files of the user's that are read as a whole: templates, scripts, tokens. */
import { closeSync, constants, openSync, readSync } from "node:fs";

const slowPipeMs = 1;

/**
 * What the file holds, but no more than `most` bytes and one. A pipe is read to its end, as far as somebody has it open
 * to write; one without a writer is empty, and does not hold up chv. Throws as node:fs does, with a `code`.
 */
export function readSmallFile(path: string, most: number): Uint8Array {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const pieces: Uint8Array[] = [];
    for (let room = most + 1; room > 0; ) {
      const piece = readPiece(fd, Math.min(room, 0x1_0000));
      if (piece.length === 0) break;
      pieces.push(piece);
      room -= piece.length;
    }
    return Buffer.concat(pieces);
  } finally {
    closeSync(fd);
  }
}

function readPiece(fd: number, length: number): Uint8Array {
  const piece = new Uint8Array(length);
  for (;;) {
    try {
      return piece.subarray(0, readSync(fd, piece));
    } catch (error) {
      if ((error as { code?: string }).code !== "EAGAIN") throw error;
      Bun.sleepSync(slowPipeMs);
    }
  }
}
