/**
 * What systemd-boot boots: entries of the Boot Loader Specification and unified kernel images, on the ESP and on the
 * extended boot loader partition; `loader.conf` names the default.
 */
import { type BlsEntry, readBlsEntry, sortBlsEntries } from "./bls.ts";
import { type BootFile, fileOf } from "./boot-setup.ts";
import { DiskError } from "./medium.ts";
import { peSections } from "./pe.ts";
import { compareVersions } from "./versions.ts";
import type { Volume } from "./volumes.ts";

const confBytesMax = 2 ** 16;
/** Entries and images that are looked at. */
const filesMax = 1000;
const imageBytesMax = 2 ** 30;

/** An entry of the menu. */
export interface Candidate {
  /** With its ending, as `loader.conf` names it: "6.1-arch.conf", "linux.efi". */
  readonly id: string;
  readonly title: string;
  readonly volume: Volume;
  /** Of the entry, or of the image. */
  readonly path: string;
  readonly entry: BlsEntry | undefined;
}

export interface DirectBoot {
  readonly title: string;
  readonly config: string;
  readonly kernel: BootFile;
  readonly initrds: readonly BootFile[];
  readonly cmdline: string;
  readonly notes: readonly string[];
}

/** Entries of the specification first, as they are sorted; then unified kernel images, newest first. */
export function candidatesOf(volumes: readonly Volume[]): Candidate[] {
  const entries = new Map<BlsEntry, Volume>();
  const images: Candidate[] = [];
  for (const volume of volumes) {
    const files = volume.readable;
    const room = Math.max(0, filesMax - entries.size - images.length);
    for (const name of confs(files?.list("/loader/entries")).slice(0, room)) {
      const bytes = files!.readFile(`/loader/entries/${name}`, confBytesMax);
      entries.set(readBlsEntry(name, new TextDecoder().decode(bytes)), volume);
    }
    for (const name of (files?.list("/EFI/Linux") ?? []).slice(0, room)) {
      const path = `/EFI/Linux/${name}`;
      if (/\.efi$/i.test(name)) {
        images.push({ id: name, title: name, volume, path, entry: undefined });
      }
    }
  }
  images.sort((a, b) => compareVersions(b.id, a.id));
  return [
    ...sortBlsEntries([...entries.keys()]).map((entry) => {
      const path = `/loader/entries/${entry.id}.conf`;
      const { title } = entry;
      return { id: `${entry.id}.conf`, title, volume: entries.get(entry)!, path, entry };
    }),
    ...images,
  ];
}

const confs = (names: readonly string[] = []) => names.filter((name) => /\.conf$/i.test(name));

/** What `loader.conf` of the ESP says is the default: a name with * and ?. */
export function defaultOf(esp: Volume | undefined): string | undefined {
  const bytes = esp?.readable?.readFile("/loader/loader.conf", confBytesMax);
  if (!bytes) return undefined;
  return /^[ \t]*default[ \t]+(\S+)/m.exec(new TextDecoder().decode(bytes))?.[1];
}

/** Chooses: `wanted` by number, id or title; else the default; else the first. Throws DiskError. */
export function chooseCandidate(
  all: readonly Candidate[],
  wanted: string | undefined,
  preset: string | undefined,
  notes: string[],
): Candidate {
  if (wanted !== undefined) {
    const found = /^\d{1,9}$/.test(wanted)
      ? all[Number(wanted)]
      : all.find(({ id, title }) => [id, id.replace(/\.\w+$/, ""), title].includes(wanted));
    if (found) return found;
    const ids = all.slice(0, 12).map(({ id }) => id);
    throw new DiskError(`no boot entry "${wanted}"; there are ${ids.join(", ")}`);
  }
  if (preset !== undefined && !preset.startsWith("@")) {
    const found = all.find(({ id }) => matches(id, preset));
    if (found) return found;
    notes.push(
      `loader.conf names the default ${preset}, which is not there: the first entry is taken`,
    );
  }
  return all[0]!;
}

/** Shell patterns, whatever the case. No regular expression: the pattern is the disk's. */
export function matches(name: string, pattern: string): boolean {
  const [text, wanted] = [name.toLowerCase(), pattern.toLowerCase()];
  let [at, next, star, from] = [0, 0, -1, 0];
  while (at < text.length) {
    if (wanted[next] === "*") [star, from] = [next++, at];
    else if (next < wanted.length && (wanted[next] === "?" || wanted[next] === text[at])) {
      at++;
      next++;
    } else if (star >= 0) [next, at] = [star + 1, ++from];
    else return false;
  }
  while (wanted[next] === "*") next++;
  return next === wanted.length;
}

/** What a chosen entry boots. Throws DiskError. */
export function bootCandidate({ volume, path, entry, title }: Candidate): DirectBoot {
  if (!entry) return bootImage(volume, path, title);
  const config = `${path} of ${volume.shown}`;
  if (entry.linux === undefined) {
    if (entry.efi === undefined) throw new DiskError(`${config}: the entry names no linux`);
    const boot = bootImage(volume, entry.efi, title);
    return entry.options === "" ? boot : { ...boot, cmdline: entry.options };
  }
  const kernel = present(volume, entry.linux, config);
  const initrds = entry.initrds.map((initrd) => present(volume, initrd, config));
  return { title, config, kernel, initrds, cmdline: entry.options, notes: [] };
}

function present(volume: Volume, path: string, config: string): BootFile {
  if (volume.files?.stat(path)) return fileOf(volume, path);
  throw new DiskError(`${config}: no ${path} on ${volume.shown}`);
}

/** A unified kernel image: kernel, initramfs and command line are sections of one file (UAPI.5). */
export function bootImage(volume: Volume, path: string, title: string): DirectBoot {
  const config = `${path} of ${volume.shown}`;
  const file = volume.files?.readFile(path, imageBytesMax);
  if (!file) throw new DiskError(`no ${config}`);
  const sections = peSections(file);
  const kernel = sections?.get(".linux");
  if (!sections || !kernel) {
    throw new DiskError(`${config}: no unified kernel image (it has no section .linux)`);
  }
  const section = (name: string, bytes: Uint8Array): BootFile => ({
    path: `${path}${name}`,
    place: volume.name,
    read: () => bytes,
  });
  const initrds = [".ucode", ".initrd"].flatMap((name) => {
    const bytes = sections.get(name);
    return bytes && bytes.length > 0 ? [section(name, bytes)] : [];
  });
  const cmdline = new TextDecoder()
    .decode(sections.get(".cmdline") ?? new Uint8Array(0))
    .replace(/\0.*/s, "")
    .trim();
  const named = osName(sections.get(".osrel"));
  return {
    ...{ title: named ?? title, config, kernel: section(".linux", kernel), initrds, cmdline },
    notes: [],
  };
}

const osName = (release: Uint8Array | undefined): string | undefined =>
  release && /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(new TextDecoder().decode(release))?.[1];
