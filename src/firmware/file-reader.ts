import { KernelError } from "./kernel-error.ts";

/** Reads files for the loaders, so that none of them knows system calls. */
export interface FileReader {
  /**
   * Exactly `length` bytes at `offset` of an open file, in an array that the caller may write to;
   * throws when the file is shorter or cannot be read.
   */
  read(fd: number, offset: number, length: number): Uint8Array;
}

/** An open kernel file, read in pieces and never past its end. */
export class KernelFile {
  constructor(
    readonly reader: FileReader,
    readonly fd: number,
    readonly size: number,
    readonly path: string,
  ) {}

  /** Bytes of the file. `what` names them if the file ends too soon, which is a KernelError. */
  read(offset: number, length: number, what: string): Uint8Array {
    this.check(offset, length, what);
    return this.reader.read(this.fd, offset, length);
  }

  /** Fails unless the file holds `length` bytes at `offset`. */
  check(offset: number, length: number, what: string): void {
    if (offset < 0 || length < 0 || !(offset + length <= this.size)) {
      this.refuse(
        `${what} lies at ${offset}, ${length} bytes long, but the file has ${this.size} bytes`,
        "the file is damaged or cut short, fetch it again",
      );
    }
  }

  /** Ends the load: what is wrong, and what to do. */
  refuse(why: string, advice: string): never {
    throw new KernelError(`Kernel ${this.path}: ${why}; ${advice}`);
  }
}

/** Bytes in memory, read as if they were a file; what is read are views, not copies. */
export function memoryFile(bytes: Uint8Array, path: string): KernelFile {
  const reader = {
    read: (_fd: number, offset: number, length: number) => bytes.subarray(offset, offset + length),
  };
  return new KernelFile(reader, -1, bytes.length, path);
}
