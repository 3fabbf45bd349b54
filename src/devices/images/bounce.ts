/**
 * A detour for transfers that O_DIRECT refuses because of where the guest's memory lies (open(2), "O_DIRECT"): by way
 * of one aligned buffer, piece by piece. Rare, as drivers align to the block size that they are told; so it may wait
 * for the host.
 */
import { Block } from "../../ffi/block.ts";
import type { FileCalls } from "../../ffi/file-vector.ts";
import { iovecBytes, putIovec } from "../../ffi/iovec.ts";
import { copyBetween } from "../../ffi/memory.ts";
import type { Transfers } from "./transfers.ts";

const bounceBytes = 2 ** 18;
const pageBytes = 4096;

export class Bounce {
  private readonly memory = new Block(bounceBytes + pageBytes);
  private readonly address = Math.ceil(this.memory.address / pageBytes) * pageBytes;
  private readonly iovec = new Block(iovecBytes);
  private readonly words = new Uint32Array(this.iovec.buffer);

  constructor(
    readonly fd: number,
    readonly transfers: Transfers,
    readonly calls: FileCalls,
  ) {}

  /** Reads the next piece of what a slot has left: how many bytes, or minus the errno. */
  read(slot: number): number {
    this.lay(Math.min(this.transfers.left[slot]!, bounceBytes));
    const offset = this.transfers.offsets[slot]!;
    const count = this.calls.readVector(this.fd, this.iovec.address, 1, offset);
    if (count > 0) this.copy(slot, count, false);
    return count;
  }

  /** Writes the next piece. */
  write(slot: number): number {
    const length = Math.min(this.transfers.left[slot]!, bounceBytes);
    this.copy(slot, length, true);
    this.lay(length);
    const offset = this.transfers.offsets[slot]!;
    return this.calls.writeVector(this.fd, this.iovec.address, 1, offset, 0);
  }

  private lay(length: number): void {
    putIovec(this.words, 0, this.address, length);
  }

  /** Copies between the buffer and the first `length` bytes that the slot has left. */
  private copy(slot: number, length: number, fromGuest: boolean): void {
    const { transfers } = this;
    for (let index = 0, done = 0; done < length; index++) {
      const base = transfers.baseOf(slot, index);
      const size = Math.min(transfers.lengthOf(slot, index), length - done);
      const [to, from] = fromGuest ? [this.address + done, base] : [base, this.address + done];
      copyBetween(to, from, size);
      done += size;
    }
  }
}
