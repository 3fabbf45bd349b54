/**
 * Loads a kernel into guest RAM and says how to enter it. The front of the loaders: looks at the
 * file and decides which of them takes it (docs/kernels.md).
 */
import { BootLayout } from "./boot-layout.ts";
import type { BootOptions, BootState } from "./boot-state.ts";
import { bootBzImage, isBzImage, parseBzImage } from "./bzimage.ts";
import { isHostFormat, type PayloadFormat, payloadFormat } from "./decompress.ts";
import { usableRanges } from "./e820.ts";
import { elfMagic } from "./elf-magic.ts";
import { type FileReader, KernelFile } from "./file-reader.ts";
import type * as Firmware from "./firmware.ts";
import { hex, KernelError } from "./kernel-error.ts";
import { bootPayload } from "./payload.ts";
import { holds, type Range, subtract } from "./ranges.ts";
import { bootElf } from "./vmlinux.ts";

export type { BootOptions, BootState, KernelEntry, SegmentState } from "./boot-state.ts";
export type { FileReader } from "./file-reader.ts";
export { KernelError };

/** Formats with which userspace is reached sooner if they are unpacked here (measured, docs/kernels.md). */
const hostWins: readonly PayloadFormat[] = ["gzip"];

/**
 * Writes kernel, initramfs, command line and boot tables into guest RAM. Throws a KernelError,
 * whose message is for the user, when the files cannot be booted; guest RAM is then in no defined
 * state.
 */
export function loadKernel(options: BootOptions, reader: FileReader): BootState {
  const { kernelFd, kernelSize, kernelPath } = options;
  const file = new KernelFile(reader, kernelFd, kernelSize, kernelPath);
  const free = freeMemory(options);
  const start = file.read(0, Math.min(kernelSize, 4096), "its start");
  if (options.firmware) return firmwares().bootFirmware(options, file, start, free);
  if (isElf(start)) return bootElf(options, file, free);
  if (!isBzImage(start)) return unknownFile(file, start);

  const image = parseBzImage(file);
  const { offset, size } = image.payload;
  const format = payloadFormat(file.read(offset, Math.min(size, 8), "the payload"));
  if (options.entry === "bzimage" || (options.entry === "auto" && !isQuicker(format))) {
    const notes = options.entry === "auto" ? remark(format) : [];
    return bootBzImage(options, file, image, free, notes);
  }
  if (format !== undefined && isHostFormat(format)) {
    return bootPayload(options, file, image, format, free);
  }
  return file.refuse(
    `its payload is ${format ?? "of no known format"}, which is not unpacked on the host`,
    "leave --kernel-entry out, or say --kernel-entry bzimage",
  );
}

/** Loaded where it is asked for. */
const firmwares = () => require("./firmware.ts") as typeof Firmware;

const isQuicker = (format: PayloadFormat | undefined): boolean =>
  format !== undefined && hostWins.includes(format);

/** What to tell about a payload that only the kernel can unpack. */
function remark(format: PayloadFormat | undefined): string[] {
  if (format !== undefined && isHostFormat(format)) return [];
  const name = format ?? "of no known format";
  return [
    `The payload is ${name}, which the kernel unpacks itself: LZ4 or zstd would start sooner`,
  ];
}

/** Guest RAM without the boot tables: what loaders may write to, in address order. */
function freeMemory({ e820 }: BootOptions): Range[] {
  const usable = usableRanges(e820);
  if (!holds(usable, BootLayout.start, BootLayout.end)) {
    throw new KernelError(
      `Guest memory: the boot tables need RAM up to ${hex(BootLayout.end)}; give the guest more`,
    );
  }
  return subtract(usable, [{ start: 0, end: BootLayout.end }]);
}

function isElf(start: Uint8Array): boolean {
  return (
    start.length >= 4 &&
    new DataView(start.buffer, start.byteOffset, 4).getUint32(0, true) === elfMagic
  );
}

/** Other things that are handed over as kernels, by their first bytes. */
const strangers: readonly (readonly [string, string])[] = [
  ["MZ", "a PE image for a firmware, not a bzImage"],
  ["QFI\xfb", "a qcow2 disk image"],
  ["070701", "a cpio archive, such as an initramfs"],
  ["#!", "a script"],
];

function unknownFile(file: KernelFile, start: Uint8Array): never {
  const text = String.fromCharCode(...start.subarray(0, 8));
  const stranger =
    strangers.find(([magic]) => text.startsWith(magic))?.[1] ??
    firmwares().rawFirmware(file, start);
  const packed = payloadFormat(start);
  const what = stranger ?? (packed && `${packed} data`);
  return file.refuse(
    `it is neither a bzImage nor an ELF file${what === undefined ? "" : ` but ${what}`}`,
    packed === undefined
      ? "give /boot/vmlinuz-* or an uncompressed vmlinux"
      : "unpack it first, or give /boot/vmlinuz-*",
  );
}
