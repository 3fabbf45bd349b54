/** A block device of a test: the backend under test, an image file, and a driver's half for each queue. */
import {
  closeSync,
  fstatSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BackendHost } from "../../../src/devices/virtio/backend.ts";
import { BlockBackend, type ImageOpener } from "../../../src/devices/virtio/block.ts";
import { type BlockSpec, blockConfig } from "../../../src/devices/virtio/block-config.ts";
import { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { Epoll, EpollSet } from "../../../src/ffi/epoll.ts";
import { FakeChores } from "../chores/fake.ts";
import { type Buffer, Driver } from "./driver.ts";
import { FakeRam } from "./fake-ram.ts";

/** VIRTIO_BLK_F_ FLUSH, CONFIG_WCE, MQ, DISCARD, WRITE_ZEROES. */
export const allFeatures = (1n << 9n) | (1n << 11n) | (1n << 12n) | (1n << 13n) | (1n << 14n);
/** Offset of `writeback` in the configuration space (virtio 1.2 section 5.2.4). */
const writebackAt = 32;
const dataAt = 0x2_0000;
const tableAt = 0x1_8000;
/** A fuse, for a host that is busy. */
const waitMs = 120_000;

export interface DiskOptions extends Partial<BlockSpec> {
  readonly features?: bigint;
  /** The image's first bytes. */
  readonly content?: Uint8Array;
  readonly eventIndex?: boolean;
  /** Chores are done when the test says so. */
  readonly choresWait?: boolean;
  readonly openImage?: ImageOpener;
  /** The queues that the backend serves. */
  readonly numbers?: readonly number[];
}

/** A request as a driver frames it: how its readable and its writable bytes are cut into segments. */
export interface Framing {
  readonly cutReadable?: readonly number[];
  readonly cutWritable?: readonly number[];
  readonly indirect?: boolean;
  readonly queue?: number;
}

export interface Outcome {
  /** The status byte; 0xee when the device did not write it. */
  readonly status: number;
  readonly data: Uint8Array;
  readonly written: number;
}

export class Disk implements BackendHost {
  readonly ram = new FakeRam([
    { start: 0, length: 0x20_0000 },
    { start: 0x1_0000_0000, length: 0x1_0000 },
  ]);
  readonly drivers: Driver[] = [];
  readonly queues: Virtqueue[] = [];
  readonly warnings: string[] = [];
  /** Who does the device's chores, if it asked for that. */
  readonly doers: FakeChores[] = [];
  readonly config: Uint8Array;
  readonly backend: BlockBackend;
  readonly counters = new Float64Array(8);
  readonly fd: number;
  calls = 0;
  readonly spec: BlockSpec;
  readonly #folder = mkdtempSync(join(tmpdir(), "chv-disk-"));
  readonly #epoll = new EpollSet();
  readonly #ready = new Map<number, (events: number) => void>();
  readonly #choresWait: boolean;
  readonly #features: bigint;
  readonly #eventIndex: boolean;

  constructor({
    features = allFeatures,
    content,
    eventIndex = false,
    choresWait = false,
    openImage,
    numbers,
    ...rest
  }: DiskOptions = {}) {
    this.#choresWait = choresWait;
    this.fd = openSync(join(this.#folder, "disk"), "w+");
    const bytes = content ?? new Uint8Array(64 * 512);
    writeSync(this.fd, bytes, 0, bytes.length, 0);
    this.spec = {
      ...{ fd: this.fd, sectors: bytes.length / 512, readonly: false, direct: false },
      ...{ serial: "disk-serial", queues: 1, queueSize: 16, writeback: true },
      ...{ blockSize: 512, physicalBlockSize: 4096, discard: true, uring: true },
      ...rest,
    };
    this.#features = features;
    this.#eventIndex = eventIndex;
    const initial = blockConfig(this.spec);
    this.config = new Uint8Array(new SharedArrayBuffer(initial.length));
    this.config.set(initial);
    this.backend = new BlockBackend(
      ...([this.spec, this, this.config, this.counters, openImage, numbers] as const),
    );
    this.start();
  }

  start(): void {
    this.drivers.length = 0;
    this.queues.length = 0;
    for (let i = 0; i < this.spec.queues; i++) {
      const driver = new Driver(this.ram, this.spec.queueSize, 0x1000 + i * 0x2000);
      const options = { indirect: true, eventIndex: this.#eventIndex, call: () => this.calls++ };
      this.drivers.push(driver);
      this.queues.push(new Virtqueue(this.ram.windows, driver.layout, options));
    }
    this.backend.start(this.queues, this.#features);
  }

  /** One request from its offer to its answer. */
  request(type: number, sector: number, data: Uint8Array, room: number, framing: Framing = {}) {
    const wait = this.send(type, sector, data, room, framing);
    this.backend.kicked(framing.queue ?? 0);
    return wait();
  }

  /** Offers a request at `place`, without a kick; the function that comes back waits for the answer. */
  send(
    type: number,
    sector: number,
    data: Uint8Array,
    room: number,
    framing: Framing = {},
    place = dataAt,
  ): () => Outcome {
    const header = new DataView(new ArrayBuffer(16));
    header.setUint32(0, type, true);
    header.setBigUint64(8, BigInt(sector), true);
    const readable = new Uint8Array([...new Uint8Array(header.buffer), ...data]);
    return this.sendRaw(readable, room + 1, framing, place);
  }

  /** Offers readable bytes and room for writable ones, whatever they are. */
  sendRaw(
    readable: Uint8Array,
    writable: number,
    framing: Framing = {},
    place = dataAt,
  ): () => Outcome {
    const driver = this.drivers[framing.queue ?? 0]!;
    this.ram.bytes(place, readable.length).set(readable);
    const answerAt = place + readable.length + 3; // at no alignment at all
    this.ram.bytes(answerAt, writable).fill(0xee);
    const buffers = [
      ...cut(place, readable.length, framing.cutReadable, false),
      ...cut(answerAt, writable, framing.cutWritable, true),
    ];
    const head = driver.offer(buffers, framing.indirect ? tableAt : undefined);
    return () => {
      const { written } = this.answer(head, framing.queue);
      const answer = this.ram.bytes(answerAt, writable).slice();
      const room = Math.max(writable - 1, 0);
      return { status: answer[room] ?? -1, data: answer.subarray(0, room), written };
    };
  }

  readonly #answers = new Map<string, { head: number; written: number }>();

  /** Waits until the device has given a chain back. */
  answer(head: number, queue = 0): { head: number; written: number } {
    const key = `${queue}/${head}`;
    const deadline = Date.now() + waitMs;
    while (!this.#answers.has(key)) {
      if (Date.now() > deadline) throw new Error(`test: no answer for chain ${key}`);
      for (const [index, driver] of this.drivers.entries()) {
        for (const element of driver.collect()) {
          this.#answers.set(`${index}/${element.head}`, element);
        }
      }
      if (!this.#answers.has(key)) this.pump();
    }
    const answer = this.#answers.get(key)!;
    this.#answers.delete(key);
    return answer;
  }

  /** Waits for the backend's descriptors, as an I/O worker does; how many were ready. */
  pump(timeoutMs = waitMs): number {
    const count = this.#epoll.wait(timeoutMs);
    for (let i = 0; i < count; i++)
      this.#ready.get(this.#epoll.tokenAt(i))?.(this.#epoll.eventsAt(i));
    return count;
  }

  set writeback(value: boolean) {
    this.config[writebackAt] = value ? 1 : 0;
  }

  /** What the image holds. */
  content(offset = 0, length = this.spec.sectors * 512): Uint8Array {
    const bytes = new Uint8Array(length);
    readSync(this.fd, bytes, 0, length, offset);
    return bytes;
  }

  /** Bytes of the image that occupy room on the host. */
  get allocated(): number {
    return allocatedBytes(this.spec.fd);
  }

  watch(fd: number, events: number, ready: (events: number) => void): void {
    this.#epoll.add(fd, events & Epoll.in, fd);
    this.#ready.set(fd, ready);
  }
  unwatch(fd: number): void {
    this.#epoll.remove(fd);
    this.#ready.delete(fd);
  }
  call(): void {}
  chores(): FakeChores {
    const doer = new FakeChores(!this.#choresWait);
    this.doers.push(doer);
    return doer;
  }
  configChanged(): void {}
  warn(text: string): void {
    this.warnings.push(text);
  }

  [Symbol.dispose](): void {
    this.backend.close();
    for (const doer of this.doers) doer.close();
    this.#epoll.close();
    closeSync(this.fd);
    rmSync(this.#folder, { recursive: true });
  }
}

/**
 * Bytes of a file that occupy room, in steps of 32 KiB: beside its content a file system counts the blocks in which it
 * notes where that is, one or two for a small file. It may look for room as late as it can: so it is told to.
 */
export function allocatedBytes(fd: number): number {
  fsyncSync(fd);
  return Math.floor((fstatSync(fd).blocks * 512) / roomStep) * roomStep;
}
const roomStep = 2 ** 15;

function cut(
  address: number,
  length: number,
  sizes: readonly number[] = [],
  write: boolean,
): Buffer[] {
  const pieces: Buffer[] = [];
  let at = 0;
  for (const size of sizes) {
    if (at >= length) break;
    pieces.push({ address: address + at, length: Math.min(size, length - at), write });
    at += size;
  }
  if (at < length) pieces.push({ address: address + at, length: length - at, write });
  return pieces;
}
