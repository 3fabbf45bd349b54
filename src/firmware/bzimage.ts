/**
 * bzImage files: the real-mode setup header (Linux Documentation/arch/x86/boot.rst, "The Real-Mode
 * Kernel Header"), read and checked, and the load of the protected-mode part for the kernel's own
 * decompressor.
 *
 * The 64-bit entry needs `xloadflags`, so the oldest protocol accepted is 2.12 (Linux 3.8, 2013).
 */
import {
  bootFlag,
  headerMagic,
  LoadFlags,
  SetupHeader,
  setupHeaderLimit,
  setupHeaderOffset,
  XLoadFlags,
} from "./boot-params.ts";
import type { BootOptions, BootState } from "./boot-state.ts";
import type { KernelFile } from "./file-reader.ts";
import { loadInitramfs } from "./initramfs.ts";
import { hex, mebibytes } from "./kernel-error.ts";
import { bootLinux } from "./linux-boot.ts";
import { holds, lowestFit, type Range, subtract } from "./ranges.ts";

const GiB = 2 ** 30;
/** Linux maps its image within 1 GiB (KERNEL_IMAGE_SIZE), so no x86-64 kernel is larger. */
const maxInitSize = GiB;
/** The boot page tables map this much, and low RAM ends below it. */
export const identityMapped = 4 * GiB;
/** Offset of the 64-bit entry point from the start of the protected-mode part. */
const entry64 = 0x200;
const minVersion = 0x020c;
/** The boot command line area of boot-layout.ts, less a NUL. */
const maxCmdline = 0xffff;

/** What the loaders use of a bzImage's header; sizes and offsets in bytes, all within the file. */
export interface BzImage {
  /** The header's bytes, as boot_params takes them. */
  readonly header: Uint8Array;
  /** The protected-mode part. */
  readonly code: { readonly offset: number; readonly size: number };
  /** The compressed kernel inside it. */
  readonly payload: { readonly offset: number; readonly size: number };
  readonly initSize: number;
  readonly prefAddress: number;
  readonly alignment: number;
  readonly relocatable: boolean;
  readonly cmdlineLimit: number;
  /** The initramfs ends at or below `preferred` if it can, and always at or below `limit`. */
  readonly initramfs: { readonly preferred: number; readonly limit: number };
}

/** Whether the start of a file looks like a bzImage. */
export function isBzImage(start: Uint8Array): boolean {
  if (start.length < 0x206) return false;
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  return view.getUint16(0x1fe, true) === bootFlag && view.getUint32(0x202, true) === headerMagic;
}

/** Reads and checks the header; a KernelError names what is wrong. */
export function parseBzImage(file: KernelFile): BzImage {
  const start = file.read(0, setupHeaderLimit, "the setup header");
  const hdr = new SetupHeader(
    new DataView(start.buffer, start.byteOffset, start.byteLength),
    setupHeaderOffset,
  );
  const { version, xloadflags, kernel_alignment, pref_address, init_size } = hdr;
  const protocol = `${version >> 8}.${(version & 0xff).toString().padStart(2, "0")}`;
  if (version < minVersion) {
    file.refuse(
      `its boot protocol is ${protocol}, 2.12 is the oldest with a 64-bit entry`,
      "give Linux 3.8 or later",
    );
  }
  if ((xloadflags & XLoadFlags.kernel64) === 0) {
    file.refuse("it has no 64-bit entry (XLF_KERNEL_64)", "give a kernel built for x86-64");
  }
  const damaged = (why: string) => file.refuse(why, "the file is damaged, fetch it again");
  if ((hdr.loadflags & LoadFlags.loadedHigh) === 0) damaged("it is a zImage, not loaded high");
  if (!isPowerOfTwo(kernel_alignment)) {
    damaged(`its kernel_alignment ${hex(kernel_alignment)} is no power of two`);
  }
  if (!(pref_address < identityMapped) || pref_address % kernel_alignment !== 0) {
    damaged(`its pref_address ${hex(pref_address)} is above 4 GiB or not aligned`);
  }
  if (init_size === 0 || init_size > maxInitSize) {
    damaged(`its init_size is ${init_size} bytes, 1 to ${maxInitSize} are accepted`);
  }
  if (hdr.cmdline_size === 0) damaged("its cmdline_size is 0");
  const code = protectedModePart(file, hdr.setup_sects, hdr.syssize);
  const payload = { offset: code.offset + hdr.payload_offset, size: hdr.payload_length };
  if (payload.offset + payload.size > code.offset + code.size) {
    damaged(`its payload (${payload.size} bytes) runs past the protected-mode part`);
  }
  const limit = hdr.initrd_addr_max + 1;
  return {
    header: start.slice(setupHeaderOffset, headerEnd(start)),
    code,
    payload,
    initSize: init_size,
    prefAddress: pref_address,
    alignment: kernel_alignment,
    relocatable: hdr.relocatable_kernel !== 0,
    cmdlineLimit: Math.min(hdr.cmdline_size, maxCmdline),
    initramfs: {
      preferred: limit,
      limit: (xloadflags & XLoadFlags.above4G) === 0 ? limit : Number.MAX_SAFE_INTEGER,
    },
  };
}

/** boot.rst: the header ends at 0x202 plus the byte at 0x201, which is the jump's distance. */
const headerEnd = (start: Uint8Array): number => Math.min(0x202 + start[0x201]!, setupHeaderLimit);

const isPowerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;

/**
 * `setup_sects` 0 means 4; `syssize` counts paragraphs, the last of which may be cut short in the
 * file.
 */
function protectedModePart(file: KernelFile, setupSects: number, syssize: number) {
  const offset = ((setupSects || 4) + 1) * 512;
  const declared = syssize * 16;
  if (declared <= entry64) {
    file.refuse(
      `its syssize (${declared} bytes) ends before its 64-bit entry`,
      "the file is damaged, fetch it again",
    );
  }
  file.check(offset, Math.max(declared - 15, entry64 + 1), "the protected-mode part");
  return { offset, size: Math.min(declared, file.size - offset) };
}

/** Loads the protected-mode part, which decompresses the kernel by itself, and enters it. */
export function bootBzImage(
  options: BootOptions,
  file: KernelFile,
  image: BzImage,
  free: readonly Range[],
  notes: readonly string[],
): BootState {
  const size = Math.max(image.initSize, image.code.size);
  const start = placeImage(image, size, free);
  if (start === undefined) {
    return file.refuse(
      `it needs ${mebibytes(size)} of guest RAM at ${hex(image.prefAddress)}` +
        `${image.relocatable ? " or above" : ""}, below 4 GiB`,
      "give the guest more memory",
    );
  }
  options.ram.readFile(file.fd, image.code.offset, start, image.code.size);
  const range = { start, end: start + size };
  const { preferred, limit } = image.initramfs;
  return bootLinux(options, {
    rip: start + entry64,
    range,
    header: image.header,
    cmdlineLimit: image.cmdlineLimit,
    initramfs: loadInitramfs(options, subtract(free, [range]), preferred, limit),
    kaslr: false, // the kernel's decompressor chooses, and tells the kernel itself
    notes,
  });
}

/** The preferred address if it is free, else, for a relocatable kernel, the next one that is. */
export function placeImage(
  image: Pick<BzImage, "prefAddress" | "relocatable" | "alignment">,
  size: number,
  free: readonly Range[],
): number | undefined {
  const { prefAddress, relocatable, alignment } = image;
  if (holds(free, prefAddress, prefAddress + size)) return prefAddress;
  return relocatable ? lowestFit(free, size, alignment, prefAddress) : undefined;
}
