/** Does a chore: blocks as long as it takes. */
import { Block, windowOn } from "../../ffi/block.ts";
import { pwriteSome } from "../../ffi/file.ts";
import { allocateRange, dataSync } from "../../ffi/file-vector.ts";
import { Errno } from "../../ffi/libc.ts";
import { ChoreKind, type ChoreQueue } from "./chore-ring.ts";
import { unpackDeflate, unpackZstd } from "./unpack.ts";

/** Does the chore that waits in `queue`; 0, or the errno of what went wrong. */
export function perform(queue: ChoreQueue): number {
  const { kind } = queue;
  const [a, b] = [queue.argument(0), queue.argument(1)];
  const [c, d] = [queue.argument(2), queue.argument(3)];
  switch (kind) {
    case ChoreKind.sync:
      return errnoOf(dataSync(a));
    case ChoreKind.allocate:
      return errnoOf(allocateRange(a, b, c, d));
    case ChoreKind.zero:
      return writeZeroes(a, b, c);
    default: {
      const unpack = kind === ChoreKind.zstd ? unpackZstd : unpackDeflate;
      const source = new Uint8Array(windowOn(a, b));
      return unpack(source, new Uint8Array(windowOn(c, d))) ? 0 : Errno.EIO;
    }
  }
}

const errnoOf = (result: number) => (result < 0 ? -result : 0);

const zeroBytes = 2 ** 20;
const pageBytes = 4096;

/** Aligned for O_DIRECT. */
function writeZeroes(fd: number, offset: number, length: number): number {
  const zeroes = new Block(Math.min(length, zeroBytes) + pageBytes);
  const address = Math.ceil(zeroes.address / pageBytes) * pageBytes;
  for (let done = 0; done < length; ) {
    const count = pwriteSome(fd, address, Math.min(length - done, zeroBytes), offset + done);
    if (count === 0) return Errno.EIO;
    if (count > 0) done += count;
    else if (count !== -Errno.EINTR) return -count;
  }
  return 0;
}

/** Bytes that the chore in `queue` leaves to the garbage collector, about. */
export function garbageOf(queue: ChoreQueue): number {
  const { kind } = queue;
  if (kind === ChoreKind.zero) return Math.min(queue.argument(2), zeroBytes);
  const unpacks = kind === ChoreKind.deflate || kind === ChoreKind.zstd;
  return unpacks ? queue.argument(1) + queue.argument(3) : 0;
}
