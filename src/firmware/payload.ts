/**
 * A bzImage's kernel, unpacked on the host and entered directly by the 64-bit Linux boot protocol,
 * which is also how its own decompressor enters it. Not by its PVH note: that entry knows no
 * KASLR_FLAG, and is not relocated.
 */
import type { BootOptions, BootState } from "./boot-state.ts";
import { type BzImage, identityMapped, placeImage } from "./bzimage.ts";
import { hasOption } from "./cmdline.ts";
import {
  DecompressError,
  decompress,
  type HostFormat,
  spareBytes,
  unpackedSize,
} from "./decompress.ts";
import { type ElfImage, parseElf } from "./elf.ts";
import { elfMagic } from "./elf-magic.ts";
import { type KernelFile, memoryFile } from "./file-reader.ts";
import { loadInitramfs } from "./initramfs.ts";
import { chooseDistance, findRelocations, pickBelow, relocate } from "./kaslr.ts";
import { hex, mebibytes } from "./kernel-error.ts";
import { bootLinux } from "./linux-boot.ts";
import { pickFit, type Range, subtract } from "./ranges.ts";
import { loadFromMemory } from "./segments.ts";

/** Linux maps itself with pages of 2 MiB (MIN_KERNEL_ALIGN). */
const minAlign = 0x20_0000;

/** Unpacks, relocates, loads and enters the kernel inside a bzImage. */
export function bootPayload(
  options: BootOptions,
  file: KernelFile,
  image: BzImage,
  format: HostFormat,
  free: readonly Range[],
): BootState {
  const unpacked = unpackKernel(file, image, format);
  const kernel = memoryFile(unpacked, `${file.path} (unpacked)`);
  const view = new DataView(unpacked.buffer, unpacked.byteOffset, unpacked.byteLength);
  if (unpacked.length < 64 || view.getUint32(0, true) !== elfMagic) {
    file.refuse("its payload is no ELF file", "try --kernel-entry bzimage, or another kernel");
  }
  const elf = parseElf(kernel);
  const linked = image.prefAddress;
  const size = elf.range.end - linked;
  if (elf.bits !== 64 || elf.range.start < linked || size > image.initSize) {
    file.refuse(
      `its payload does not fit its header (${hex(elf.range.start)} to ${hex(elf.range.end)}, ` +
        `${hex(image.initSize)} bytes at ${hex(linked)})`,
      "the file is damaged, fetch it again",
    );
  }
  const notes: string[] = [];
  const kaslr = randomizeVirtual(options, file, { image, unpacked, elf, notes });
  const preferred = placeImage(image, size, free);
  if (preferred === undefined) {
    return file.refuse(
      `it needs ${mebibytes(size)} of guest RAM at ${hex(linked)}, below 4 GiB`,
      "give the guest more memory",
    );
  }
  const room = subtract(free, [{ start: preferred, end: preferred + size }]);
  const initramfs = loadInitramfs(options, room, image.initramfs.preferred, image.initramfs.limit);
  const start = kaslr
    ? randomizePhysical(options, image, size, subtract(free, initramfs ? [initramfs] : []))
    : preferred;
  loadFromMemory(unpacked, elf.segments, options.ram, start - linked);
  return bootLinux(options, {
    rip: elf.entry - linked + start,
    range: { start, end: start + size },
    header: image.header,
    cmdlineLimit: image.cmdlineLimit,
    initramfs,
    kaslr,
    notes,
  });
}

function unpackKernel(file: KernelFile, image: BzImage, format: HostFormat): Uint8Array {
  const { offset, size } = image.payload;
  const buffer = file.read(offset - spareBytes, size + spareBytes, "the payload");
  try {
    const unpacked = unpackedSize(buffer.subarray(spareBytes));
    if (unpacked === 0 || unpacked > image.initSize) {
      throw new DecompressError(
        `it says it unpacks to ${unpacked} bytes, the header allows ${image.initSize}`,
      );
    }
    return decompress(format, buffer, unpacked);
  } catch (error) {
    if (!(error instanceof DecompressError)) throw error;
    return file.refuse(
      `its ${format} payload is damaged (${error.message})`,
      "fetch the file again",
    );
  }
}

/**
 * Moves the kernel in its virtual range, as its decompressor would. Whether it did; if not, a note
 * says why.
 */
function randomizeVirtual(
  { cmdline, random }: BootOptions,
  file: KernelFile,
  parts: { image: BzImage; unpacked: Uint8Array; elf: ElfImage; notes: string[] },
): boolean {
  const { image, unpacked, elf, notes } = parts;
  const off = (why: string) => {
    notes.push(`KASLR is off: ${why}`);
    return false;
  };
  if (hasOption(cmdline, "nokaslr")) return off("the command line says nokaslr");
  if (!image.relocatable) return off("the kernel is not relocatable");
  const table = findRelocations(unpacked, elf);
  if (typeof table === "string") return off(table);
  const linked = image.prefAddress;
  const size = Math.max(unpacked.length, elf.range.end - linked);
  const align = Math.max(image.alignment, minAlign);
  const distance = chooseDistance({ linked, size, align }, random);
  if (distance === undefined) return off("the kernel fills its virtual range");
  relocate(unpacked, { elf, table, distance }, file);
  return true;
}

/**
 * A random physical base. The kernel takes any that is aligned; but where the command line changes
 * the memory map behind our back, the usual place is the safe one.
 */
function randomizePhysical(
  { cmdline, random }: BootOptions,
  image: BzImage,
  size: number,
  free: readonly Range[],
): number {
  const usual = placeImage(image, size, free)!;
  const fixed = ["mem", "memmap", "hugepages"].some((name) => hasOption(cmdline, name));
  if (fixed) return usual;
  const align = Math.max(image.alignment, minAlign);
  const bounds = { minimum: image.prefAddress, limit: identityMapped };
  return pickFit(free, size, align, bounds, (count) => pickBelow(count, random)) ?? usual;
}
