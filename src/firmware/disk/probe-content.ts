/** What a partition holds, by the magic numbers at its start: what chv reads, and what the rest is called. */
import type { Medium } from "./medium.ts";

export const contentNames = {
  ext: "ext4",
  vfat: "vfat",
  xfs: "XFS",
  btrfs: "Btrfs",
  f2fs: "F2FS",
  ntfs: "NTFS",
  squashfs: "SquashFS",
  erofs: "EROFS",
  iso9660: "ISO 9660",
  swap: "swap",
  luks: "LUKS, encrypted",
  lvm: "LVM",
  unknown: "nothing that chv knows",
} as const;

export type Content = keyof typeof contentNames;

/** Offset, and the bytes there. */
const magics: readonly (readonly [Content, number, string])[] = [
  ["xfs", 0, "XFSB"],
  ["luks", 0, "LUKS\xba\xbe"],
  ["squashfs", 0, "hsqs"],
  ["ntfs", 3, "NTFS    "],
  ["lvm", 512, "LABELONE"],
  ["f2fs", 1024, "\x10\x20\xf5\xf2"],
  ["erofs", 1024, "\xe2\xe1\xf5\xe0"],
  ["ext", 1080, "\x53\xef"],
  ["swap", 4086, "SWAPSPACE2"],
  ["iso9660", 0x8001, "CD001"],
  ["btrfs", 0x1_0040, "_BHRfS_M"],
];
const startBytes = 4096;

/** Reads little: one page, and a few bytes further on where that does not tell. */
export function probeContent(medium: Medium): Content {
  const start = medium.read(0, Math.min(startBytes, medium.size)).slice();
  for (const [content, at, magic] of magics) {
    if (at + magic.length > medium.size) continue;
    const inStart = at + magic.length <= start.length;
    const bytes = inStart ? start.subarray(at, at + magic.length) : medium.read(at, magic.length);
    if (String.fromCharCode(...bytes) === magic) return content;
  }
  return isFat(start) ? "vfat" : "unknown";
}

/** A boot sector: a jump, a sector size, a cluster size that FAT has. */
function isFat(start: Uint8Array): boolean {
  if (start.length < 512 || start[510] !== 0x55 || start[511] !== 0xaa) return false;
  if (start[0] !== 0xeb && start[0] !== 0xe9) return false;
  const sector = start[11]! + start[12]! * 256;
  const cluster = start[13]!;
  const reserved = start[14]! + start[15]! * 256;
  const sizes = [512, 1024, 2048, 4096].includes(sector);
  return sizes && cluster > 0 && (cluster & (cluster - 1)) === 0 && reserved > 0;
}
