/**
 * What GRUB does with a disk: finds files on its partitions, keeps the menu, and remembers the kernel that an entry
 * loads. Nothing large is read here: that is for who boots the entry.
 */
import { DiskError } from "../medium.ts";
import type { Volume, Volumes } from "../volumes.ts";
import type { Environment } from "./environment.ts";
import { Menu } from "./menu.ts";
import { GrubError, type Place, shown } from "./syntax.ts";

const configBytesMax = 4 * 2 ** 20;

export interface FileAt {
  readonly volume: Volume;
  readonly path: string;
}

/** What `linux` and `initrd` have loaded. */
export interface Loaded {
  readonly kernel: FileAt;
  readonly cmdline: string;
  readonly initrds: readonly FileAt[];
}

export class Loader {
  menu = new Menu();
  loaded: Loaded | undefined;
  /** What was looked for and not found, with its place. */
  readonly misses: string[] = [];
  /** Commands that chv knows and does not do, such as one that starts another system. */
  readonly refused: string[] = [];

  constructor(
    readonly volumes: Volumes,
    readonly environment: Environment,
  ) {}

  missed(at: Place, what: string): void {
    if (this.misses.length < 20) this.misses.push(`${shown(at)}: ${what}`);
  }

  /** "(hd0,gpt1)/boot/vmlinuz", or "/boot/vmlinuz" on the partition that `root` names. */
  locate(text: string, at: Place): FileAt | undefined {
    const [, device, path = ""] = /^\(([^)]*)\)(.*)$/s.exec(text) ?? ["", undefined, text];
    const name = device ?? this.environment.get("root");
    const volume = this.volumes.byDevice(name);
    if (!volume) {
      this.missed(at, `there is no ${name === "" ? "root" : name} for ${path}`);
      return undefined;
    }
    return path.startsWith("/") ? { volume, path } : undefined;
  }

  exists({ volume, path }: FileAt, at: Place): boolean {
    if (!this.#files(volume, at)) return false;
    return this.hasFile(volume, path) || this.isFolder({ volume, path }, at);
  }

  /** Something of that name, as its folder lists it. */
  hasFile(volume: Volume, path: string): boolean {
    const clean = path.replace(/\/+$/, "");
    const cut = clean.lastIndexOf("/");
    const names = volume.readable?.list(clean.slice(0, cut + 1));
    if (names === undefined) return false;
    const name = clean.slice(cut + 1);
    if (names.includes(name)) return true;
    return volume.content === "vfat" && names.some((one) => sameName(one, name));
  }

  isFolder({ volume, path }: FileAt, at: Place): boolean {
    return this.#files(volume, at)?.list(path) !== undefined;
  }

  /** A small file's text; undefined when there is none. Throws DiskError when it is too long. */
  readText(file: FileAt, at: Place): string | undefined {
    const bytes = this.#files(file.volume, at)?.readFile(file.path, configBytesMax);
    return bytes && new TextDecoder().decode(bytes);
  }

  hasContent({ volume, path }: FileAt, at: Place): boolean {
    try {
      const bytes = this.#files(volume, at)?.readFile(path, configBytesMax);
      return bytes !== undefined && bytes.length > 0;
    } catch (error) {
      if (error instanceof DiskError) return this.hasFile(volume, path); // longer than was looked for
      throw error;
    }
  }

  /** Throws where a script goes on with a partition that chv cannot read. */
  #files(volume: Volume, at: Place) {
    const { files } = volume;
    if (files) return files;
    throw new GrubError(at, `${volume.shown} cannot be read by chv`);
  }
}

const sameName = (a: string, b: string) => a.toLowerCase() === b.toLowerCase();
