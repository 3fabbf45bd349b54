/** A disk image as a block device sees it. What a request is about lies in its slot of `Transfers`. */

/** Who asked. */
export interface ImageClient {
  /** Nothing but this image waits for the thread. */
  readonly alone?: boolean;
  /** The request in `slot` has ended: 0, or the errno of what went wrong. Called by `turn` alone. */
  ended(slot: number, error: number): void;
  /** A line for the log. */
  warn?(text: string): void;
}

export interface DiskImage {
  /** Becomes readable when `turn` has something to report; -1 where `turn` reports everything at once. */
  readonly fd: number;
  /** Another descriptor like it. */
  readonly otherFd?: number;
  /** Begins to read into the slot's memory, or to write from it. */
  read(slot: number): void;
  /** `durable`: on stable storage when it ends. */
  write(slot: number, durable: boolean): void;
  /** Everything written before is on stable storage when it ends. */
  flush(slot: number): void;
  /** The slot's bytes are of no use any more. */
  discard(slot: number): void;
  /** The slot's bytes become zero; `unmap`: their room may be given back. */
  writeZeroes(slot: number, unmap: boolean, durable: boolean): void;
  /** Hands what was begun to the host, and reports what has ended. */
  turn(): void;
  close(): void;
}
