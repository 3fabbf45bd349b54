/**
 * The front end's memory, as its table says: pieces of files, mapped here in the order of their guest addresses, so
 * that pieces which touch there touch here as well and a buffer may run across them. Rings are named by the front
 * end's own addresses ("user addresses"), all else by guest-physical ones.
 */
import { fstatSync } from "node:fs";
import { close } from "../../ffi/file.ts";
import { MapFlag, mmap, munmap, Prot } from "../../ffi/memory.ts";
import { GuestWindows, type RamRange } from "../virtio/guest-windows.ts";
import { Refusal } from "./errors.ts";

/** One row of the table. The descriptor belongs to the table while the row is in it. */
export interface Region {
  readonly guest: number;
  readonly size: number;
  readonly user: number;
  readonly offset: number;
  readonly fd: number;
}

/** What GET_MAX_MEM_SLOTS answers. */
export const maxRegions = 64;
/** Numbers above are no addresses of x86-64, and not exact in a double. */
const maxAddress = 2 ** 52;
const pageBytes = 4096;

interface Mapped {
  readonly windows: GuestWindows;
  readonly spans: readonly RamRange[];
}

export class MemoryTable {
  private readonly regions: Region[] = [];
  /** One, or none while there is no memory. */
  private readonly mapped: Mapped[] = [];

  /** Guest RAM; undefined while there is none. Another one after each change. */
  get windows(): GuestWindows | undefined {
    return this.mapped[0]?.windows;
  }

  /** The guest-physical address of a user address; -1 when it lies in no region. */
  guestAddress(user: number): number {
    const region = this.regions.find((one) => user >= one.user && user < one.user + one.size);
    return region ? region.guest + (user - region.user) : -1;
  }

  /** Throws Refusal when the regions cannot be; nobody's descriptor is closed. */
  static check(regions: readonly Region[]): void {
    if (regions.length > maxRegions) throw new Refusal(`more than ${maxRegions} regions`);
    for (const region of regions) {
      checkOne(region);
      const overlaps = (a: "guest" | "user") =>
        regions.some(
          (other) =>
            other !== region &&
            region[a] < other[a] + other.size &&
            other[a] < region[a] + region.size,
        );
      if (overlaps("guest") || overlaps("user")) throw new Refusal("regions overlap");
    }
  }

  /**
   * Puts other regions in place of those there are, and takes over their descriptors. Nothing may touch the old memory
   * any more. Throws Refusal or SystemError; the table is empty then.
   */
  replace(regions: readonly Region[]): void {
    this.unmap();
    const gone = this.regions.filter(({ fd }) => !regions.some((region) => region.fd === fd));
    this.regions.splice(0, this.regions.length, ...regions);
    for (const { fd } of gone) close(fd);
    if (regions.length === 0) return;
    try {
      this.map();
    } catch (error) {
      this.clear();
      throw error;
    }
  }

  /** The table with one more region, or without one, for `replace`. */
  with(region: Region): Region[] {
    return [...this.regions, region];
  }
  without({ guest, user, size }: Omit<Region, "fd" | "offset">): Region[] {
    const rest = this.regions.filter(
      (one) => one.guest !== guest || one.user !== user || one.size !== size,
    );
    if (rest.length === this.regions.length) throw new Refusal("no such region");
    return rest;
  }

  clear(): void {
    this.replace([]);
  }

  private map(): void {
    const spans: RamRange[] = [];
    try {
      for (const run of runs(this.regions)) spans.push(mapRun(run));
    } catch (error) {
      for (const span of spans) munmap(span.hostAddress, span.length);
      throw error;
    }
    this.mapped.push({ windows: new GuestWindows(spans), spans });
  }

  private unmap(): void {
    for (const { spans } of this.mapped.splice(0)) {
      for (const { hostAddress, length } of spans) munmap(hostAddress, length);
    }
  }
}

/** A region beyond the end of its file would be a bus error at the first touch. */
function checkOne({ guest, size, user, offset, fd }: Region): void {
  const ends = [guest + size, user + size, offset + size];
  if (size === 0 || ends.some((end) => !(end <= maxAddress))) throw new Refusal("a region's size");
  const pages = [guest, size, user, offset].every((number) => number % pageBytes === 0);
  if (!pages) throw new Refusal("a region that is not whole pages");
  const { size: fileBytes } = fstatSync(fd);
  if (offset + size > fileBytes) throw new Refusal("a region beyond the end of its file");
}

/** Regions that touch, in order. */
function runs(regions: readonly Region[]): Region[][] {
  const found: Region[][] = [];
  for (const region of regions.toSorted((a, b) => a.guest - b.guest)) {
    const last = found.at(-1)?.at(-1);
    if (last && last.guest + last.size === region.guest) found.at(-1)!.push(region);
    else found.push([region]);
  }
  return found;
}

/** Reserves room for all of a run, and lays the regions into it. Huge pages want their alignment at each end. */
function mapRun(run: readonly Region[]): RamRange {
  const start = run[0]!.guest;
  const length = run.reduce((sum, { size }) => sum + size, 0);
  const align = Math.max(...run.map(({ fd }) => Math.max(fstatSync(fd).blksize, pageBytes)));
  const none = MapFlag.private | MapFlag.anonymous | MapFlag.noReserve;
  const reserved = mmap(0, length + align, Prot.none, none);
  const hostAddress = Math.ceil(reserved / align) * align;
  try {
    if (hostAddress > reserved) munmap(reserved, hostAddress - reserved);
    const tail = reserved + align - hostAddress;
    if (tail > 0) munmap(hostAddress + length, tail);
    const flags = MapFlag.shared | MapFlag.fixed | MapFlag.noReserve;
    for (const { guest, size, offset, fd } of run) {
      const at = hostAddress + (guest - start);
      mmap(at, size, Prot.read | Prot.write, flags, fd, offset);
    }
    return { start, length, hostAddress };
  } catch (error) {
    munmap(hostAddress, length);
    throw error;
  }
}
