/**
 * `--firmware`: an ELF image that finds its kernel itself, entered by its PVH note like a kernel. What it is told
 * beside the start info, and what else it expects of the machine, is in docs/firmware.md.
 */
import type { BootOptions, BootState } from "./boot-state.ts";
import { identityMapped } from "./bzimage.ts";
import { parseElf } from "./elf.ts";
import { elfMagic } from "./elf-magic.ts";
import type { KernelFile } from "./file-reader.ts";
import { bootPvh } from "./pvh.ts";
import type { Range } from "./ranges.ts";
import { checkSegments, loadFromFile } from "./segments.ts";

/** What a user may have at hand instead; chv takes it nowhere else either. */
const images = "give an ELF image with a PVH note: hypervisor-fw, or edk2's CLOUDHV.fd";

/** Loads an ELF firmware where it says, and enters it. `start` is the start of the file. */
export function bootFirmware(
  options: BootOptions,
  file: KernelFile,
  start: Uint8Array,
  free: readonly Range[],
): BootState {
  if (start.length < 4 || viewOf(start).getUint32(0, true) !== elfMagic) {
    const raw = rawFirmware(file, start);
    if (raw !== undefined) return file.refuse(`it is ${raw}`, images);
    if (start.length > 0x206 && viewOf(start).getUint32(0x202, true) === linuxMagic) {
      return file.refuse("it is a Linux kernel, not a firmware", "give it with --kernel");
    }
    return file.refuse("it is no ELF file", images);
  }
  const { segments, range, pvhEntry } = parseElf(file);
  if (pvhEntry === undefined) return file.refuse("it is an ELF file without a PVH note", images);
  checkSegments(file, segments, free);
  if (range.end > identityMapped) {
    return file.refuse("it does not lie below 4 GiB, where it is entered", images);
  }
  loadFromFile(file, segments, options.ram);
  return bootPvh(options, { entry: pvhEntry, range, initramfs: undefined, notes: [] });
}

/** "HdrS" of a bzImage's setup header (Linux, Documentation/arch/x86/boot.rst). */
const linuxMagic = 0x5372_6448;
/** "_FVH" of a firmware volume's header (UEFI PI 1.8, volume 3, section 3.2.1). */
const volumeMagic = 0x4856_465f;
const volumeMagicAt = 0x28;
/** A flash image ends at 4 GiB, and a processor starts 16 bytes below that, with a jump. */
const resetVector = 16;
const jumps: readonly number[] = [0xe9, 0xea, 0xeb];
const flashBlock = 0x1_0000;

/** What a raw firmware image is called, which needs flash under the reset vector; undefined when it is none. */
export function rawFirmware(file: KernelFile, start: Uint8Array): string | undefined {
  if (start.length >= volumeMagicAt + 4) {
    const magic = viewOf(start).getUint32(volumeMagicAt, true);
    if (magic === volumeMagic) return "a raw firmware image (an edk2 volume, such as OVMF.fd)";
  }
  if (file.size === 0 || file.size % flashBlock !== 0) return undefined;
  const [jump] = file.read(file.size - resetVector, 1, "its reset vector");
  return jumps.includes(jump!) ? "a raw firmware image, for the reset vector" : undefined;
}

const viewOf = (data: Uint8Array) => new DataView(data.buffer, data.byteOffset, data.byteLength);
