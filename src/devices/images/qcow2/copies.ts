/** Copies of clusters that are written elsewhere: what a request does not write itself is read into a buffer. */
import { Block } from "../../../ffi/block.ts";
import { iovecWords, putIovec } from "../../../ffi/iovec.ts";
import { zeroAt } from "../../../ffi/memory.ts";
import { Transfers } from "../transfers.ts";
import { pieceBytes } from "./format.ts";
import { List, maxCopies } from "./lists.ts";
import { Reader, type ReaderParts } from "./reader.ts";

/** Most memory for copies, beside the two that there are at least. */
const mostBytes = 2 ** 21;

export class Copies {
  readonly reader: Reader;
  private readonly transfers: Transfers;
  private readonly count: number;
  /** Whose each is, or -1 when it is free. */
  private readonly owners: Int32Array;
  /** The memory of all, once it was needed. */
  private readonly memory: Block[] = [];

  /** Copies are tasks from `firstTask` on. `copied` is told where a slot's cluster is, or an errno. */
  constructor(
    readonly parts: ReaderParts,
    readonly clusterBytes: number,
    readonly diskBytes: number,
    firstTask: number,
    copied: (slot: number, address: number, error: number) => void,
  ) {
    this.count = Math.min(Math.max(Math.floor(mostBytes / clusterBytes), 2), maxCopies);
    this.owners = new Int32Array(this.count).fill(-1);
    this.transfers = new Transfers(this.count, 1);
    this.reader = new Reader(parts, this.transfers, firstTask, (copy, error) =>
      copied(this.owners[copy]!, this.addressOf(copy), error),
    );
  }

  get hasRoom(): boolean {
    return this.owners.includes(-1);
  }

  /** Takes a free buffer for a slot: its number, which `end` gives back. */
  claim(slot: number): number {
    const copy = this.owners.indexOf(-1);
    this.owners[copy] = slot;
    return copy;
  }

  /** Reads the cluster at an offset of the disk. */
  begin(copy: number, offset: number): void {
    const { transfers, clusterBytes } = this;
    const address = this.addressOf(copy);
    const bytes = Math.min(clusterBytes, this.diskBytes - offset);
    zeroAt(address + bytes, clusterBytes - bytes);
    putIovec(transfers.words, copy * iovecWords, address, bytes);
    transfers.set(copy, offset, bytes, 1);
    this.reader.begin(copy);
  }

  end(copy: number): void {
    this.owners[copy] = -1;
    this.parts.waits.wake(List.copyRoom);
  }

  /** Aligned for O_DIRECT. */
  private addressOf(copy: number): number {
    if (this.memory.length === 0) {
      this.memory.push(new Block(this.count * this.clusterBytes + pieceBytes));
    }
    const start = Math.ceil(this.memory[0]!.address / pieceBytes) * pieceBytes;
    return start + copy * this.clusterBytes;
  }
}
