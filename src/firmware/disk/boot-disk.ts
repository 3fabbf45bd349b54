/**
 * Reads from a disk what it boots: the partition table, the ESP, GRUB's configuration, entries of the Boot Loader
 * Specification, unified kernel images. Reads only what that takes; never writes (docs/disk-boot.md).
 */
import { type BootSetup, type BootSource, fileOf, NoBootSetup } from "./boot-setup.ts";
import { bootGrub, type GrubBoot } from "./grub/grub.ts";
import { DiskError } from "./medium.ts";
import { peSections } from "./pe.ts";
import {
  bootCandidate,
  bootImage,
  candidatesOf,
  chooseCandidate,
  type DirectBoot,
  defaultOf,
} from "./systemd-boot.ts";
import { PartitionType, type Volume, Volumes } from "./volumes.ts";

/** Where distributions put GRUB's configuration; on a partition that is /boot, without that. */
const grubPlaces = [
  ...["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/grub/grub.cfg", "/grub2/grub.cfg"],
] as const;
const imageBytesMax = 2 ** 30;
const removableImage = "/EFI/BOOT/BOOTX64.EFI";
/** Where /boot may lie, and chv cannot look. */
const unread = ["xfs", "btrfs", "f2fs", "erofs", "squashfs", "luks", "lvm", "ntfs"];

/** Throws DiskError, or NoBootSetup when the disk has none. */
export function readBootSetup({ disk, entry }: BootSource): BootSetup {
  return bootSetupOf(Volumes.of(disk), entry);
}

/** The same of partitions that were found. */
export function bootSetupOf(volumes: Volumes, entry?: string): BootSetup {
  const esps = volumes.all.filter((volume) => volume.hasType(PartitionType.esp));
  const notes: string[] = [];
  const found =
    fromSystemdBoot(volumes, esps, entry) ??
    fromStubs(volumes, esps, entry, notes) ??
    fromGrub(volumes, entry) ??
    fromEntries(volumes, entry) ??
    fromImage(volumes, esps, entry);
  if (found) return { ...found, notes: [...notes, ...found.notes] };
  throw new NoBootSetup(`no boot set-up on ${volumes.shown}${told(volumes, notes)}`);
}

function told(volumes: Volumes, notes: readonly string[]): string {
  const looked = `looked for ${grubPlaces.join(", ")}, /loader/entries, /EFI/*/grub.cfg, /EFI/Linux`;
  const strangers = volumes.all.filter(({ content }) => unread.includes(content));
  const hidden = strangers.map((volume) => volume.shown).join(", ");
  const more = strangers.length > 0 ? [`chv does not read ${hidden}`] : [];
  return `: ${[...notes, ...more, looked].join("; ")}`;
}

/** A part of the result that depends on the loader. */
function setup(
  volumes: Volumes,
  loader: BootSetup["loader"],
  { title, config, kernel, initrds, cmdline, notes }: DirectBoot,
): BootSetup {
  const spec = rootOf(cmdline);
  const root = spec === undefined ? undefined : volumes.byRoot(spec);
  const missing =
    spec !== undefined && !root && /^(?:LABEL|UUID|PARTUUID|PARTLABEL)=/.test(spec)
      ? [`root device ${spec} is not on this disk (${volumes.shown})`]
      : [];
  return {
    ...{ loader, title, config, kernel, initrds, cmdline },
    root: root?.shown,
    rootPartUuid: root?.partition?.uuid,
    disk: volumes.shown,
    notes: [...notes, ...missing],
  };
}

/** The last `root=` counts, as for Linux. */
export function rootOf(cmdline: string): string | undefined {
  const [own = ""] = cmdline.split(" -- ");
  const last = [...own.matchAll(/(?:^|\s)root=("[^"]*"|\S+)/g)].at(-1);
  return last?.[1]?.replaceAll('"', "");
}

function grubSetup(volumes: Volumes, volume: Volume, boot: GrubBoot): BootSetup {
  const { kernel, initrds, ...rest } = boot;
  const config = `${boot.config.replace(/^\([^)]*\)/, "")} of ${configVolume(volumes, boot.config, volume).shown}`;
  return setup(volumes, "GRUB", {
    ...{ ...rest, config, kernel: fileOf(kernel.volume, kernel.path) },
    initrds: initrds.map((file) => fileOf(file.volume, file.path)),
  });
}

const configVolume = (volumes: Volumes, config: string, start: Volume): Volume =>
  volumes.byDevice(/^\(([^)]*)\)/.exec(config)?.[1] ?? "") ?? start;

/** systemd-boot's own: where the ESP says that it is its loader. */
function fromSystemdBoot(
  volumes: Volumes,
  esps: readonly Volume[],
  wanted: string | undefined,
): BootSetup | undefined {
  const esp = esps.find((volume) => {
    const files = volume.readable;
    const own = files?.list("/loader")?.some((name) => /^(?:loader\.conf|entries)$/i.test(name));
    return own || (files?.list("/EFI/Linux") ?? []).some((name) => /\.efi$/i.test(name));
  });
  if (!esp) return undefined;
  const boots = volumes.all.filter((volume) => volume.hasType(PartitionType.boot));
  return choose(volumes, [esp, ...boots], esp, wanted);
}

function choose(
  volumes: Volumes,
  on: readonly Volume[],
  esp: Volume | undefined,
  wanted: string | undefined,
): BootSetup | undefined {
  const candidates = candidatesOf(on);
  if (candidates.length === 0) return undefined;
  const notes: string[] = [];
  const chosen = chooseCandidate(candidates, wanted, defaultOf(esp), notes);
  const boot = bootCandidate(chosen);
  const loader = chosen.entry ? "systemd-boot" : "UKI";
  return setup(volumes, loader, { ...boot, notes: [...notes, ...boot.notes] });
}

/** GRUB's configuration on the ESP: a stub that leads on, or all of it. A stub that leads nowhere is a note. */
function fromStubs(
  volumes: Volumes,
  esps: readonly Volume[],
  wanted: string | undefined,
  notes: string[],
): BootSetup | undefined {
  for (const esp of esps) {
    const files = esp.readable;
    for (const vendor of (files?.list("/EFI") ?? []).slice(0, 100)) {
      const name = files!.list(`/EFI/${vendor}`)?.find((one) => /^grub\.cfg$/i.test(one));
      if (name === undefined) continue;
      const path = `/EFI/${vendor}/${name}`;
      try {
        return grubSetup(volumes, esp, bootGrub(volumes, esp, path, wanted));
      } catch (error) {
        if (!(error instanceof DiskError) || !error.message.includes("no menu entries"))
          throw error;
        notes.push(error.message);
      }
    }
  }
  return undefined;
}

function fromGrub(volumes: Volumes, wanted: string | undefined): BootSetup | undefined {
  for (const volume of volumes.all) {
    for (const path of grubPlaces) {
      const folder = volume.readable?.list(path.replace(/\/[^/]*$/, ""));
      if (!folder?.includes("grub.cfg")) continue;
      return grubSetup(volumes, volume, bootGrub(volumes, volume, path, wanted));
    }
  }
  return undefined;
}

/** Entries of the specification without a loader of their own. */
function fromEntries(volumes: Volumes, wanted: string | undefined): BootSetup | undefined {
  const on = volumes.all.filter((volume) => volume.readable !== undefined);
  return choose(volumes, on, on[0], wanted);
}

/** The image that firmware starts when nothing else is set. */
function fromImage(
  volumes: Volumes,
  esps: readonly Volume[],
  wanted: string | undefined,
): BootSetup | undefined {
  for (const esp of esps) {
    const file = esp.readable?.readFile(removableImage, imageBytesMax);
    if (!file || !peSections(file)?.has(".linux")) continue;
    if (wanted !== undefined && wanted !== "0") {
      throw new DiskError(`no boot entry "${wanted}"; there is ${removableImage}`);
    }
    return setup(volumes, "UKI", bootImage(esp, removableImage, removableImage));
  }
  return undefined;
}
