/**
 * Where Ubuntu's cloud images have their partitions, and what its mke2fs of the time makes: what `sgdisk -p` and
 * `dumpe2fs -h` show of them. All sizes in sectors of 512 bytes.
 */

export const sectorBytes = 512;

export interface Place {
  readonly number: number;
  readonly start: number;
  /** The last sector; without it, as far as the disk goes. */
  readonly last?: number;
  /** sgdisk's type code. */
  readonly type: string;
}

export interface Layout {
  /** Of the disk, in MiB. */
  readonly mebibytes: number;
  readonly places: readonly Place[];
  /** All features of its ext4. */
  readonly features: string;
  /** The root as the kernel's command line names it. */
  readonly rootBy: "LABEL" | "PARTUUID";
}

export const labels = { root: "cloudimg-rootfs", boot: "BOOT", esp: "UEFI" } as const;
export const numbers = { root: 1, bios: 14, esp: 15, boot: 16 } as const;

/** Fixed, so that GRUB's configuration can name what is yet to be made. */
export const ids = {
  rootUuid: "3f1bb3f6-9f43-4a2f-8a39-6b1e6b6f1a01",
  bootUuid: "8c6e8e1c-52b8-4f0e-9d4f-0d8b3f5d1b16",
  rootPartUuid: "b0a7c4de-1f52-4d3e-8a31-77cf6a4f0101",
} as const;

const before2024 =
  "has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super," +
  "large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

const bios: Place = { number: numbers.bios, start: 2048, last: 10_239, type: "ef02" };
const esp: Place = { number: numbers.esp, start: 10_240, last: 227_327, type: "ef00" };
const rootAfterEsp: Place = { number: numbers.root, start: 227_328, type: "8300" };

const oneRoot: Layout = {
  mebibytes: 2252,
  places: [bios, esp, rootAfterEsp],
  features: before2024,
  rootBy: "LABEL",
};

export const layouts = {
  "18.04": oneRoot,
  // with GRUB_FORCE_PARTUUID, as its images for clouds with a kernel that finds its root alone
  "19.10": { ...oneRoot, rootBy: "PARTUUID" },
  "22.04": oneRoot,
  "24.04": {
    mebibytes: 3584,
    places: [
      bios,
      esp,
      { number: numbers.boot, start: 227_328, last: 2_097_152, type: "ea00" },
      { number: numbers.root, start: 2_099_200, type: "8300" },
    ],
    features: `${before2024},metadata_csum_seed,orphan_file`,
    rootBy: "LABEL",
  },
} as const satisfies Record<string, Layout>;

export type LayoutName = keyof typeof layouts;
export const layoutNames = Object.keys(layouts) as LayoutName[];

export const layoutOf = (name: LayoutName): Layout => layouts[name];

/** Whether /boot is a partition of its own. */
export const hasBoot = ({ places }: Layout): boolean =>
  places.some(({ number }) => number === numbers.boot);

/** `root=` of the kernel's command line. */
export const rootWord = ({ rootBy }: Layout): string =>
  rootBy === "LABEL" ? `LABEL=${labels.root}` : `PARTUUID=${ids.rootPartUuid}`;

export function fstabOf(layout: Layout): string {
  const lines = [`LABEL=${labels.root}\t/\text4\tdiscard,errors=remount-ro\t0 1`];
  if (hasBoot(layout)) lines.push(`LABEL=${labels.boot}\t/boot\text4\tdefaults\t0 2`);
  lines.push(`LABEL=${labels.esp}\t/boot/efi\tvfat\tumask=0077\t0 1`);
  return `${lines.join("\n")}\n`;
}
