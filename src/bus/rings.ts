/**
 * What a character device needs of the byte rings that join it to its console. The rings lie in shared memory
 * (`src/bus/byte-ring.ts`); an I/O worker holds the other end.
 */

/** Bytes for the guest, in order. */
export interface ByteSource {
  /** The next byte, or -1 when there is none now. */
  pop(): number;
}
