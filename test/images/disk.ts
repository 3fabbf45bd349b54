/** Makes a disk image of a layout from folders: sgdisk, mke2fs and mtools, without a loop device. */
import { rmSync, truncateSync, writeFileSync } from "node:fs";
import { hasBoot, ids, type Layout, labels, numbers, type Place, sectorBytes } from "./layouts.ts";

export interface Parts {
  /** A folder that becomes the root. It has an empty /boot where that is a partition of its own. */
  readonly root: string;
  /** The same of that partition. */
  readonly boot?: string;
  /** What becomes the ESP. */
  readonly esp: string;
}

export type ImageFormat = "raw" | "zlib" | "zstd";

const env = {
  ...process.env,
  PATH: `${process.env.PATH}:/usr/sbin:/sbin`,
  MTOOLS_SKIP_CHECK: "1",
};

export function run(...command: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { env, stdin: "ignore" });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
  return stdout.toString();
}

/** Writes the image: raw, or a qcow2 whose clusters are compressed, as Ubuntu's are (by zlib). */
export function writeDisk(file: string, layout: Layout, parts: Parts, format: ImageFormat): void {
  const raw = format === "raw" ? file : `${file}.raw`;
  rmSync(raw, { force: true });
  writeFileSync(raw, "");
  truncateSync(raw, layout.mebibytes * 2 ** 20);
  run("sgdisk", ...layout.places.flatMap(partitionWords), raw);
  for (const place of layout.places) {
    if (place.number === numbers.root) extFileSystem(raw, layout, place, parts.root);
    if (place.number === numbers.boot) extFileSystem(raw, layout, place, parts.boot!);
    if (place.number === numbers.esp) espFileSystem(raw, place, parts.esp);
  }
  if (format === "raw") return;
  const options = ["-c", "-O", "qcow2", "-o", `compression_type=${format}`];
  run("qemu-img", "convert", "-m", "4", "-W", ...options, raw, file);
  rmSync(raw);
}

const partitionWords = ({ number, start, last, type }: Place): string[] => [
  ...["-n", `${number}:${start}:${last ?? 0}`, "-t", `${number}:${type}`],
  ...(number === numbers.root ? ["-u", `${number}:${ids.rootPartUuid}`] : []),
];

/** The last sectors of a disk are the copy of its GPT. */
const backupSectors = 33;
const lastSector = (layout: Layout, { last }: Place): number =>
  last ?? (layout.mebibytes * 2 ** 20) / sectorBytes - 1 - backupSectors;

function extFileSystem(raw: string, layout: Layout, place: Place, folder: string): void {
  const isRoot = place.number === numbers.root;
  const kibibytes = Math.floor(
    ((lastSector(layout, place) + 1 - place.start) * sectorBytes) / 1024,
  );
  run(
    ...["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256"],
    ...["-O", `none,${layout.features}`, "-E", `offset=${place.start * sectorBytes}`],
    ...["-U", isRoot ? ids.rootUuid : ids.bootUuid, "-L", isRoot ? labels.root : labels.boot],
    ...["-d", folder, raw, `${kibibytes & ~3}k`],
  );
}

function espFileSystem(raw: string, place: Place, folder: string): void {
  const { start, last } = place;
  const file = `${raw}.esp`;
  writeFileSync(file, "");
  truncateSync(file, (last! + 1 - start) * sectorBytes);
  run("mkfs.vfat", "-F", "32", "-n", labels.esp, file);
  run("mcopy", "-s", "-i", file, `${folder}/EFI`, "::/");
  const how = ["conv=notrunc,sparse", "status=none", `bs=${sectorBytes}`, `seek=${start}`];
  run("dd", `if=${file}`, `of=${raw}`, ...how);
  rmSync(file);
}

/** What GRUB's configuration needs to know: the file system that /boot lies on, and the path of /boot there. */
export const bootPlace = (layout: Layout): { uuid: string; path: string; partition: number } =>
  hasBoot(layout)
    ? { uuid: ids.bootUuid, path: "", partition: numbers.boot }
    : { uuid: ids.rootUuid, path: "/boot", partition: numbers.root };
