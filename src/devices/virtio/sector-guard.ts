/**
 * Keeps a raw disk raw whose format was found by looking at it: a guest that wrote another format's header to sector 0
 * would have the next start read what that header names, other files of the host among it. A write to sector 0 is
 * copied and looked at, and it is the copy that goes to the image: what the guest does to its memory meanwhile is too
 * late.
 */
import { Block } from "../../ffi/block.ts";
import { iovecWords, putIovec } from "../../ffi/iovec.ts";
import { copyBetween } from "../../ffi/memory.ts";
import { formatNames, type ImageFormat, probeImage } from "../images/probe.ts";
import type { Transfers } from "../images/transfers.ts";
import type { Chain } from "./chain.ts";

const pageBytes = 4096;
/** A guest may well encrypt its whole disk; that names no other file. */
const harmless: readonly ImageFormat[] = ["raw", "luks"];

export class SectorGuard {
  /** By slot, made when it is first needed. */
  private readonly copies: (Block | undefined)[] = [];
  private readonly flags = new Uint8Array(1);

  /** `blockBytes`, at most a page, are copied: what the image takes at least. */
  constructor(
    readonly transfers: Transfers,
    readonly blockBytes: number,
    readonly warn: (text: string) => void,
  ) {}

  /**
   * Lays a slot's iovecs over `length` bytes, at least a sector, of what the chain's driver writes from sector 0 on:
   * their number, or -1 when the write is refused or in too many pieces.
   */
  gather(slot: number, chain: Chain, skip: number, length: number): number {
    const { transfers } = this;
    const word = transfers.wordOf(slot);
    const copied = Math.min(length, this.blockBytes);
    const pieces = chain.gather(false, skip, copied, transfers.words, word, transfers.segments);
    if (pieces < 0) return -1;
    this.copies[slot] ??= new Block(2 * pageBytes);
    const copy = this.copies[slot]!;
    const address = Math.ceil(copy.address / pageBytes) * pageBytes;
    transfers.set(slot, 0, copied, pieces);
    for (let piece = 0, done = 0; piece < pieces; piece++) {
      copyBetween(address + done, transfers.baseOf(slot, piece), transfers.lengthOf(slot, piece));
      done += transfers.lengthOf(slot, piece);
    }
    if (this.refuses(copy.bytes.subarray(address - copy.address))) return -1;
    putIovec(transfers.words, word, address, copied);
    const [next, room] = [word + iovecWords, transfers.segments - 1];
    const rest = chain.gather(false, skip + copied, length - copied, transfers.words, next, room);
    return rest < 0 ? -1 : rest + 1;
  }

  private refuses(sector: Uint8Array): boolean {
    const format = probeImage(sector);
    if (harmless.includes(format)) return false;
    if (this.flags[0] === 0) {
      const what = `the guest would make its first sector that of a ${formatNames[format]} image`;
      this.warn(`${what}: such writes are refused, as it was found to be raw; say image_type=raw`);
    }
    this.flags[0] = 1;
    return true;
  }
}
