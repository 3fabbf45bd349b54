/**
 * Reads and writes of metadata, a few at a time, each carried through to its end. The caller looks at `isFull` before
 * it begins one, and at `pending` and `takeError` behind them.
 */
import { Block } from "../../../ffi/block.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../../../ffi/file-vector.ts";
import { Errno } from "../../../ffi/libc.ts";
import { pieceBytes } from "./format.ts";
import type { Io } from "./io.ts";
import { laneOps } from "./lists.ts";

const Op = { none: 0, read: 1, write: 2, sync: 3, punch: 4 } as const;
const maxTries = 100;
/** Zeroes are written, and tables copied, in pieces of this. */
export const copyBytes = 65536;
const [pending, failure] = [0, 1];

export class LaneIo {
  private readonly ops = new Uint8Array(laneOps);
  private readonly addresses = new Float64Array(laneOps);
  private readonly lengths = new Float64Array(laneOps);
  private readonly offsets = new Float64Array(laneOps);
  private readonly tries = new Uint8Array(laneOps);
  private readonly state = new Uint32Array(2);
  /** Aligned for O_DIRECT: a piece for each operation, a buffer to copy by, and zeroes. */
  private readonly memory = new Block((laneOps + 1) * pieceBytes + 2 * copyBytes);
  private readonly shift =
    Math.ceil(this.memory.address / pieceBytes) * pieceBytes - this.memory.address;

  constructor(
    readonly io: Io,
    readonly fd: number,
    readonly firstToken: number,
  ) {}

  get copyAddress(): number {
    return this.memory.address + this.shift + laneOps * pieceBytes;
  }

  /** Operations in flight. */
  get pending(): number {
    return this.state[pending]!;
  }
  get isFull(): boolean {
    return this.state[pending] === laneOps;
  }

  /** The errno of the first operation that failed since this was asked last, or 0. */
  takeError(): number {
    const error = this.state[failure]!;
    this.state[failure] = 0;
    return error;
  }

  read(address: number, length: number, offset: number): void {
    this.begin(Op.read, address, length, offset);
  }
  write(address: number, length: number, offset: number): void {
    this.begin(Op.write, address, length, offset);
  }

  /** Writes bytes of shared memory, at most a piece: they are copied at once. */
  writeBytes(source: Uint8Array, offset: number): void {
    const at = this.shift + this.ops.indexOf(Op.none) * pieceBytes;
    this.memory.bytes.set(source, at);
    this.begin(Op.write, this.memory.address + at, source.length, offset);
  }

  /** `length` is at most `copyBytes`. */
  writeZeroes(length: number, offset: number): void {
    this.begin(Op.write, this.copyAddress + copyBytes, length, offset);
  }

  sync(): void {
    this.begin(Op.sync, 0, 0, 0);
  }

  /** Gives room back, where the file can. */
  punch(offset: number, length: number): void {
    this.begin(Op.punch, 0, length, offset);
  }

  ended(index: number, result: number): void {
    if (this.goesOn(index, result)) {
      this.queue(index);
      return;
    }
    this.ops[index] = Op.none;
    this.state[pending]!--;
  }

  private begin(op: number, address: number, length: number, offset: number): void {
    const index = this.ops.indexOf(Op.none);
    this.ops[index] = op;
    this.addresses[index] = address;
    this.lengths[index] = length;
    this.offsets[index] = offset;
    this.tries[index] = 0;
    this.state[pending]!++;
    this.queue(index);
  }

  private queue(index: number): void {
    const { io, fd } = this;
    const token = this.firstToken + index;
    const [address, length] = [this.addresses[index]!, this.lengths[index]!];
    const offset = this.offsets[index]!;
    switch (this.ops[index]) {
      case Op.read:
        io.read(fd, address, length, offset, token);
        return;
      case Op.write:
        io.write(fd, address, length, offset, 0, token);
        return;
      case Op.sync:
        io.dataSync(fd, token);
        return;
      default:
        io.allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length, token);
    }
  }

  /** True when the operation has to be queued again. */
  private goesOn(index: number, result: number): boolean {
    const op = this.ops[index]!;
    if (result < 0) {
      const again = result === -Errno.EINTR || result === -Errno.EAGAIN;
      if (again && ++this.tries[index]! < maxTries) return true;
      if (op !== Op.punch) this.fail(-result); // giving room back is a courtesy
      return false;
    }
    if (op === Op.sync || op === Op.punch) return false;
    this.addresses[index]! += result;
    this.offsets[index]! += result;
    this.lengths[index]! -= result;
    if (this.lengths[index] === 0) return false;
    if (result === 0) this.fail(Errno.EIO); // a table is cut off, or the device is full
    return result > 0;
  }

  private fail(error: number): void {
    if (this.state[failure] === 0) this.state[failure] = error;
  }
}
