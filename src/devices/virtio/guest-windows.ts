/**
 * Guest RAM as an I/O worker reaches it: host addresses for system calls, and windows for the few bytes that JavaScript
 * reads itself. A window is opened when it is first needed and is about 1 GiB long; neighbours overlap, so that any
 * range of up to `spanBytes` in one region lies whole in one window. Windows count as live heap in the thread that
 * opens them (see ARCHITECTURE.md, memory): for I/O workers alone.
 *
 * Persistent memory is no RAM: buffers may lie in it, rings may not. There may be nothing behind a page of it (its file
 * was cut short), so it has no windows: system calls get EFAULT there, and what JavaScript reads goes the same way.
 */
import { windowOn } from "../../ffi/block.ts";
import { peek, peeked, poke } from "../../ffi/own-memory.ts";

/** A piece of RAM: guest-physical start and length in bytes, and where it lies in this process. */
export interface RamRange {
  readonly start: number;
  readonly length: number;
  readonly hostAddress: number;
}

/** What neighbouring windows share, and so the longest range that `windowOf` finds. */
export const spanBytes = 2 ** 16;
const strideBytes = 2 ** 30;
const windowBytes = strideBytes + spanBytes;

export class GuestWindows {
  private readonly starts: Float64Array;
  private readonly lengths: Float64Array;
  private readonly hosts: Float64Array;
  /** The number of each region's first window. */
  private readonly firsts: Int32Array;
  private readonly views: (DataView | undefined)[] = [];
  /** RAM, then persistent memory. */
  readonly regions: readonly RamRange[];
  /** How many of the regions are RAM. */
  private readonly ramCount: number;
  /** Where in its window the address lies that `windowOf` found: an int32, or the JIT does not read in place. */
  private readonly found = new Int32Array(1);
  private readonly last = new Float64Array(3);
  /** The region that an address was in last: its start and end, and how far from there it lies in this process. */
  private readonly recent = Float64Array.of(0, -1, 0);

  /** Regions must not overlap. Ranges of RAM that touch in both address spaces should come as one region. */
  constructor(ram: readonly RamRange[], persistent: readonly RamRange[] = []) {
    const regions = [...ram, ...persistent];
    this.regions = regions;
    this.ramCount = ram.length;
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

  /**
   * Where `length` bytes at a guest address lie in this process, for a system call; -1 unless all of them are in one
   * region. They may be persistent memory.
   */
  hostAddress(address: number, length: number): number {
    const { recent } = this;
    if (address >= recent[0]! && address + length <= recent[1]!) return address + recent[2]!;
    const region = this.regionOf(address, length, this.starts.length);
    if (region < 0) return -1;
    const start = this.starts[region]!;
    recent[0] = start;
    recent[1] = start + this.lengths[region]!;
    recent[2] = this.hosts[region]! - start;
    return address + recent[2];
  }

  /** The same, of RAM alone. */
  ramAddress(address: number, length: number): number {
    const region = this.regionOf(address, length, this.ramCount);
    return region < 0 ? -1 : this.hosts[region]! + (address - this.starts[region]!);
  }

  /** The number of a window that holds `length` bytes (at most `spanBytes`) at a guest address; -1 if none does. */
  windowOf(address: number, length: number): number {
    if (length > spanBytes) return -1;
    const { last } = this;
    const inside = address - last[0]!;
    if (inside >= 0 && inside + length <= last[1]!) {
      this.found[0] = inside;
      return last[2]! | 0;
    }
    const region = this.regionOf(address, length, this.ramCount);
    if (region < 0) return -1;
    const offset = address - this.starts[region]!;
    const stride = Math.floor(offset / strideBytes);
    const window = this.firsts[region]! + stride;
    if (this.views[window] === undefined) this.open(region, stride);
    this.found[0] = offset - stride * strideBytes;
    last[0] = this.starts[region]! + stride * strideBytes;
    last[1] = this.views[window]!.byteLength;
    last[2] = window;
    return window;
  }

  /** The window that `windowOf` found for an address. */
  view(window: number): DataView {
    return this.views[window]!;
  }

  /** Where in that window the address lies. */
  get offset(): number {
    return this.found[0]!;
  }

  /**
   * Bytes of guest memory, little-endian. An address that was not checked before is a RangeError. Persistent memory
   * with nothing behind it reads 0 and keeps nothing.
   */
  getUint8(address: number): number {
    const window = this.windowOf(address, 1);
    if (window >= 0) return this.views[window]!.getUint8(this.found[0]!);
    return peek(this.known(address, 1), 1) ? peeked.getUint8(0) : 0;
  }
  getUint32(address: number): number {
    const window = this.windowOf(address, 4);
    if (window >= 0) return this.views[window]!.getUint32(this.found[0]!, true);
    return peek(this.known(address, 4), 4) ? peeked.getUint32(0, true) : 0;
  }
  setUint16(address: number, value: number): void {
    const window = this.windowOf(address, 2);
    if (window >= 0) {
      this.views[window]!.setUint16(this.found[0]!, value, true);
      return;
    }
    peeked.setUint16(0, value, true);
    poke(this.known(address, 2), 2);
  }
  setUint8(address: number, value: number): void {
    const window = this.windowOf(address, 1);
    if (window >= 0) {
      this.views[window]!.setUint8(this.found[0]!, value);
      return;
    }
    peeked.setUint8(0, value);
    poke(this.known(address, 1), 1);
  }

  /** A window of its own exactly over a range, for ring memory; undefined unless all of it is in one piece of RAM. */
  exactly(address: number, length: number): ArrayBuffer | undefined {
    const hostAddress = this.ramAddress(address, length);
    return hostAddress < 0 ? undefined : windowOn(hostAddress, length);
  }

  /** Numbers are doubles: a sum of two guest numbers loses low bits at worst, and does not wrap around. */
  private regionOf(address: number, length: number, count: number): number {
    for (let i = 0; i < count; i++) {
      const offset = address - this.starts[i]!;
      if (offset >= 0 && offset < this.lengths[i]! && offset + length <= this.lengths[i]!) return i;
    }
    return -1;
  }

  private known(address: number, length: number): number {
    const hostAddress = this.hostAddress(address, length);
    if (hostAddress < 0) throw new RangeError(`guest address 0x${address.toString(16)} is not RAM`);
    return hostAddress;
  }

  private open(region: number, stride: number): void {
    const offset = stride * strideBytes;
    const length = Math.min(windowBytes, this.lengths[region]! - offset);
    const window = windowOn(this.hosts[region]! + offset, length);
    this.views[this.firsts[region]! + stride] = new DataView(window);
  }
}
