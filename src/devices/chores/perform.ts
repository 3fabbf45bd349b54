/** Does a chore: blocks as long as it takes. */
import { windowOn } from "../../ffi/block.ts";
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
    default: {
      const unpack = kind === ChoreKind.zstd ? unpackZstd : unpackDeflate;
      const source = new Uint8Array(windowOn(a, b));
      return unpack(source, new Uint8Array(windowOn(c, d))) ? 0 : Errno.EIO;
    }
  }
}

const errnoOf = (result: number) => (result < 0 ? -result : 0);

/** Bytes that the chore in `queue` leaves to the garbage collector, about. */
export function garbageOf(queue: ChoreQueue): number {
  const unpacks = queue.kind === ChoreKind.deflate || queue.kind === ChoreKind.zstd;
  return unpacks ? queue.argument(1) + queue.argument(3) : 0;
}
