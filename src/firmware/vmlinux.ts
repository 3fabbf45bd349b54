/**
 * ELF kernels: entered by their PVH note if they have one, else by the 64-bit Linux boot protocol.
 */
import type { BootOptions, BootState } from "./boot-state.ts";
import { identityMapped } from "./bzimage.ts";
import { defaultCmdlineLimit } from "./cmdline.ts";
import { parseElf } from "./elf.ts";
import type { KernelFile } from "./file-reader.ts";
import { loadInitramfs } from "./initramfs.ts";
import { hex } from "./kernel-error.ts";
import { bootLinux } from "./linux-boot.ts";
import { bootPvh } from "./pvh.ts";
import { type Range, subtract } from "./ranges.ts";
import { checkSegments, loadFromFile } from "./segments.ts";

/**
 * Without a setup header to say otherwise: where every x86 kernel since 2.6.20 can reach its
 * initramfs.
 */
const initrdLimit = 0x8000_0000;

/** Loads an ELF file and enters it. */
export function bootElf(options: BootOptions, file: KernelFile, free: readonly Range[]): BootState {
  const elf = parseElf(file);
  const { segments, range, pvhEntry } = elf;
  if (options.entry === "bzimage") {
    file.refuse(
      "it is an ELF file, which has no decompressor of its own",
      "leave --kernel-entry out, or give a bzImage",
    );
  }
  checkSegments(file, segments, free);
  if (pvhEntry === undefined && elf.bits === 32) {
    file.refuse(
      "it is a 32-bit ELF file without a PVH note",
      "give a 64-bit kernel, or one with CONFIG_PVH",
    );
  }
  if (pvhEntry === undefined && range.end > identityMapped) {
    file.refuse(`it ends at ${hex(range.end)}, above 4 GiB`, "link it below");
  }
  loadFromFile(file, segments, options.ram);
  const place = (limit: number) =>
    loadInitramfs(options, subtract(free, [range]), initrdLimit, limit);
  if (pvhEntry !== undefined) {
    return bootPvh(options, {
      entry: pvhEntry,
      range,
      initramfs: place(identityMapped),
      notes: ["KASLR is off: the PVH entry has no way to ask for it"],
    });
  }
  return bootLinux(options, {
    rip: elf.entry,
    range,
    cmdlineLimit: defaultCmdlineLimit,
    initramfs: place(Number.MAX_SAFE_INTEGER),
    kaslr: false,
    notes: ["KASLR is off: an ELF kernel is loaded where it was linked"],
  });
}
