/**
 * What GRUB does with a disk: finds files on its partitions, keeps the menu, and remembers the kernel that an entry
 * loads. Nothing large is read here: that is for who boots the entry.
 */
import type { FileSystem } from "../file-system.ts";
import type { Volume, Volumes } from "../volumes.ts";
import type { Environment } from "./environment.ts";
import { Menu } from "./menu.ts";
import { GrubError, type Place, shown } from "./syntax.ts";

/** Of a file, and of all that are read. */
const [configBytesMax, textBytesMax] = [2 ** 20, 4 * 2 ** 20];

/** Characters of a note. */
const missMost = 300;

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
  #textBytes = 0;

  constructor(
    readonly volumes: Volumes,
    readonly environment: Environment,
  ) {}

  missed(at: Place, what: string): void {
    if (this.misses.length < 20) this.misses.push(`${shown(at)}: ${what.slice(0, missMost)}`);
  }

  /** "(hd0,gpt1)/boot/vmlinuz", or "/boot/vmlinuz" on the partition that `root` names. */
  locate(text: string, at: Place): FileAt | undefined {
    const [name, path] = this.#split(text);
    if (!this.volumes.byDevice(name)) {
      this.missed(at, `there is no ${name === "" ? "root" : name} for ${path}`);
    }
    return this.find(text);
  }

  /** The same, for who only asks whether it is there. */
  find(text: string): FileAt | undefined {
    const [name, path] = this.#split(text);
    const volume = this.volumes.byDevice(name);
    return volume && path.startsWith("/") ? { volume, path } : undefined;
  }

  #split(text: string): [device: string, path: string] {
    const [, device, path = ""] = /^\(([^)]*)\)(.*)$/s.exec(text) ?? ["", undefined, text];
    return [device ?? this.environment.get("root"), path];
  }

  stat({ volume, path }: FileAt, at: Place): ReturnType<FileSystem["stat"]> {
    return this.#files(volume, at).stat(path);
  }

  exists(file: FileAt, at: Place): boolean {
    return this.stat(file, at) !== undefined;
  }

  /** A small file's text; undefined when there is none. Throws DiskError when it is too long. */
  readText({ volume, path }: FileAt, at: Place): string | undefined {
    const bytes = this.#files(volume, at).readFile(path, configBytesMax);
    if (bytes === undefined) return undefined;
    this.#textBytes += bytes.length;
    if (this.#textBytes > textBytesMax) {
      throw new GrubError(at, `more than ${textBytesMax} bytes of configuration are read`);
    }
    return new TextDecoder().decode(bytes);
  }

  /** Throws where a script goes on with a partition that chv cannot read. */
  #files(volume: Volume, at: Place): FileSystem {
    const { files } = volume;
    if (files) return files;
    throw new GrubError(at, `${volume.shown} cannot be read by chv`);
  }
}
