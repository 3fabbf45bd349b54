/**
 * Guest RAM as an I/O worker reaches it: host addresses for system calls, and windows for the few bytes that JavaScript
 * reads itself. A window is opened when it is first needed and is at most 1 GiB long; neighbours overlap, so that any
 * range of up to `spanBytes` in one region lies whole in one window. Windows count as live heap in the thread that
 * opens them (see ARCHITECTURE.md, memory): for I/O workers alone.
 */
import { windowOn } from "../../ffi/block.ts";

/** A piece of RAM: guest-physical start and length in bytes, and where it lies in this process. */
export interface RamRange {
  readonly start: number;
  readonly length: number;
  readonly hostAddress: number;
}

const windowBytes = 2 ** 30;
/** What neighbouring windows share, and so the longest range that `windowOf` finds. */
export const spanBytes = 2 ** 16;
const strideBytes = windowBytes - spanBytes;

export class GuestWindows {
  private readonly starts: Float64Array;
  private readonly lengths: Float64Array;
  private readonly hosts: Float64Array;
  /** The number of each region's first window. */
  private readonly firsts: Int32Array;
  private readonly views: (DataView | undefined)[] = [];

  /** Regions must not overlap. Ranges of RAM that touch in both address spaces should come as one region. */
  constructor(readonly regions: readonly RamRange[]) {
    this.starts = Float64Array.from(regions, (region) => region.start);
    this.lengths = Float64Array.from(regions, (region) => region.length);
    this.hosts = Float64Array.from(regions, (region) => region.hostAddress);
    let count = 0;
    this.firsts = Int32Array.from(regions, ({ length }) => {
      const first = count;
      count += Math.ceil(length / strideBytes);
      return first;
    });
    for (let i = 0; i < count; i++) this.views.push(undefined);
  }

  /** Where `length` bytes at a guest address lie in this process; -1 unless all of them are in one region. */
  hostAddress(address: number, length: number): number {
    const region = this.regionOf(address, length);
    return region < 0 ? -1 : this.hosts[region]! + (address - this.starts[region]!);
  }

  /** The number of a window that holds `length` bytes (at most `spanBytes`) at a guest address; -1 if none does. */
  windowOf(address: number, length: number): number {
    if (length > spanBytes) return -1;
    const region = this.regionOf(address, length);
    if (region < 0) return -1;
    const stride = Math.floor((address - this.starts[region]!) / strideBytes);
    const window = this.firsts[region]! + stride;
    if (this.views[window] === undefined) this.open(region, stride);
    return window;
  }

  /** The window that `windowOf` found for an address. */
  view(window: number): DataView {
    return this.views[window]!;
  }

  /** Where in that window the address lies. */
  offsetOf(address: number): number {
    return (address - this.starts[this.regionOf(address, 1)]!) % strideBytes;
  }

  /** Bytes of RAM, little-endian. An address that was not checked before is a RangeError. */
  getUint8(address: number): number {
    return this.view(this.known(address, 1)).getUint8(this.offsetOf(address));
  }
  getUint32(address: number): number {
    return this.view(this.known(address, 4)).getUint32(this.offsetOf(address), true);
  }
  setUint8(address: number, value: number): void {
    this.view(this.known(address, 1)).setUint8(this.offsetOf(address), value);
  }

  /** A window of its own exactly over a range, for ring memory; undefined unless all of it is in one region. */
  exactly(address: number, length: number): ArrayBuffer | undefined {
    const hostAddress = this.hostAddress(address, length);
    return hostAddress < 0 ? undefined : windowOn(hostAddress, length);
  }

  /** Numbers are doubles: a sum of two guest numbers loses low bits at worst, and does not wrap around. */
  private regionOf(address: number, length: number): number {
    for (let i = 0; i < this.starts.length; i++) {
      const offset = address - this.starts[i]!;
      if (offset >= 0 && offset < this.lengths[i]! && offset + length <= this.lengths[i]!) return i;
    }
    return -1;
  }

  private known(address: number, length: number): number {
    const window = this.windowOf(address, length);
    if (window < 0) throw new RangeError(`guest address 0x${address.toString(16)} is not RAM`);
    return window;
  }

  private open(region: number, stride: number): void {
    const offset = stride * strideBytes;
    const length = Math.min(windowBytes, this.lengths[region]! - offset);
    const window = windowOn(this.hosts[region]! + offset, length);
    this.views[this.firsts[region]! + stride] = new DataView(window);
  }
}
