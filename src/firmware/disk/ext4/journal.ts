/**
 * The journal of ext3 and ext4 (JBD2; Documentation/filesystems/ext4, "Journal"), replayed in memory: what a kernel
 * would write when it mounts an unclean file system is laid over the blocks as they are. All numbers are big-endian.
 */
import { DiskError, viewOf } from "../medium.ts";
import { contentOf } from "./content.ts";
import { crc32c } from "./crc32c.ts";
import type { Volume } from "./volume.ts";

const magic = 0xc03b_3998;
const BlockType = {
  descriptor: 1,
  commit: 2,
  superblockV1: 3,
  superblockV2: 4,
  revoke: 5,
} as const;
const Tag = { escape: 1, sameUuid: 2, last: 8 } as const;
const Feature = { "64bit": 2, csumV2: 8, csumV3: 0x10, fastCommit: 0x20 } as const;
const known = 1 | 2 | 4 | 8 | 0x10 | 0x20;
const headerBytes = 12;
const uuidBytes = 16;
const journalBytesMax = 2 ** 30;
const highUnit = 0x1_0000_0000;

/** One block of a transaction: where it belongs, and where in the log it lies. */
interface Logged {
  readonly target: number;
  readonly at: number;
  readonly escaped: boolean;
}

interface Transaction {
  readonly sequence: number;
  readonly blocks: readonly Logged[];
  readonly revoked: readonly number[];
}

/** Lays what is committed over the volume's blocks: how many there are. Throws DiskError. */
export function replayJournal(volume: Volume): number {
  const { s_journal_inum: number, s_journal_dev } = volume.superblock;
  if (number === 0 || s_journal_dev !== 0) {
    throw new DiskError("ext4: the journal is on another device; mount the file system once");
  }
  const log = contentOf(volume, volume.inode(number), journalBytesMax);
  const journal = new Journal(log, volume.blockBytes);
  const transactions = [...journal.transactions()];
  const revokedIn = new Map<number, number>();
  for (const { sequence, revoked } of transactions) {
    for (const block of revoked) revokedIn.set(block, sequence);
  }
  for (const { sequence, blocks } of transactions) {
    for (const logged of blocks) {
      const revoke = revokedIn.get(logged.target);
      if (revoke === undefined || revoke < sequence) {
        volume.replayed.set(logged.target, journal.content(logged));
      }
    }
  }
  return volume.replayed.size;
}

class Journal {
  readonly #view: DataView;
  readonly #features: number;
  readonly #first: number;
  readonly #end: number;
  readonly #seed: number;

  constructor(
    readonly log: Uint8Array,
    readonly blockBytes: number,
  ) {
    this.#view = viewOf(log);
    if (log.length < blockBytes * 2 || this.#u32(0) !== magic) {
      throw new DiskError("ext4: no journal where it should be; run e2fsck");
    }
    const version = this.#u32(4);
    if (version !== BlockType.superblockV1 && version !== BlockType.superblockV2) {
      throw new DiskError("ext4: the journal's superblock is broken; run e2fsck");
    }
    this.#features = version === BlockType.superblockV2 ? this.#u32(0x28) : 0;
    if ((this.#features & ~known) !== 0) {
      throw new DiskError("ext4: the journal has features that chv does not read; run e2fsck");
    }
    this.#first = this.#u32(0x14);
    this.#end = Math.min(this.#u32(0x10), log.length / blockBytes);
    if (this.#u32(0xc) !== blockBytes || this.#first < 1 || this.#first >= this.#end) {
      throw new DiskError("ext4: the journal's superblock is broken; run e2fsck");
    }
    if (this.#has("fastCommit")) this.#end -= this.#u32(0x54) || 256;
    this.#seed = crc32c(0xffff_ffff, log.subarray(0x30, 0x40));
  }

  #u32(at: number): number {
    return this.#view.getUint32(at, false);
  }

  #has(feature: keyof typeof Feature): boolean {
    return (this.#features & Feature[feature]) !== 0;
  }

  get #checked(): boolean {
    return this.#has("csumV2") || this.#has("csumV3");
  }

  /** The committed ones, oldest first: the first that is not whole ends the log. */
  *transactions(): Iterable<Transaction> {
    let block = this.#u32(0x1c);
    if (block === 0) return; // nothing to do
    if (block < this.#first || block >= this.#end) throw new DiskError("ext4: a broken journal");
    const start = block;
    let sequence = this.#u32(0x18);
    for (let steps = 0; steps < this.#end; ) {
      const blocks: Logged[] = [];
      const revoked: number[] = [];
      for (;;) {
        if (steps++ >= this.#end) return;
        const at = block * this.blockBytes;
        if (this.#u32(at) !== magic || this.#u32(at + 8) !== sequence) return;
        const type = this.#u32(at + 4);
        if (type === BlockType.commit) {
          if (!this.#commitHolds(at)) return;
          break;
        }
        if (!this.#tailHolds(at)) return;
        if (type === BlockType.revoke) revoked.push(...this.#revokes(at));
        else if (type === BlockType.descriptor) {
          for (const tag of this.#tags(at)) {
            block = this.#after(block);
            const logged = {
              target: tag.target,
              at: block * this.blockBytes,
              escaped: tag.escaped,
            };
            if (!this.#dataHolds(logged, sequence, tag.checksum)) return;
            blocks.push(logged);
            if (steps++ >= this.#end) return;
          }
        } else return;
        block = this.#after(block);
      }
      yield { sequence, blocks, revoked };
      sequence = (sequence + 1) >>> 0;
      block = this.#after(block);
      if (block === start) return;
    }
  }

  #after(block: number): number {
    return block + 1 >= this.#end ? this.#first : block + 1;
  }

  *#tags(at: number): Iterable<{ target: number; escaped: boolean; checksum: number }> {
    const wide = this.#has("64bit");
    const v3 = this.#has("csumV3");
    const size = v3 ? 16 : 8 + (wide ? 4 : 0) + (this.#has("csumV2") ? 2 : 0);
    const end = at + this.blockBytes - (this.#checked ? 4 : 0);
    for (let tag = at + headerBytes; tag + size <= end; ) {
      const flags = v3 ? this.#u32(tag + 4) : this.#view.getUint16(tag + 6, false);
      const high = wide ? this.#u32(tag + 8) : 0;
      yield {
        target: high * highUnit + this.#u32(tag),
        escaped: (flags & Tag.escape) !== 0,
        checksum: v3 ? this.#u32(tag + 12) : this.#view.getUint16(tag + 4, false),
      };
      if (flags & Tag.last) return;
      tag += size + (flags & Tag.sameUuid ? 0 : uuidBytes);
    }
  }

  *#revokes(at: number): Iterable<number> {
    const wide = this.#has("64bit");
    const size = wide ? 8 : 4;
    const end = at + Math.min(this.#u32(at + headerBytes), this.blockBytes);
    for (let entry = at + headerBytes + 4; entry + size <= end; entry += size) {
      yield wide ? this.#u32(entry) * highUnit + this.#u32(entry + 4) : this.#u32(entry);
    }
  }

  /** A block's content: its first word was changed where it looked like a block of the log itself. */
  content({ at, escaped }: Logged): Uint8Array {
    const data = this.log.slice(at, at + this.blockBytes);
    if (escaped) viewOf(data).setUint32(0, magic, false);
    return data;
  }

  #tailHolds(at: number): boolean {
    if (!this.#checked) return true;
    const block = this.log.slice(at, at + this.blockBytes);
    const view = viewOf(block);
    const told = view.getUint32(block.length - 4, false);
    view.setUint32(block.length - 4, 0);
    return crc32c(this.#seed, block) === told;
  }

  #commitHolds(at: number): boolean {
    if (!this.#checked) return true;
    const block = this.log.slice(at, at + this.blockBytes);
    const view = viewOf(block);
    const told = view.getUint32(16, false); // h_chksum[0]
    view.setUint32(16, 0);
    return crc32c(this.#seed, block) === told;
  }

  #dataHolds({ at }: Logged, sequence: number, told: number): boolean {
    if (!this.#checked) return true;
    const number = new Uint8Array(4);
    viewOf(number).setUint32(0, sequence, false);
    const sum = crc32c(crc32c(this.#seed, number), this.log.subarray(at, at + this.blockBytes));
    return this.#has("csumV3") ? sum === told : (sum & 0xffff) === told;
  }
}
