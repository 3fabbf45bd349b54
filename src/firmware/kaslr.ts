/**
 * Kernel address space layout randomization for a kernel that is entered directly, as its own
 * decompressor would have done it (linux/arch/x86/boot/compressed/kaslr.c and misc.c): choose a
 * virtual base, and add the distance to every place listed in the relocation table that the build
 * appends to vmlinux.
 *
 * The table is words, each a kernel address cut to 32 bits. Each list starts with a zero word:
 * places of 64 bits; places of 32 bits that take the distance negated (per-CPU data; Linux 6.15
 * dropped this list); places of 32 bits. linux/arch/x86/tools/relocs.c writes it.
 */
import type { ElfImage, Segment } from "./elf.ts";
import type { KernelFile } from "./file-reader.ts";
import { hex } from "./kernel-error.ts";

/**
 * The kernel image is mapped within 1 GiB from here (KERNEL_IMAGE_SIZE, __START_KERNEL_map of a
 * KASLR kernel).
 */
const kernelMap = 0x8000_0000; // the low word of 0xffffffff80000000
const kernelImageSize = 2 ** 30;

/**
 * Where the kernel has to be changed when it moves: lists of words, each a kernel address cut to 32
 * bits.
 */
export interface RelocationTable {
  readonly absolute64: Uint32Array;
  readonly inverse32: Uint32Array;
  readonly absolute32: Uint32Array;
}

/** Finds the table behind the ELF file, or says why there is none that can be trusted. */
export function findRelocations(image: Uint8Array, elf: ElfImage): RelocationTable | string {
  const size = image.length - elf.fileEnd;
  if (size <= 0) return "the kernel has no relocation table";
  if (size % 4 !== 0) return "its relocation table is not made of words";
  const words = new Uint32Array(image.slice(elf.fileEnd).buffer); // a copy, for the alignment
  const lists: Uint32Array[] = [];
  for (let start = words.indexOf(0); start >= 0 && lists.length < 4; ) {
    const next = words.indexOf(0, start + 1);
    lists.push(words.subarray(start + 1, next < 0 ? words.length : next));
    start = next;
  }
  const [first, second, third] = lists;
  if (words[0] !== 0 || first === undefined || second === undefined || lists.length > 3) {
    return "what follows the kernel is no relocation table";
  }
  return third === undefined
    ? { absolute64: first, inverse32: new Uint32Array(0), absolute32: second }
    : { absolute64: first, inverse32: second, absolute32: third };
}

/** `count` equally likely numbers from 0; the bias is below 2^-30 for any count that occurs. */
export function pickBelow(count: number, random: (bytes: number) => Uint8Array): number {
  const value = random(6).reduce((sum, byte) => sum * 256 + byte, 0);
  return value % count;
}

/**
 * A random distance to move the kernel up in its virtual range, a multiple of `align`; undefined
 * when there is no room. `linked` is the physical address it was linked for, `size` what it takes,
 * unpacked file and memory alike.
 */
export function chooseDistance(
  { linked, size, align }: { linked: number; size: number; align: number },
  random: (bytes: number) => Uint8Array,
): number | undefined {
  const room = kernelImageSize - linked - size;
  if (room < align) return undefined;
  return align * pickBelow(Math.floor(room / align) + 1, random);
}

/**
 * The part of the image that a run of places lies in; lists are sorted, so that it seldom changes.
 */
interface Run {
  /** Guest-physical, as linked: the first byte, and the end of the part that is in the file. */
  readonly start: number;
  readonly end: number;
  /** From a place to its offset in the image. */
  readonly shift: number;
}
const noRun: Run = { start: 1, end: 0, shift: 0 };

/**
 * Adds `distance`, a multiple of 64 KiB, to every listed place of the unpacked ELF file, in place.
 * A place outside the loaded segments is a KernelError.
 */
export function relocate(
  image: Uint8Array,
  { elf, table, distance }: { elf: ElfImage; table: RelocationTable; distance: number },
  file: KernelFile,
): void {
  const units = distance / 0x1_0000;
  if (!Number.isInteger(units)) throw new RangeError(`${distance} is no multiple of 64 KiB`);
  add(image, table.absolute32, units, false, elf.segments, file);
  add(image, table.inverse32, -units, false, elf.segments, file);
  add(image, table.absolute64, units, true, elf.segments, file);
}

/**
 * Adds `units` of 64 KiB to each place of a list. Places are not aligned, and there are a quarter
 * of a million of them in a loop that runs once: by bytes it takes a quarter of the time of
 * DataView calls, which are slow until compiled. The low 16 bits never change.
 */
function add(
  image: Uint8Array,
  list: Uint32Array,
  units: number,
  wide: boolean,
  segments: readonly Segment[],
  file: KernelFile,
): void {
  const width = wide ? 8 : 4;
  let run = noRun;
  for (let i = 0; i < list.length; i++) {
    const place = list[i]! - kernelMap;
    if (place < run.start || place + width > run.end) {
      run = runOf(segments, place, width, file);
    }
    const at = place + run.shift + 2;
    const sum = (image[at]! | (image[at + 1]! << 8)) + units;
    image[at] = sum;
    image[at + 1] = sum >> 8;
    if (wide && sum > 0xffff) carry(image, at + 2);
  }
}

/** Adds one to the upper word of a 64-bit place. */
function carry(image: Uint8Array, at: number): void {
  for (let byte = at; byte < at + 4; byte++) {
    image[byte] = image[byte]! + 1;
    if (image[byte] !== 0) return;
  }
}

/**
 * The segment whose part of the file holds `width` bytes at guest-physical `place`, as the kernel
 * was linked.
 */
function runOf(segments: readonly Segment[], place: number, width: number, file: KernelFile): Run {
  const found = segments.find(
    ({ address, fileSize }) => address <= place && place + width <= address + fileSize,
  );
  if (found === undefined) {
    return file.refuse(
      `its relocation table lists ${hex(place + kernelMap)}, outside the kernel`,
      "the file is damaged, fetch it again",
    );
  }
  const { address: start, fileSize, offset } = found;
  return { start, end: start + fileSize, shift: offset - start };
}
