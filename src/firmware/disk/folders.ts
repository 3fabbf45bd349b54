/**
 * The folders of a file system that were looked into. Each is read once, and looking has an end: a disk can have
 * folders without end, and scripts that ask for paths without end.
 */
import { DiskError } from "./medium.ts";

/** Characters of a path, as Linux has it (PATH_MAX). */
const pathMost = 4096;
const lookUpsMost = 20_000;
/** Of all folders together, in bytes. */
const bytesMost = 64 * 2 ** 20;

export class Folders<Entry> {
  readonly #known = new Map<number, ReadonlyMap<string, Entry>>();
  #lookUps = 0;
  #bytes = 0;

  constructor(
    /** "ext4", for messages. */
    readonly type: string,
  ) {}

  /** The names of a path. Throws DiskError when there are too many. */
  names(path: string): string[] {
    if (path.length > pathMost) {
      throw new DiskError(`${this.type}: a path of more than ${pathMost} characters`);
    }
    return path.split("/").filter((name) => name !== "");
  }

  /**
   * The entries of a folder by its number. `read` is asked once, and says how many bytes it is about to read. Throws
   * DiskError.
   */
  entries(
    number: number,
    read: (about: (bytes: number) => void) => Iterable<[string, Entry]>,
  ): ReadonlyMap<string, Entry> {
    if (++this.#lookUps > lookUpsMost) {
      throw new DiskError(`${this.type}: more than ${lookUpsMost} folders are to be looked into`);
    }
    const known = this.#known.get(number);
    if (known) return known;
    const entries = new Map<string, Entry>();
    const about = (bytes: number) => this.#spend(bytes);
    for (const [name, entry] of read(about)) if (!entries.has(name)) entries.set(name, entry);
    this.#known.set(number, entries);
    return entries;
  }

  #spend(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes <= bytesMost) return;
    throw new DiskError(`${this.type}: folders of more than ${bytesMost} bytes are to be read`);
  }
}
