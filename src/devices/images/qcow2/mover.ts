/**
 * Queues transfers between a file and the next bytes of a slot: straight from or to the slot's own pieces of memory.
 * Where a transfer ends within them, its iovecs are cut into a table of their own.
 */

import { Block } from "../../../ffi/block.ts";
import { iovecBytes, iovecWords, putIovec } from "../../../ffi/iovec.ts";
import type { Transfers } from "../transfers.ts";
import type { Io } from "./io.ts";

export class Mover {
  private readonly table: Block;
  private readonly words: Uint32Array;

  constructor(
    readonly io: Io,
    readonly transfers: Transfers,
  ) {
    this.table = new Block(transfers.slots * transfers.segments * iovecBytes);
    this.words = new Uint32Array(this.table.buffer);
  }

  /** `bytes` is at most what the slot's pieces hold. */
  read(slot: number, fd: number, offset: number, bytes: number, token: number): void {
    const { io, transfers } = this;
    if (bytes <= transfers.lengthOf(slot, 0)) {
      io.read(fd, transfers.baseOf(slot, 0), bytes, offset, token);
    } else if (bytes === transfers.left[slot]) {
      io.readv(fd, transfers.iovecs(slot), transfers.count(slot), offset, token);
    } else {
      io.readv(fd, this.addressOf(slot), this.cut(slot, bytes), offset, token);
    }
  }

  write(
    slot: number,
    fd: number,
    offset: number,
    bytes: number,
    flags: number,
    token: number,
  ): void {
    const { io, transfers } = this;
    if (bytes <= transfers.lengthOf(slot, 0)) {
      io.write(fd, transfers.baseOf(slot, 0), bytes, offset, flags, token);
    } else if (bytes === transfers.left[slot]) {
      io.writev(fd, transfers.iovecs(slot), transfers.count(slot), offset, flags, token);
    } else {
      io.writev(fd, this.addressOf(slot), this.cut(slot, bytes), offset, flags, token);
    }
  }

  private addressOf(slot: number): number {
    return this.table.address + slot * this.transfers.segments * iovecBytes;
  }

  /** Lays iovecs over exactly the slot's next bytes: how many they are. */
  private cut(slot: number, bytes: number): number {
    const { transfers, words } = this;
    const first = transfers.wordOf(slot);
    let count = 0;
    for (let done = 0; done < bytes; count++) {
      const length = Math.min(transfers.lengthOf(slot, count), bytes - done);
      putIovec(words, first + count * iovecWords, transfers.baseOf(slot, count), length);
      done += length;
    }
    return count;
  }
}
