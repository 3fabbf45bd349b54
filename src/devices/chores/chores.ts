/**
 * Chores: work for a device that takes as long as the host likes (fdatasync, fallocate, decompression), done on a
 * thread of its own, so that it never holds up another device of the same I/O worker. A device has one such thread at
 * most; it is started with the first chore.
 */

/** The device's end. It belongs to the device's worker. */
export interface Chores {
  /** Readable (epoll) when `turn` has something to report. Not the user's to close. */
  readonly fd: number;
  /**
   * Unpacks one raw deflate stream (RFC 1951) or zstd frames (RFC 8878) from host memory to host memory; what is behind
   * the end of the data is left alone. It must fill the target exactly: EIO if not.
   *
   * This and the others take a tag, a number that `turn` gives back. False when there are too many chores in hand:
   * try again after `turn`.
   */
  decompress(
    tag: number,
    kind: "deflate" | "zstd",
    source: number,
    sourceLength: number,
    target: number,
    targetLength: number,
  ): boolean;
  /** fdatasync(2). */
  sync(tag: number, fd: number): boolean;
  /** fallocate(2). */
  allocate(tag: number, fd: number, mode: number, offset: number, length: number): boolean;
  /** Writes zeroes, for a file that has no other way (see `allocate`). */
  zero(tag: number, fd: number, offset: number, length: number): boolean;
  /** Reports what has ended: 0, or an errno. Takes the descriptor's readiness away. */
  turn(done: (tag: number, error: number) => void): void;
}

/** The two ends' shared part, as plain data: see chore-ring.ts. */
export interface ChoreSpec {
  readonly buffer: SharedArrayBuffer;
  /** An eventfd. */
  readonly fd: number;
}
