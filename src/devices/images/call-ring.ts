/**
 * A ring for hosts without io_uring: reads and writes are made by preadv2(2) and pwritev2(2) when they are submitted,
 * and what may take as long as the host likes is a chore. It has room for one request a token.
 */
import { Block } from "../../ffi/block.ts";
import { type FileCalls, fileCalls, RWF_DSYNC } from "../../ffi/file-vector.ts";
import type { RequestRing } from "../../ffi/io-uring.ts";
import { iovecBytes, putIovec } from "../../ffi/iovec.ts";
import type { Chores } from "../chores/chores.ts";

const Call = { read: 0, write: 1, sync: 2, allocate: 3 } as const;
/** Words of the state: tokens that are queued, and that have ended; the one `next` moved to; 1 without chores. */
const [queuedCount, endedCount, current, alone] = [0, 1, 2, 3];

export class CallRing implements RequestRing {
  readonly fd: number;
  private readonly calls: Uint8Array;
  private readonly fds: Int32Array;
  private readonly addresses: Float64Array;
  private readonly lengths: Float64Array;
  private readonly offsets: Float64Array;
  /** RWF_ flags of a write, the mode of an allocation; and the result. */
  private readonly flags: Int32Array;
  private readonly results: Float64Array;
  private readonly queued: Uint32Array;
  private readonly ended: Uint32Array;
  private readonly state = new Uint32Array(4);
  /** An iovec for each transfer of one buffer. */
  private readonly table: Block;
  private readonly words: Uint32Array;

  /** Chores get tags from `firstTag` on. */
  constructor(
    tokens: number,
    readonly chores: Chores,
    readonly firstTag: number,
    readonly files: FileCalls = fileCalls,
  ) {
    this.fd = chores.fd;
    this.calls = new Uint8Array(tokens);
    this.fds = new Int32Array(tokens);
    this.addresses = new Float64Array(tokens);
    this.lengths = new Float64Array(tokens);
    this.offsets = new Float64Array(tokens);
    this.flags = new Int32Array(tokens);
    this.results = new Float64Array(tokens);
    this.queued = new Uint32Array(tokens);
    this.ended = new Uint32Array(tokens);
    this.table = new Block(tokens * iovecBytes);
    this.words = new Uint32Array(this.table.buffer);
  }

  get token(): number {
    return this.state[current]!;
  }
  get result(): number {
    return this.results[this.token]!;
  }

  read(fd: number, address: number, length: number, offset: number, token: number): void {
    this.readv(fd, this.one(token, address, length), 1, offset, token);
  }
  write(
    fd: number,
    address: number,
    length: number,
    offset: number,
    flags: number,
    token: number,
  ): void {
    this.writev(fd, this.one(token, address, length), 1, offset, flags, token);
  }
  readv(fd: number, iovecs: number, count: number, offset: number, token: number): void {
    this.queue(Call.read, fd, iovecs, count, offset, 0, token);
  }
  writev(
    fd: number,
    iovecs: number,
    count: number,
    offset: number,
    flags: number,
    token: number,
  ): void {
    this.queue(Call.write, fd, iovecs, count, offset, flags, token);
  }
  dataSync(fd: number, token: number): void {
    this.queue(Call.sync, fd, 0, 0, 0, 0, token);
  }
  allocate(fd: number, mode: number, offset: number, length: number, token: number): void {
    this.queue(Call.allocate, fd, 0, length, offset, mode, token);
  }

  /** Makes the calls that are queued; those that are chores, as far as there is room for them. */
  submit(): void {
    const { queued, state } = this;
    let kept = 0;
    const count = state[queuedCount]!;
    for (let i = 0; i < count; i++) {
      if (!this.make(queued[i]!)) queued[kept++] = queued[i]!;
    }
    state[queuedCount] = kept;
  }

  next(): boolean {
    const { state, ended } = this;
    if (state[endedCount] === 0) return false;
    state[current] = ended[0]!;
    ended.copyWithin(0, 1, state[endedCount]!--);
    return true;
  }

  /** The chore with a tag from `firstTag` on has ended. */
  choreEnded(tag: number, error: number): void {
    const token = tag - this.firstTag;
    if (error !== 0) this.results[token] = -error;
    this.end(token);
  }

  close(): void {}

  /** From now on chores are done at once, in this thread. */
  workAlone(): void {
    this.state[alone] = 1;
  }

  private one(token: number, address: number, length: number): number {
    putIovec(this.words, (token * iovecBytes) / 4, address, length);
    return this.table.address + token * iovecBytes;
  }

  private queue(
    call: number,
    fd: number,
    address: number,
    length: number,
    offset: number,
    flags: number,
    token: number,
  ): void {
    this.calls[token] = call;
    this.fds[token] = fd;
    this.addresses[token] = address;
    this.lengths[token] = length;
    this.offsets[token] = offset;
    this.flags[token] = flags;
    this.results[token] = 0;
    this.queued[this.state[queuedCount]!++] = token;
  }

  /** False when it is a chore, and there are too many in hand. */
  private make(token: number): boolean {
    const { files, chores } = this;
    const fd = this.fds[token]!;
    const offset = this.offsets[token]!;
    const length = this.lengths[token]!;
    const iovecs = this.addresses[token]!;
    switch (this.calls[token]) {
      case Call.read:
        this.results[token] = files.readVector(fd, iovecs, length, offset);
        break;
      case Call.write: {
        const count = files.writeVector(fd, iovecs, length, offset, 0);
        this.results[token] = count;
        if (count > 0 && (this.flags[token]! & RWF_DSYNC) !== 0) {
          // not written again should there be no room for the chore
          this.calls[token] = Call.sync;
          return this.make(token);
        }
        break;
      }
      case Call.sync: {
        if (this.state[alone] === 0) return chores.sync(this.firstTag + token, fd);
        const result = files.dataSync(fd);
        if (result < 0) this.results[token] = result;
        break;
      }
      default: {
        const mode = this.flags[token]!;
        if (this.state[alone] === 0) {
          return chores.allocate(this.firstTag + token, fd, mode, offset, length);
        }
        this.results[token] = files.allocateRange(fd, mode, offset, length);
      }
    }
    this.end(token);
    return true;
  }

  private end(token: number): void {
    this.ended[this.state[endedCount]!++] = token;
  }
}
