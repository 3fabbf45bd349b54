/** An ext file system's frame: superblock, group descriptors, inodes, and blocks as the journal has them. */
import { checkRange, DiskError, isCutShort, type Medium, viewOf } from "../medium.ts";
import {
  Compat,
  ext4Magic,
  Incompat,
  Inode,
  journalMagic,
  RoCompat,
  refusedIncompat,
  Superblock,
  superblockAt,
} from "./layout.ts";

const highUnit = 0x1_0000_0000;
const descriptorBytes = 32;
/** Where a descriptor has the halves of its inode table's block. */
const [tableLow, tableHigh] = [0x8, 0x28];

export interface RawInode {
  readonly number: number;
  readonly fields: InstanceType<typeof Inode>;
  /** All of it, behind the fixed part too. */
  readonly bytes: Uint8Array;
  readonly size: number;
}

/** A block's newest content, in the journal; `escaped`: its first word is another there, as it was the journal's. */
interface Moved {
  readonly block: number;
  readonly escaped: boolean;
}

export class Volume {
  readonly blockBytes: number;
  readonly blocks: number;
  readonly superblock: InstanceType<typeof Superblock>;
  /** Blocks whose newest content is elsewhere on the medium: what the journal says. */
  readonly replayed = new Map<number, Moved>();
  readonly #descriptorBytes: number;

  /** Throws DiskError when this is no ext file system, or one that is not read. */
  constructor(readonly medium: Medium) {
    checkRange(medium.size, superblockAt, Superblock.size);
    const fields = new Superblock(viewOf(medium.read(superblockAt, Superblock.size).slice()));
    this.superblock = fields;
    if (fields.s_magic !== ext4Magic) throw new DiskError("ext4: no superblock");
    if (fields.s_log_block_size > 6) throw new DiskError("ext4: blocks of more than 64 KiB");
    this.blockBytes = 1024 << fields.s_log_block_size;
    const wide = this.incompat("64BIT");
    this.blocks = fields.s_blocks_count_lo + (wide ? fields.s_blocks_count_hi * highUnit : 0);
    if (this.blocks * this.blockBytes > medium.size) {
      throw new DiskError(`ext4: longer than its partition; ${isCutShort}`);
    }
    this.#descriptorBytes = wide ? Math.max(fields.s_desc_size, 64) : descriptorBytes;
    this.#refuse();
  }

  #refuse(): void {
    const {
      s_feature_incompat: features,
      s_inodes_per_group,
      s_blocks_per_group,
    } = this.superblock;
    const known = Object.values(Incompat).reduce<number>((all, bit) => all | bit, 0);
    for (let bit = 1; bit <= 0x8000_0000; bit *= 2) {
      if ((features & bit) === 0 || (known & bit) !== 0) continue;
      const name = refusedIncompat[bit] ?? `0x${bit.toString(16)}`;
      throw new DiskError(`ext4: the feature ${name} is not read by chv`);
    }
    if (s_inodes_per_group === 0 || s_blocks_per_group === 0) {
      throw new DiskError("ext4: groups without inodes or blocks");
    }
    const { inodeBytes } = this;
    const isPowerOfTwo = (inodeBytes & (inodeBytes - 1)) === 0;
    if (inodeBytes < 128 || inodeBytes > this.blockBytes || !isPowerOfTwo) {
      throw new DiskError(`ext4: inodes of ${inodeBytes} bytes`);
    }
    if (this.#descriptorBytes > this.blockBytes) throw new DiskError("ext4: group descriptors");
  }

  incompat(name: keyof typeof Incompat): boolean {
    return (this.superblock.s_feature_incompat & Incompat[name]) !== 0;
  }

  get inodeBytes(): number {
    const { s_rev_level, s_inode_size } = this.superblock;
    return s_rev_level === 0 ? 128 : s_inode_size;
  }

  /** One block, as the journal has it. */
  block(number: number): Uint8Array {
    const newer = this.replayed.get(number);
    return newer ? this.#moved(newer) : this.stored(number, 1);
  }

  #moved({ block, escaped }: Moved): Uint8Array {
    const bytes = this.stored(block, 1);
    if (escaped) viewOf(bytes).setUint32(0, journalMagic, false);
    return bytes;
  }

  /** Blocks as they lie on the medium. */
  stored(number: number, count: number): Uint8Array {
    if (!(number > 0) || number + count > this.blocks) {
      throw new DiskError(`ext4: block ${number} of ${this.blocks}`);
    }
    return this.medium.read(number * this.blockBytes, count * this.blockBytes);
  }

  /** Neighbouring blocks, in as few reads as the journal allows. */
  run(number: number, count: number): Uint8Array {
    if (this.replayed.size === 0) return this.stored(number, count);
    const all = this.stored(number, count);
    for (let i = 0; i < count; i++) {
      const newer = this.replayed.get(number + i);
      if (newer) all.set(this.#moved(newer), i * this.blockBytes);
    }
    return all;
  }

  inode(number: number): RawInode {
    const { s_inodes_count, s_inodes_per_group } = this.superblock;
    if (number < 1 || number > s_inodes_count) throw new DiskError(`ext4: inode ${number}`);
    const group = Math.floor((number - 1) / s_inodes_per_group);
    const at = ((number - 1) % s_inodes_per_group) * this.inodeBytes;
    const block = this.#inodeTable(group) + Math.floor(at / this.blockBytes);
    const start = at % this.blockBytes; // inodes do not straddle blocks: both are powers of two
    const bytes = this.block(block).slice(start, start + this.inodeBytes);
    const fields = new Inode(viewOf(bytes));
    return { number, fields, bytes, size: fields.i_size_high * highUnit + fields.i_size_lo };
  }

  #inodeTable(group: number): number {
    const perBlock = Math.floor(this.blockBytes / this.#descriptorBytes);
    const block = this.#descriptorBlock(Math.floor(group / perBlock), perBlock);
    const view = viewOf(this.block(block));
    const at = (group % perBlock) * this.#descriptorBytes;
    const high = this.#descriptorBytes >= 64 ? view.getUint32(at + tableHigh, true) : 0;
    return high * highUnit + view.getUint32(at + tableLow, true);
  }

  /** Descriptors lie behind the superblock, or, with meta_bg, in the first group of those they describe. */
  #descriptorBlock(index: number, perBlock: number): number {
    const { s_first_data_block, s_first_meta_bg, s_blocks_per_group } = this.superblock;
    if (!this.incompat("META_BG") || index < s_first_meta_bg) {
      return s_first_data_block + 1 + this.#bootBlock + index;
    }
    const group = index * perBlock;
    const copy = this.#hasSuperblock(group) ? 1 : 0;
    const boot = group === 0 ? this.#bootBlock : 0;
    return s_first_data_block + boot + group * s_blocks_per_group + copy;
  }

  /** With bigalloc the first group begins at block 0 also where the superblock is in block 1. */
  get #bootBlock(): number {
    const { s_first_data_block } = this.superblock;
    return s_first_data_block === 0 && this.blockBytes === 1024 ? 1 : 0;
  }

  #hasSuperblock(group: number): boolean {
    if (group === 0) return true;
    const { s_feature_compat, s_feature_ro_compat, s_backup_bgs0, s_backup_bgs1 } = this.superblock;
    if (s_feature_compat & Compat.SPARSE_SUPER2) {
      return group === s_backup_bgs0 || group === s_backup_bgs1;
    }
    if (group === 1 || !(s_feature_ro_compat & RoCompat.SPARSE_SUPER)) return true;
    return [3, 5, 7].some((base) => {
      let power = base;
      while (power < group) power *= base;
      return power === group;
    });
  }
}
