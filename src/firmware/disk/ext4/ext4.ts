/** ext2, ext3 and ext4, read only: paths, folders, links and files. */
import type { FileSystem } from "../file-system.ts";
import { Folders } from "../folders.ts";
import { DiskError, type Medium, viewOf } from "../medium.ts";
import { contentOf, inlineData, systemData } from "./content.ts";
import { replayJournal } from "./journal.ts";
import { InodeFlag, Mode, rootInode } from "./layout.ts";
import { type RawInode, Volume } from "./volume.ts";

const linksMax = 40;
const linkBytesMax = 4096;
/** A symbolic link shorter than this lies in place of its inode's block map. */
const fastLinkBytes = 60;

export class Ext4 implements FileSystem {
  readonly type = "ext4";
  readonly label: string;
  readonly uuid: string;
  /** Blocks that the journal brought up to date. */
  readonly replayedBlocks: number;
  readonly #volume: Volume;
  /** Inodes by name, of folders by their inode. */
  readonly #folders = new Folders<number>("ext4");

  /** Throws DiskError when the medium holds none, or one that is not read. */
  constructor(medium: Medium) {
    this.#volume = new Volume(medium);
    const { superblock } = this.#volume;
    this.label = text(superblock.s_volume_name);
    this.uuid = dashed(superblock.s_uuid.toHex());
    this.replayedBlocks = this.#volume.incompat("RECOVER") ? replayJournal(this.#volume) : 0;
  }

  readFile(path: string, limit: number): Uint8Array | undefined {
    const inode = this.#find(path);
    if (!inode || typeOf(inode) !== Mode.file) return undefined;
    return contentOf(this.#volume, inode, limit);
  }

  stat(path: string): { readonly folder: boolean; readonly size: number } | undefined {
    const inode = this.#find(path, () => undefined);
    return inode && { folder: typeOf(inode) === Mode.directory, size: inode.size };
  }

  list(path: string): string[] | undefined {
    const inode = this.#find(path);
    if (!inode || typeOf(inode) !== Mode.directory) return undefined;
    return [...this.#entries(inode).keys()];
  }

  /** The inode at a path, links followed; undefined when there is none. `circles` are links that lead nowhere. */
  #find(path: string, circles: () => undefined = () => tooManyLinks(path)): RawInode | undefined {
    let links = linksMax;
    const names = this.#folders.names(path);
    /** Inodes from the root to where we are: `..` goes back. */
    const way = [this.#volume.inode(rootInode)];
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      if (name === ".") continue;
      if (name === "..") {
        if (way.length > 1) way.pop();
        continue;
      }
      const folder = way.at(-1)!;
      if (typeOf(folder) !== Mode.directory) return undefined;
      const number = this.#entries(folder).get(name);
      if (number === undefined) return undefined;
      const inode = this.#volume.inode(number);
      if (typeOf(inode) !== Mode.link) {
        way.push(inode);
        continue;
      }
      if (links-- === 0) return circles();
      const target = this.#target(inode);
      if (target.startsWith("/")) way.length = 1;
      names.unshift(...this.#folders.names(target));
    }
    return way.at(-1);
  }

  #target(inode: RawInode): string {
    const { i_flags, i_block } = inode.fields;
    const inPlace = inode.size < fastLinkBytes && (i_flags & InodeFlag.EXTENTS) === 0;
    if (inPlace && (i_flags & (InodeFlag.INLINE_DATA | InodeFlag.ENCRYPT)) === 0) {
      return new TextDecoder().decode(i_block.subarray(0, inode.size));
    }
    return new TextDecoder().decode(contentOf(this.#volume, inode, linkBytesMax));
  }

  #entries(folder: RawInode): ReadonlyMap<string, number> {
    return this.#folders.entries(folder.number, (about) => {
      about(folder.size);
      return this.#read(folder);
    });
  }

  /** Every name of a folder and its inode; an index (dir_index) looks like empty entries to who reads on. */
  *#read(folder: RawInode): Iterable<[string, number]> {
    const { i_flags } = folder.fields;
    if (i_flags & InodeFlag.ENCRYPT) throw new DiskError("ext4: a folder with encrypted names");
    if (i_flags & InodeFlag.INLINE_DATA) {
      // the first four bytes are the parent's inode (ext4_dir_entry does not begin there)
      yield* entriesIn(inlineData(folder).subarray(4, fastLinkBytes));
      yield* entriesIn(systemData(folder));
      return;
    }
    const content = contentOf(this.#volume, folder, folder.size);
    for (let at = 0; at < content.length; at += this.#volume.blockBytes) {
      yield* entriesIn(content.subarray(at, at + this.#volume.blockBytes));
    }
  }
}

function tooManyLinks(path: string): never {
  throw new DiskError(`ext4: too many links on the way to ${path}`);
}

const typeOf = (inode: RawInode): number => inode.fields.i_mode & Mode.mask;

function* entriesIn(block: Uint8Array): Iterable<[string, number]> {
  const view = viewOf(block);
  for (let at = 0; at + 8 <= block.length; ) {
    const number = view.getUint32(at, true);
    const length = view.getUint16(at + 4, true) || block.length - at; // 64 KiB does not fit in 16 bits
    const nameLength = block[at + 6]!;
    if (length < 8 || length % 4 !== 0 || at + length > block.length || nameLength > length - 8) {
      throw new DiskError("ext4: a broken folder");
    }
    const name = new TextDecoder().decode(block.subarray(at + 8, at + 8 + nameLength));
    if (number !== 0 && name !== "." && name !== ".." && name !== "") yield [name, number];
    at += length;
  }
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(bytes.slice(0, end < 0 ? bytes.length : end));
}

const dashed = (hex: string) => hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
