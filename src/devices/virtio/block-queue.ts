/**
 * One queue of the block device: its requests (virtio 1.2 section 5.2.6), each in a slot while the image has it in
 * hand. A request's data moves between guest pages and the image by system calls alone; here its header is read and
 * its status written, wherever the driver split them.
 */
import type { DiskImage } from "../images/disk-image.ts";
import type { Transfers } from "../images/transfers.ts";
import type { BackendHost } from "./backend.ts";
import {
  BlockCounter,
  BlockRequest,
  type BlockSpec,
  BlockStatus,
  idBytes,
  maxRangeSectors,
  sectorBytes,
  unmapFlag,
  VirtioBlkDiscardWriteZeroes,
  VirtioBlkOuthdr,
} from "./block-config.ts";
import type { Virtqueue } from "./queue.ts";
import type { RateLimiter } from "./rate-limiter.ts";
import type { SectorGuard } from "./sector-guard.ts";

const { size: headerBytes, offsets: headerAt } = VirtioBlkOuthdr;
const { size: rangeBytes, offsets: rangeAt } = VirtioBlkDiscardWriteZeroes;
const highUnit = 0x1_0000_0000;
const sectorWord = headerAt.sector / 4;
/** Words of a queue's state: free slots, and 1 where it has chains left. */
const [freeCount, waiting] = [0, 1];
/** Most requests, and about the most bytes, that a queue takes before other queues and devices have their turn. */
const turnRequests = 256;
const turnBytes = 2 ** 24;
/** The same where a process serves that device alone: a queue that has its buffers in the cache goes on for longer. */
const longTurnBytes = 2 ** 27;
/**
 * The image begins with them in batches, and the driver hears of what has ended, while further ones are looked at: the
 * host's disk, this thread and the driver are at work at the same time, and buffers come again while they are in a
 * processor's cache. Of about so many bytes; each request counts for some more. Past the page cache the first batch is
 * one request, and the next ones double: the disk is at work at once, and not without before there is more.
 */
const batchBytes = 2 ** 21;
const requestBytes = batchBytes / 8;
/** A request of so many bytes takes longer than a driver to answer: another is left for the time until it has. */
const longBytes = 2 ** 18;
/** Stands for the type of a request too short to have one. */
const noHeader = -1;
/** What a request comes to that the limits do not let begin. */
const refused = -1;

/** What all queues of a device have in common. */
export interface BlockParts {
  readonly host: Pick<BackendHost, "polls">;
  readonly spec: BlockSpec;
  readonly image: DiskImage;
  readonly transfers: Transfers;
  readonly counters: Float64Array;
  /** What GET_ID answers. */
  readonly id: Uint8Array;
  /** Whether a write must be stable before it ends, and what the driver accepted. */
  readonly durable: boolean;
  readonly discards: boolean;
  readonly zeroes: boolean;
  /** Whether `count` sectors from `sector` on are the disk's. */
  holds(sector: number, count: number): boolean;
  readonly limiter: RateLimiter;
  readonly guard: SectorGuard | undefined;
  /** A queue has chains left when its turn is over: it is to go on when others have had theirs. */
  again(): void;
}

export class BlockQueue {
  private readonly state = new Uint32Array(2);
  /** The free slots are the first `freeCount` of these. */
  private readonly free: Uint32Array;
  /** By slot of this queue: the chain's head, where its status byte is, and how many bytes have room before it. */
  private readonly heads: Uint16Array;
  private readonly statuses: Float64Array;
  private readonly rooms: Float64Array;
  /** Of those, how many the request fills if it succeeds. */
  private readonly fills: Float64Array;
  /** The header of the request that begins. */
  private readonly header = new Uint32Array(headerBytes / 4);

  /** The queue has the image's slots `first` to `first + depth - 1`. */
  constructor(
    readonly queue: Virtqueue,
    readonly first: number,
    readonly depth: number,
    readonly parts: BlockParts,
  ) {
    this.free = Uint32Array.from({ length: depth }, (_, i) => first + i);
    this.state[freeCount] = depth;
    this.heads = new Uint16Array(depth);
    this.statuses = new Float64Array(depth);
    this.rooms = new Float64Array(depth);
    this.fills = new Float64Array(depth);
  }

  /** Requests are in hand. */
  get busy(): boolean {
    return this.state[freeCount]! < this.depth;
  }

  /** There are chains left. */
  get waits(): boolean {
    return this.state[waiting] === 1;
  }

  /** There are chains left, and slots for them; the limits may say otherwise. */
  get canGoOn(): boolean {
    return this.state[waiting] === 1 && this.state[freeCount]! > 0;
  }

  /** Takes chains until there are no more of them, no more slots, or it is another's turn. Throws GuestFault. */
  work(): void {
    const { queue, state, parts } = this;
    queue.pauseKicks();
    state[waiting] = 0;
    let requests = turnRequests;
    let bytes = parts.host.polls === true ? longTurnBytes : turnBytes;
    let most = parts.spec.direct ? requestBytes : batchBytes;
    let batch = most;
    for (;;) {
      let head = 0;
      let begun = 0;
      while (state[freeCount]! > 0 && requests > 0 && bytes > 0 && (head = queue.next()) >= 0) {
        begun = this.begin(head);
        if (begun === refused) break;
        requests--;
        bytes -= begun;
        batch -= begun + requestBytes;
        if (batch > 0 && (begun < longBytes || queue.offered !== 1)) continue;
        most = Math.min(2 * most, batchBytes);
        batch = most;
        parts.image.turn();
        queue.flush();
      }
      parts.image.turn();
      queue.flush();
      // a host that polls asks for kicks when it stops doing so
      if (head < 0 && (parts.host.polls === true || queue.armKick())) return;
      state[waiting] = 1;
      if (begun === refused) {
        queue.putBack(1);
        return;
      }
      if (requests <= 0 || bytes <= 0) parts.again();
      if (requests <= 0 || bytes <= 0 || state[freeCount] === 0) return;
      state[waiting] = 0;
    }
  }

  /** Begins a chain's request: how many bytes it moves, or `refused`. */
  private begin(head: number): number {
    const { chain } = this.queue;
    const headed = chain.readableBytes >= headerBytes;
    if (headed) chain.readWords(0, this.header);
    const type = headed ? this.header[headerAt.type / 4]! : noHeader;
    const out = type === BlockRequest.OUT ? chain.readableBytes - headerBytes : 0;
    const bytes = type === BlockRequest.IN ? Math.max(chain.writableBytes - 1, 0) : out;
    if (!this.parts.limiter.admits(bytes)) return refused;
    this.parts.limiter.spend(bytes);
    if (chain.writableBytes === 0)
      this.queue.complete(head, 0); // nowhere to put a status
    else this.beginType(head, type);
    return bytes;
  }

  private beginType(head: number, type: number): void {
    const { chain } = this.queue;
    const { image, counters, discards, zeroes } = this.parts;
    const slot = this.free[--this.state[freeCount]!]!;
    const room = chain.writableBytes - 1;
    const own = slot - this.first;
    this.heads[own] = head;
    this.statuses[own] = chain.writableAt(room);
    this.rooms[own] = room;
    this.fills[own] = 0;
    switch (type) {
      case noHeader:
        this.finish(slot, BlockStatus.IOERR);
        return;
      case BlockRequest.IN:
        this.fills[own] = room;
        this.transfer(slot, false, 0, room);
        return;
      case BlockRequest.OUT:
        this.transfer(slot, true, headerBytes, chain.readableBytes - headerBytes);
        return;
      case BlockRequest.FLUSH:
        counters[BlockCounter.flush_ops]!++;
        image.flush(slot);
        return;
      case BlockRequest.GET_ID:
        this.giveId(slot, room);
        return;
      case BlockRequest.DISCARD:
        if (discards) this.range(slot, 0);
        else this.finish(slot, BlockStatus.UNSUPP);
        return;
      case BlockRequest.WRITE_ZEROES:
        if (zeroes) this.range(slot, unmapFlag);
        else this.finish(slot, BlockStatus.UNSUPP);
        return;
      default:
        this.finish(slot, BlockStatus.UNSUPP);
    }
  }

  /** IN and OUT: `length` bytes of the chain from `skip` on. */
  private transfer(slot: number, write: boolean, skip: number, length: number): void {
    const { parts } = this;
    const { spec, transfers, image, counters, durable, guard } = parts;
    const { chain } = this.queue;
    const sector = this.header[sectorWord + 1]! * highUnit + this.header[sectorWord]!;
    const forbidden = write && spec.readonly;
    if (forbidden || length % sectorBytes !== 0 || !parts.holds(sector, length / sectorBytes)) {
      this.finish(slot, BlockStatus.IOERR);
      return;
    }
    const word = transfers.wordOf(slot);
    const count =
      guard && write && sector === 0 && length > 0
        ? guard.gather(slot, chain, skip, length)
        : chain.gather(!write, skip, length, transfers.words, word, transfers.segments);
    if (count <= 0) {
      this.finish(slot, count === 0 ? BlockStatus.OK : BlockStatus.IOERR);
      return;
    }
    transfers.set(slot, sector * sectorBytes, length, count);
    counters[write ? BlockCounter.write_ops : BlockCounter.read_ops]!++;
    counters[write ? BlockCounter.write_bytes : BlockCounter.read_bytes]! += length;
    if (write) image.write(slot, durable);
    else image.read(slot);
  }

  /** DISCARD, which takes no flags, and WRITE_ZEROES, of one range. */
  private range(slot: number, allowedFlags: number): void {
    const { parts } = this;
    const { spec, transfers, image, counters, durable } = parts;
    const { chain } = this.queue;
    if (chain.readableBytes !== headerBytes + rangeBytes) {
      this.finish(slot, BlockStatus.IOERR);
      return;
    }
    const sector = this.readAddr(headerBytes + rangeAt.sector);
    const count = chain.readUint32(headerBytes + rangeAt.num_sectors);
    const flags = chain.readUint32(headerBytes + rangeAt.flags);
    if ((flags & ~allowedFlags) !== 0) {
      this.finish(slot, BlockStatus.UNSUPP);
    } else if (count > maxRangeSectors || !parts.holds(sector, count)) {
      this.finish(slot, BlockStatus.IOERR);
    } else if (count === 0) {
      this.finish(slot, BlockStatus.OK);
    } else {
      transfers.set(slot, sector * sectorBytes, count * sectorBytes, 0);
      if (allowedFlags === 0) {
        counters[BlockCounter.discard_ops]!++;
        image.discard(slot);
      } else {
        counters[BlockCounter.write_zeroes_ops]!++;
        image.writeZeroes(slot, (flags & unmapFlag) !== 0 && spec.discard, durable);
      }
    }
  }

  private giveId(slot: number, room: number): void {
    const { queue, parts } = this;
    const length = Math.min(room, idBytes);
    for (let i = 0; i < length; i++) {
      queue.windows.setUint8(queue.chain.writableAt(i), parts.id[i]!);
    }
    this.fills[slot - this.first] = length;
    this.finish(slot, BlockStatus.OK);
  }

  /** Writes the status, gives the chain back, and frees the slot. */
  finish(slot: number, status: number): void {
    const own = slot - this.first;
    if (status !== BlockStatus.OK) this.parts.counters[BlockCounter.errors]!++;
    this.queue.windows.setUint8(this.statuses[own]!, status);
    // what is written counts from the first byte without a gap; the status is the last
    const filled = status === BlockStatus.OK ? this.fills[own]! : 0;
    this.queue.complete(this.heads[own]!, filled === this.rooms[own] ? filled + 1 : filled);
    this.free[this.state[freeCount]!++] = slot;
  }

  private readAddr(offset: number): number {
    const { chain } = this.queue;
    return chain.readUint32(offset + 4) * highUnit + chain.readUint32(offset);
  }
}
