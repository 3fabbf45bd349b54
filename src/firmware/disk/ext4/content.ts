/** What an inode holds: its blocks, by extents or by the older block map, or data inside the inode itself. */
import { DiskError, viewOf } from "../medium.ts";
import { ExtentHeader, extentBytes, extentMagic, extentWritten, InodeFlag } from "./layout.ts";
import type { RawInode, Volume } from "./volume.ts";

const highUnit = 0x1_0000_0000;
const depthMax = 5;
const direct = 12;

/** `count` blocks of a file from `logical` on: at `physical`, or all zeros where that is 0. */
export interface Run {
  readonly logical: number;
  readonly count: number;
  readonly physical: number;
}

/** All of an inode's data. Throws DiskError when it is longer than `limit`. */
export function contentOf(volume: Volume, inode: RawInode, limit: number): Uint8Array {
  const { size } = inode;
  if (size > limit) throw new DiskError(`ext4: ${size} bytes, more than the ${limit} looked for`);
  const { i_flags: flags } = inode.fields;
  if (flags & InodeFlag.ENCRYPT) throw new DiskError("ext4: encrypted");
  if (flags & InodeFlag.INLINE_DATA) return inlineData(inode).slice(0, size);
  let content: Uint8Array | undefined;
  const { blockBytes } = volume;
  const blocks = Math.ceil(size / blockBytes);
  for (const { logical, count, physical } of runsOf(volume, inode, blocks)) {
    if (physical === 0 || logical >= blocks) continue;
    const used = Math.min(count, blocks - logical);
    const data = volume.run(physical, used);
    if (used === blocks) return data.subarray(0, size); // in one piece: nothing is copied
    content ??= new Uint8Array(size);
    content.set(data.subarray(0, size - logical * blockBytes), logical * blockBytes);
  }
  return content ?? new Uint8Array(size);
}

/** Where a file's blocks lie, in ascending order, neighbours in one; holes are left out, or at 0. */
export function* runsOf(volume: Volume, inode: RawInode, blocks: number): Iterable<Run> {
  const { i_block, i_flags } = inode.fields;
  const runs =
    i_flags & InodeFlag.EXTENTS
      ? extentRuns(volume, i_block.slice(), depthMax, { next: 0, blocks })
      : mapRuns(volume, viewOf(i_block.slice()), blocks);
  let open: Run | undefined;
  for (const { logical, count, physical } of runs) {
    if (open && open.physical > 0 && physical === open.physical + open.count) {
      if (logical === open.logical + open.count) {
        open = { ...open, count: open.count + count };
        continue;
      }
    }
    if (open) yield open;
    open = { logical, count, physical };
  }
  if (open) yield open;
}

/** What a walk through a tree has passed: it only goes up, so that no tree is without end. */
interface Walk {
  /** The lowest block that the next extent may begin with. */
  next: number;
  /** Of the file; what lies behind them is not looked at. */
  readonly blocks: number;
}

function* extentRuns(
  volume: Volume,
  node: Uint8Array,
  depth: number,
  walk: Walk,
  isRoot = true,
): Iterable<Run> {
  const view = viewOf(node);
  const header = new ExtentHeader(view);
  const { eh_entries: entries, eh_depth } = header;
  const room = Math.floor((node.length - ExtentHeader.size) / extentBytes);
  const isEmpty = entries === 0 && !isRoot;
  if (header.eh_magic !== extentMagic || eh_depth > depth || entries > room || isEmpty) {
    throw brokenTree();
  }
  for (let i = 0; i < entries && walk.next < walk.blocks; i++) {
    const at = ExtentHeader.size + i * extentBytes;
    if (eh_depth > 0) {
      const block = view.getUint16(at + 8, true) * highUnit + view.getUint32(at + 4, true);
      yield* extentRuns(volume, volume.block(block), eh_depth - 1, walk, false);
      continue;
    }
    const logical = view.getUint32(at, true);
    const length = view.getUint16(at + 4, true);
    const start = view.getUint16(at + 6, true) * highUnit + view.getUint32(at + 8, true);
    const written = length <= extentWritten;
    const count = written ? length : length - extentWritten;
    if (logical < walk.next || count === 0) throw brokenTree();
    walk.next = logical + count;
    yield { logical, count, physical: written ? start : 0 };
  }
}

const brokenTree = () => new DiskError("ext4: a broken extent tree");

/** The block map of ext2 and ext3: 12 blocks, and three trees of one, two and three levels. */
function* mapRuns(volume: Volume, map: DataView, blocks: number): Iterable<Run> {
  const perBlock = volume.blockBytes / 4;
  let logical = 0;
  function* level(block: number, depth: number): Iterable<Run> {
    if (depth === 0 || block === 0) {
      if (block !== 0) yield { logical, count: 1, physical: block };
      logical += perBlock ** depth;
      return;
    }
    const pointers = viewOf(volume.block(block));
    for (let i = 0; i < perBlock && logical < blocks; i++) {
      yield* level(pointers.getUint32(i * 4, true), depth - 1);
    }
  }
  for (let i = 0; i < direct + 3 && logical < blocks; i++) {
    yield* level(map.getUint32(i * 4, true), Math.max(0, i - direct + 1));
  }
}

const inlineBytes = 60;
const attributeMagic = 0xea02_0000;
/** "system." is attribute index 7. */
const systemIndex = 7;

/** Data in the inode: 60 bytes in place of the block map, the rest in the attribute `system.data`. */
export function inlineData(inode: RawInode): Uint8Array {
  const first = inode.fields.i_block;
  const more = systemData(inode);
  const all = new Uint8Array(inlineBytes + more.length);
  all.set(first);
  all.set(more, inlineBytes);
  return all;
}

export function systemData({ bytes }: RawInode): Uint8Array {
  const none = new Uint8Array(0);
  if (bytes.length < 132) return none;
  const view = viewOf(bytes);
  const magicAt = 128 + view.getUint16(128, true); // behind i_extra_isize
  if (magicAt + 4 > bytes.length || view.getUint32(magicAt, true) !== attributeMagic) return none;
  const entriesAt = magicAt + 4;
  let at = entriesAt;
  while (at + 16 <= bytes.length && view.getUint32(at, true) !== 0) {
    const [nameLength, index] = [bytes[at]!, bytes[at + 1]!];
    const offset = view.getUint16(at + 2, true);
    const size = view.getUint32(at + 8, true);
    const name = new TextDecoder("latin1").decode(bytes.subarray(at + 16, at + 16 + nameLength));
    if (index === systemIndex && name === "data") {
      const start = entriesAt + offset;
      if (start + size > bytes.length) throw new DiskError("ext4: inline data beyond its inode");
      return bytes.slice(start, start + size);
    }
    at += (16 + nameLength + 3) & ~3;
  }
  return none;
}
