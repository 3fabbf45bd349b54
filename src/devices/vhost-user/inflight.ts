/**
 * The area that outlives this process: which chains the device has in hand, queue by queue (vhost-user, "Inflight I/O
 * tracking", split layout). The front end keeps its descriptor and gives it to the next back end, which takes up those
 * chains anew. A process may die between any two of the steps below; their order is what makes that harmless.
 */
import { fstatSync } from "node:fs";
import { windowOn } from "../../ffi/block.ts";
import { close, truncate } from "../../ffi/file.ts";
import { MapFlag, memfd, mmap, munmap, Prot } from "../../ffi/memory.ts";
import type { InFlight } from "../virtio/queue.ts";
import { maxQueueSize } from "../virtio/registers.ts";
import { Refusal } from "./errors.ts";
import { DescStateSplit, QueueRegionSplit } from "./protocol.ts";

const { offsets: head } = QueueRegionSplit;
const { offsets: state } = DescStateSplit;
const version = 1;
const cacheLine = 64;
const pageBytes = 4096;
const highUnit = 0x1_0000_0000;
/** Doubles of a queue's own numbers: the counter of the next chain, and how many ended since `published`. */
const [counter, ended] = [0, 1];

/** The region of one queue, and the chains that it says were in hand when it was opened. */
export class InflightQueue implements InFlight {
  /** Heads to take up before any other, in the order in which they were taken first. */
  readonly heads: Uint16Array;
  private readonly bytes: Uint8Array;
  private readonly words16: Uint16Array;
  private readonly words32: Uint32Array;
  private readonly numbers = new Float64Array(2);
  private readonly batch: Uint16Array;

  /** `usedIndex` is that of the used ring. Memory that was never used is made ready. */
  constructor(
    memory: ArrayBuffer,
    at: number,
    readonly size: number,
    usedIndex: number,
  ) {
    this.bytes = new Uint8Array(memory, at, regionBytes(size));
    this.words16 = new Uint16Array(memory, at, regionBytes(size) / 2);
    this.words32 = new Uint32Array(memory, at, regionBytes(size) / 4);
    this.batch = new Uint16Array(size);
    if (this.words16[head.version / 2] === version) this.finishBatch(usedIndex);
    else this.prepare(usedIndex);
    this.heads = this.read();
  }

  /** The device has taken a chain. */
  taken(chain: number): void {
    const { numbers, words32 } = this;
    const at = entryAt(chain);
    const count = numbers[counter]!;
    const high = Math.floor(count / highUnit);
    words32[(at + state.counter) / 4] = count - high * highUnit;
    words32[(at + state.counter) / 4 + 1] = high;
    numbers[counter] = count + 1;
    Atomics.store(this.bytes, at + state.inflight, 1);
  }

  putBack(chain: number): void {
    if (chain < this.size) Atomics.store(this.bytes, entryAt(chain) + state.inflight, 0);
  }

  /** The device has put it into the used ring, and not told so yet. */
  completed(chain: number): void {
    const { numbers, words16 } = this;
    words16[(entryAt(chain) + state.next) / 2] = words16[head.last_batch_head / 2]!;
    Atomics.store(words16, head.last_batch_head / 2, chain);
    if (numbers[ended]! < this.size) this.batch[numbers[ended]!++] = chain;
  }

  /** The used ring's index has been moved over all that was completed. */
  published(usedIndex: number): void {
    const { numbers, batch, bytes } = this;
    for (let i = 0; i < numbers[ended]!; i++) {
      Atomics.store(bytes, entryAt(batch[i]!) + state.inflight, 0);
    }
    numbers[ended] = 0;
    Atomics.store(this.words16, head.used_idx / 2, usedIndex);
  }

  private prepare(usedIndex: number): void {
    this.bytes.fill(0);
    this.words16[head.desc_num / 2] = this.size;
    this.words16[head.used_idx / 2] = usedIndex;
    Atomics.store(this.words16, head.version / 2, version);
  }

  /** A batch whose index was moved may still be marked. The list is another's: it may lead anywhere. */
  private finishBatch(usedIndex: number): void {
    const { words16, bytes, size } = this;
    const count = (usedIndex - words16[head.used_idx / 2]!) & 0xffff;
    let chain = words16[head.last_batch_head / 2]!;
    for (let i = 0; i < count && i < size && chain < size; i++) {
      bytes[entryAt(chain) + state.inflight] = 0;
      chain = words16[(entryAt(chain) + state.next) / 2]!;
    }
    Atomics.store(words16, head.used_idx / 2, usedIndex);
  }

  private read(): Uint16Array {
    const { words32, bytes } = this;
    const count = (chain: number) => {
      const at = (entryAt(chain) + state.counter) / 4;
      return words32[at + 1]! * highUnit + words32[at]!;
    };
    const found: { chain: number; order: number }[] = [];
    for (let chain = 0; chain < this.size; chain++) {
      if (bytes[entryAt(chain) + state.inflight] !== 1) continue;
      found.push({ chain, order: count(chain) });
    }
    found.sort((a, b) => a.order - b.order);
    const last = found.at(-1)?.order ?? -1;
    this.numbers[counter] = Number.isSafeInteger(last + 1) ? last + 1 : 0;
    return Uint16Array.from(found, ({ chain }) => chain);
  }
}

const entryAt = (chain: number) => QueueRegionSplit.size + chain * DescStateSplit.size;
const regionBytes = (size: number) => entryAt(size);
const strideOf = (size: number) => Math.ceil(regionBytes(size) / cacheLine) * cacheLine;

/** What GET_INFLIGHT_FD and SET_INFLIGHT_FD say of an area. */
export interface InflightShape {
  readonly bytes: number;
  readonly offset: number;
  readonly queues: number;
  readonly queueSize: number;
}

/** The whole area, mapped. */
export class InflightArea {
  private constructor(
    readonly shape: InflightShape,
    readonly fd: number,
    private readonly memory: ArrayBuffer,
    private readonly address: number,
    private readonly length: number,
  ) {}

  /** A new area, all zeroes. Throws Refusal, SystemError. */
  static create(queues: number, queueSize: number): InflightArea {
    checkCounts(queues, queueSize);
    const bytes = queues * strideOf(queueSize);
    const fd = memfd("inflight", false);
    return closedOnError(fd, () => {
      truncate(fd, bytes);
      return InflightArea.over({ bytes, offset: 0, queues, queueSize }, fd);
    });
  }

  /** An area that the front end has kept; the descriptor is the area's from now on. Throws Refusal, SystemError. */
  static open(shape: InflightShape, fd: number): InflightArea {
    const { bytes, offset, queues, queueSize } = shape;
    return closedOnError(fd, () => {
      checkCounts(queues, queueSize);
      if (bytes < queues * strideOf(queueSize)) throw new Refusal("a short inflight area");
      if (offset % cacheLine !== 0 || !(offset + bytes <= fstatSync(fd).size)) {
        throw new Refusal("an inflight area beyond the end of its file");
      }
      return InflightArea.over(shape, fd);
    });
  }

  /** Takes up a queue where it was left; undefined when the area has no place for it. */
  queue(index: number, size: number, usedIndex: number): InflightQueue | undefined {
    const { queues, queueSize } = this.shape;
    if (index >= queues || size > queueSize) return undefined;
    return new InflightQueue(this.memory, index * strideOf(queueSize), size, usedIndex);
  }

  close(): void {
    munmap(this.address, this.length);
    close(this.fd);
  }

  private static over(shape: InflightShape, fd: number): InflightArea {
    const bytes = shape.queues * strideOf(shape.queueSize);
    const inside = shape.offset % pageBytes;
    const flags = MapFlag.shared;
    const address = mmap(
      0,
      inside + bytes,
      Prot.read | Prot.write,
      flags,
      fd,
      shape.offset - inside,
    );
    const memory = windowOn(address + inside, bytes);
    return new InflightArea(shape, fd, memory, address, inside + bytes);
  }
}

function closedOnError<T>(fd: number, make: () => T): T {
  try {
    return make();
  } catch (error) {
    close(fd);
    throw error;
  }
}

function checkCounts(queues: number, queueSize: number): void {
  const fine = queues > 0 && queues <= 256 && queueSize > 0 && queueSize <= maxQueueSize;
  if (!fine) throw new Refusal(`an inflight area of ${queues} queues of ${queueSize}`);
}
