/**
 * Guest RAM by host address, for every thread. No window on it is opened here, so that the garbage collector of
 * the calling thread does not count it (see ARCHITECTURE.md, memory).
 */
import { pread } from "../ffi/file.ts";
import { SystemError } from "../ffi/libc.ts";
import { copyFrom, copyTo, Madvise, madvise, zeroAt } from "../ffi/memory.ts";
import type { GuestRam } from "../firmware/guest-ram.ts";

/** A piece of RAM: guest-physical start, length in bytes, and where it lies in this process. */
export interface RamRegion {
  readonly start: number;
  readonly length: number;
  readonly hostAddress: number;
}

/** Nothing has been written to it; or what it holds is to be given back; or is to stay. */
export type RamContent = "fresh" | "to discard" | "kept";

export class RamView implements GuestRam {
  /** `fresh`: nothing has been written, all of it reads zero. */
  constructor(
    readonly regions: readonly RamRegion[],
    readonly fresh = false,
  ) {}

  /** Where a range of RAM lies in this process. Throws RangeError unless all of it is in one region. */
  hostAddress(address: number, length: number): number {
    for (const region of this.regions) {
      const offset = address - region.start;
      if (offset >= 0 && length >= 0 && offset + length <= region.length) {
        return region.hostAddress + offset;
      }
    }
    throw new RangeError(
      `guest memory [0x${address.toString(16)}, 0x${(address + length).toString(16)}) is not RAM`,
    );
  }

  write(address: number, data: Uint8Array): void {
    copyTo(this.hostAddress(address, data.length), data);
  }

  read(address: number, length: number): Uint8Array {
    return copyFrom(this.hostAddress(address, length), length);
  }

  /** Fresh memory stays as it is: its pages need not become resident for it. */
  zero(address: number, length: number): void {
    const host = this.hostAddress(address, length);
    if (!this.fresh) zeroAt(host, length);
  }

  /**
   * Gives the pages back: RAM reads zero again, as after power-on. Private anonymous memory only. Where the kernel
   * keeps its pages (huge ones before 5.18), this is false, and the guest finds what it left, as in a machine that is
   * reset.
   */
  discard(): boolean {
    try {
      for (const region of this.regions) {
        madvise(region.hostAddress, region.length, Madvise.dontNeed);
      }
      return true;
    } catch (error) {
      if (error instanceof SystemError && error.code === "EINVAL") return false;
      throw error;
    }
  }

  readFile(fd: number, fileOffset: number, address: number, length: number): void {
    const count = pread(fd, this.hostAddress(address, length), length, fileOffset);
    if (count !== length) {
      throw new RangeError(`the file ends ${length - count} bytes early, at ${fileOffset + count}`);
    }
  }
}
