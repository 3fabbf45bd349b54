/**
 * A detour for a transfer that O_DIRECT refuses because of where its memory lies: by way of one aligned buffer, up to
 * `detourBytes` at a time. Rare, as drivers align to the block size that they are told; so it may wait for the host.
 */
import { Block } from "../../../ffi/block.ts";
import { type FileCalls, fileCalls } from "../../../ffi/file-vector.ts";
import { iovecBytes, putIovec } from "../../../ffi/iovec.ts";
import type { Transfers } from "../transfers.ts";
import { pieceBytes } from "./format.ts";
import { gather, scatter } from "./pieces.ts";

const detourBytes = 2 ** 18;

export class Detour {
  /** The buffer, once it was needed. */
  private readonly buffers: Block[] = [];
  private readonly iovec = new Block(iovecBytes);
  private readonly words = new Uint32Array(this.iovec.buffer);

  constructor(readonly calls: FileCalls = fileCalls) {}

  /** Reads into the slot's next bytes: how many, or minus the errno. */
  read(transfers: Transfers, slot: number, fd: number, offset: number, bytes: number): number {
    const address = this.lay(bytes);
    const count = this.calls.readVector(fd, this.iovec.address, 1, offset);
    if (count > 0) scatter(transfers, slot, address, count);
    return count;
  }

  write(
    transfers: Transfers,
    slot: number,
    fd: number,
    offset: number,
    bytes: number,
    flags: number,
  ): number {
    gather(transfers, slot, this.lay(bytes), Math.min(bytes, detourBytes));
    return this.calls.writeVector(fd, this.iovec.address, 1, offset, flags);
  }

  private lay(bytes: number): number {
    if (this.buffers.length === 0) this.buffers.push(new Block(detourBytes + pieceBytes));
    const address = Math.ceil(this.buffers[0]!.address / pieceBytes) * pieceBytes;
    putIovec(this.words, 0, address, Math.min(bytes, detourBytes));
    return address;
  }
}
