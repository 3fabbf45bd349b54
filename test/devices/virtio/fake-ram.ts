/** Guest RAM of a test: regions in one block of host memory, each between guard bytes that nobody may touch. */
import { GuestWindows, type RamRange } from "../../../src/devices/virtio/guest-windows.ts";
import { Block } from "../../../src/ffi/block.ts";

const guardBytes = 256;
const guardValue = 0xa5;

export class FakeRam {
  readonly regions: readonly RamRange[];
  readonly windows: GuestWindows;
  private readonly block: Block;
  private readonly guards: number[] = [];

  /** Lengths in bytes are multiples of 4096, and so are the starts. */
  constructor(ranges: readonly { start: number; length: number }[]) {
    const total = ranges.reduce((sum, { length }) => sum + length + 8192, 8192);
    this.block = new Block(total);
    let at = 4096 - (this.block.address % 4096);
    this.regions = ranges.map(({ start, length }) => {
      const hostAddress = this.block.address + at;
      this.guards.push(at - guardBytes, at + length);
      at += length + 4096;
      return { start, length, hostAddress };
    });
    for (const guard of this.guards) this.block.bytes.fill(guardValue, guard, guard + guardBytes);
    this.windows = new GuestWindows(this.regions);
  }

  get guardsIntact(): boolean {
    return this.guards.every((guard) =>
      this.block.bytes.subarray(guard, guard + guardBytes).every((byte) => byte === guardValue),
    );
  }

  /** `length` bytes of RAM at a guest address. */
  bytes(address: number, length: number): Uint8Array {
    for (const region of this.regions) {
      const offset = address - region.start;
      if (offset < 0 || offset + length > region.length) continue;
      return new Uint8Array(this.block.buffer, this.at(region, offset), length);
    }
    throw new RangeError(`test: ${address} is not RAM`);
  }

  view(address: number, length: number): DataView {
    const { buffer, byteOffset } = this.bytes(address, length);
    return new DataView(buffer, byteOffset, length);
  }

  /** A guest address's place in host memory, worked out from the regions alone. */
  private at(region: RamRange, offset: number): number {
    return region.hostAddress - this.block.address + offset;
  }
}
