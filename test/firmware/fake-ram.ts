/** Guest RAM over plain buffers, and files in memory, for the loaders' tests. */
import type { FileReader } from "../../src/firmware/file-reader.ts";
import type { GuestRam } from "../../src/firmware/guest-ram.ts";

export const MiB = 0x10_0000;

/** Files in memory; reading beyond an end is a RangeError. */
export class FakeFiles implements FileReader {
  readonly #files: Uint8Array[] = [];

  /** Makes bytes a file: its descriptor. */
  open(bytes: Uint8Array): number {
    return this.#files.push(bytes) - 1;
  }

  read(fd: number, offset: number, length: number): Uint8Array {
    const file = this.#files[fd]!;
    if (!(offset >= 0 && length >= 0 && offset + length <= file.length)) {
      throw new RangeError(`${length} bytes at ${offset} of a file of ${file.length}`);
    }
    return new Uint8Array(file.subarray(offset, offset + length));
  }
}

/** What is outside its regions is a RangeError, as in the real one. */
export class FakeRam implements GuestRam {
  readonly #bytes: readonly Uint8Array[];

  /** `fill` is what RAM holds before anything is loaded. */
  constructor(
    readonly files: FakeFiles,
    readonly regions: readonly { readonly start: number; readonly length: number }[],
    fill = 0,
  ) {
    this.#bytes = regions.map(({ length }) => new Uint8Array(length).fill(fill));
  }

  #at(address: number, length: number): Uint8Array {
    const i = this.regions.findIndex(
      (region) =>
        length >= 0 && region.start <= address && address + length <= region.start + region.length,
    );
    if (i < 0) throw new RangeError(`${length} bytes at ${address} are no RAM`);
    const offset = address - this.regions[i]!.start;
    return this.#bytes[i]!.subarray(offset, offset + length);
  }

  write(address: number, data: Uint8Array): void {
    this.#at(address, data.length).set(data);
  }
  read(address: number, length: number): Uint8Array {
    return this.#at(address, length).slice();
  }
  zero(address: number, length: number): void {
    this.#at(address, length).fill(0);
  }
  readFile(fd: number, fileOffset: number, address: number, length: number): void {
    this.write(address, this.files.read(fd, fileOffset, length));
  }

  #view(address: number, length: number): DataView {
    return new DataView(this.read(address, length).buffer);
  }
  u8(address: number): number {
    return this.#view(address, 1).getUint8(0);
  }
  u16(address: number): number {
    return this.#view(address, 2).getUint16(0, true);
  }
  u32(address: number): number {
    return this.#view(address, 4).getUint32(0, true);
  }
  u64(address: number): bigint {
    return this.#view(address, 8).getBigUint64(0, true);
  }
  /** The text up to the next NUL. */
  text(address: number): string {
    let end = address;
    while (this.u8(end) !== 0) end++;
    return new TextDecoder().decode(this.read(address, end - address));
  }
}
