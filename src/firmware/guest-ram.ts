/**
 * Guest RAM as a loader sees it: guest-physical addresses, bounds-checked. Writes go by system call to host addresses;
 * no window on guest memory is opened. Every method throws a RangeError when the range is not RAM.
 */
export interface GuestRam {
  /** RAM ranges in address order: start and length in bytes. */
  readonly regions: readonly { readonly start: number; readonly length: number }[];
  write(address: number, data: Uint8Array): void;
  read(address: number, length: number): Uint8Array;
  /** Zeroes a range. */
  zero(address: number, length: number): void;
  /** Reads `length` bytes at `fileOffset` of an open file straight into guest RAM; a short file is an error. */
  readFile(fd: number, fileOffset: number, address: number, length: number): void;
}
