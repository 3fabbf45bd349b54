/**
 * The journal of ext3 and ext4 (JBD2; Documentation/filesystems/ext4, "Journal"), replayed in memory: what a kernel
 * would write when it mounts an unclean file system is laid over the blocks as they are. All numbers are big-endian.
 */
import { DiskError, viewOf } from "../medium.ts";
import { type Run, runsOf } from "./content.ts";
import { crc32c } from "./crc32c.ts";
import { journalMagic as magic } from "./layout.ts";
import type { Volume } from "./volume.ts";

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
/** h_chksum[0] of a commit block. */
const commitSumAt = 16;
const journalBlocksMax = 2 ** 20;
const highUnit = 0x1_0000_0000;

/** The first tag of fast commits (Linux, fs/ext4/fast_commit.h), and where it has a transaction's number. */
const [fastCommitHead, fastCommitSequenceAt] = [9, 8];

/** One block of a transaction: where it belongs, and where on the medium the log has it. */
interface Logged {
  readonly target: number;
  readonly block: number;
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
  const journal = new Journal(new Log(volume, number));
  const transactions = [...journal.transactions()];
  const revokedIn = new Map<number, number>();
  for (const { sequence, revoked } of transactions) {
    for (const block of revoked) revokedIn.set(block, sequence);
  }
  for (const { sequence, blocks } of transactions) {
    for (const logged of blocks) {
      const revoke = revokedIn.get(logged.target);
      if (revoke === undefined || revoke < sequence) volume.replayed.set(logged.target, logged);
    }
  }
  return volume.replayed.size;
}

/** The journal's file, block by block: most of it is never looked at. */
class Log {
  readonly blocks: number;
  readonly #runs: readonly Run[];

  constructor(
    readonly volume: Volume,
    inodeNumber: number,
  ) {
    const inode = volume.inode(inodeNumber);
    this.blocks = Math.floor(inode.size / volume.blockBytes);
    if (this.blocks > journalBlocksMax) {
      throw new DiskError(`ext4: a journal of ${this.blocks} blocks; run e2fsck`);
    }
    this.#runs = [...runsOf(volume, inode, this.blocks)];
  }

  /** Where on the medium a block of the log is. */
  placeOf(index: number): number {
    let [low, high] = [0, this.#runs.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#runs[middle]!.logical <= index) low = middle + 1;
      else high = middle;
    }
    const run = this.#runs[low - 1];
    if (run && run.physical > 0 && index < run.logical + run.count) {
      return run.physical + index - run.logical;
    }
    throw new DiskError("ext4: a journal with holes; run e2fsck");
  }

  read(index: number): Uint8Array {
    return this.volume.stored(this.placeOf(index), 1);
  }
}

class Journal {
  readonly #features: number;
  readonly #first: number;
  /** Behind the last block of transactions. */
  readonly #end: number;
  /** Of the oldest transaction: its first block, 0 when there is none, and its number. */
  readonly #start: number;
  readonly #sequence: number;
  readonly #seed: number;

  constructor(readonly log: Log) {
    const { blockBytes } = log.volume;
    if (log.blocks < 2) throw new DiskError("ext4: no journal where it should be; run e2fsck");
    const bytes = log.read(0);
    const word = (at: number) => viewOf(bytes).getUint32(at, false);
    if (word(0) !== magic) throw new DiskError("ext4: no journal where it should be; run e2fsck");
    const version = word(4);
    if (version !== BlockType.superblockV1 && version !== BlockType.superblockV2) throw broken();
    this.#features = version === BlockType.superblockV2 ? word(0x28) : 0;
    if ((this.#features & ~known) !== 0) {
      throw new DiskError("ext4: the journal has features that chv does not read; run e2fsck");
    }
    this.#first = word(0x14);
    const fastCommits = this.#has("fastCommit") ? word(0x54) || 256 : 0;
    this.#end = Math.min(word(0x10), log.blocks) - fastCommits;
    if (word(0xc) !== blockBytes || this.#first < 1 || this.#first >= this.#end) throw broken();
    this.#start = word(0x1c);
    this.#sequence = word(0x18);
    this.#seed = crc32c(0xffff_ffff, bytes.subarray(0x30, 0x40));
  }

  #has(feature: keyof typeof Feature): boolean {
    return (this.#features & Feature[feature]) !== 0;
  }

  get #checked(): boolean {
    return this.#has("csumV2") || this.#has("csumV3");
  }

  /** The committed ones, oldest first: the first that is not whole ends the log. Throws DiskError. */
  *transactions(): Iterable<Transaction> {
    if (this.#start === 0) return; // nothing to do
    if (this.#start < this.#first || this.#start >= this.#end) throw broken();
    let block = this.#start;
    let sequence = this.#sequence;
    /** No block is read twice. */
    const steps = { left: this.#end - this.#first };
    for (;;) {
      const transaction = this.#transaction(block, sequence, steps);
      if (!transaction) break;
      yield transaction;
      sequence = (sequence + 1) >>> 0;
      block = transaction.next;
    }
    this.#refuseFastCommits(sequence);
  }

  /** The one that begins there; undefined when it is not whole. */
  #transaction(
    start: number,
    sequence: number,
    steps: { left: number },
  ): (Transaction & { readonly next: number }) | undefined {
    const blocks: Logged[] = [];
    const revoked: number[] = [];
    for (let block = start; steps.left-- > 0; block = this.#after(block)) {
      const bytes = this.log.read(block);
      const view = viewOf(bytes);
      if (view.getUint32(0, false) !== magic || view.getUint32(8, false) !== sequence) break;
      const type = view.getUint32(4, false);
      if (type === BlockType.commit) {
        if (!this.#sumHolds(bytes, commitSumAt)) break;
        return { sequence, blocks, revoked, next: this.#after(block) };
      }
      if (!this.#sumHolds(bytes, bytes.length - 4)) break;
      if (type === BlockType.revoke) revoked.push(...this.#revokes(view));
      else if (type === BlockType.descriptor) {
        for (const { target, escaped, checksum } of this.#tags(view)) {
          block = this.#after(block);
          if (steps.left-- <= 0 || !this.#dataHolds(block, sequence, checksum)) return undefined;
          blocks.push({ target, block: this.log.placeOf(block), escaped });
        }
      } else break;
    }
    return undefined;
  }

  #after(block: number): number {
    return block + 1 >= this.#end ? this.#first : block + 1;
  }

  *#tags(view: DataView): Iterable<{ target: number; escaped: boolean; checksum: number }> {
    const wide = this.#has("64bit");
    const v3 = this.#has("csumV3");
    const size = v3 ? 16 : 8 + (wide ? 4 : 0) + (this.#has("csumV2") ? 2 : 0);
    const end = view.byteLength - (this.#checked ? 4 : 0);
    for (let tag = headerBytes; tag + size <= end; ) {
      const flags = v3 ? view.getUint32(tag + 4, false) : view.getUint16(tag + 6, false);
      const high = wide ? view.getUint32(tag + 8, false) : 0;
      yield {
        target: high * highUnit + view.getUint32(tag, false),
        escaped: (flags & Tag.escape) !== 0,
        checksum: v3 ? view.getUint32(tag + 12, false) : view.getUint16(tag + 4, false),
      };
      if (flags & Tag.last) return;
      tag += size + (flags & Tag.sameUuid ? 0 : uuidBytes);
    }
  }

  *#revokes(view: DataView): Iterable<number> {
    const wide = this.#has("64bit");
    const size = wide ? 8 : 4;
    const end = Math.min(view.getUint32(headerBytes, false), view.byteLength);
    for (let entry = headerBytes + 4; entry + size <= end; entry += size) {
      const high = wide ? view.getUint32(entry, false) * highUnit : 0;
      yield high + view.getUint32(entry + size - 4, false);
    }
  }

  /** Of a block that has its own checksum in it. */
  #sumHolds(bytes: Uint8Array, at: number): boolean {
    if (!this.#checked) return true;
    const view = viewOf(bytes);
    const told = view.getUint32(at, false);
    view.setUint32(at, 0);
    const sum = crc32c(this.#seed, bytes);
    view.setUint32(at, told);
    return sum === told;
  }

  #dataHolds(block: number, sequence: number, told: number): boolean {
    if (!this.#checked) return true;
    const number = new Uint8Array(4);
    viewOf(number).setUint32(0, sequence, false);
    const sum = crc32c(crc32c(this.#seed, number), this.log.read(block));
    return this.#has("csumV3") ? sum === told : (sum & 0xffff) === told;
  }

  /** They lie behind the transactions, after a block that is free (j_fc_first), and go on where the last one ends. */
  #refuseFastCommits(sequence: number): void {
    if (!this.#has("fastCommit")) return;
    const view = viewOf(this.log.read(this.#end + 1));
    const isHead = view.getUint16(0, true) === fastCommitHead;
    if (!isHead || view.getUint32(fastCommitSequenceAt, true) !== sequence) return;
    throw new DiskError("ext4: fast commits in the journal, which chv does not replay; run e2fsck");
  }
}

const broken = () => new DiskError("ext4: the journal's superblock is broken; run e2fsck");
