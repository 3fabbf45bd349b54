/**
 * A raw image: byte n of the disk is byte n of a file or block device. By io_uring, or, without a ring, by preadv2(2)
 * and pwritev2(2), which end before `turn` returns; what may take as long as the host likes is then a chore.
 */
import { Block } from "../../ffi/block.ts";
import { monotonicNs } from "../../ffi/clock.ts";
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  type FileCalls,
  fileCalls,
  RWF_DSYNC,
} from "../../ffi/file-vector.ts";
import type { RequestRing } from "../../ffi/io-uring.ts";
import { Errno } from "../../ffi/libc.ts";
import type { Chores } from "../chores/chores.ts";
import { Bounce } from "./bounce.ts";
import type { DiskImage, ImageClient } from "./disk-image.ts";
import { PromptWrites } from "./prompt-writes.ts";
import type { Transfers } from "./transfers.ts";

/** What a slot is at. A step that the host does not know is followed by the next way to the same end. */
const Step = {
  read: 0,
  write: 1,
  flush: 2,
  discard: 3,
  punch: 4,
  zeroRange: 5,
  writeZeroes: 6,
  /** What a durable request ends with, where its steps do not reach stable storage themselves. */
  settle: 7,
  /** Reading and writing by way of an aligned buffer. */
  bounceRead: 8,
  bounceWrite: 9,
} as const;
const punchMode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
const zeroMode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
const zeroBytes = 65536;
const pageBytes = 4096;
/** How often a request that was interrupted is tried again. */
const maxTries = 100;

export class RawImage implements DiskImage {
  readonly fd: number;
  readonly ring: RequestRing | undefined;
  readonly chores: Chores | undefined;
  private readonly steps: Uint8Array;
  private readonly durable: Uint8Array;
  private readonly tries: Uint8Array;
  /** Slots that have a step to make without the ring, and how many. */
  private readonly begun: Uint32Array;
  private readonly begunCount = new Uint32Array(1);
  private readonly choreEnded: (slot: number, error: number) => void;
  private readonly bounce: Bounce | undefined;
  /** Beside a ring: writes that this thread makes. */
  private readonly prompt: PromptWrites | undefined;
  /** Zeroes to write, aligned for O_DIRECT. */
  private readonly zeroes = new Block(zeroBytes + pageBytes);
  private readonly zeroAddress = Math.ceil(this.zeroes.address / pageBytes) * pageBytes;

  /**
   * By a ring, which has an entry for each slot and is the image's from now on, or without one. `file` is an open
   * file's descriptor, and stays its opener's.
   */
  constructor(
    readonly file: number,
    readonly transfers: Transfers,
    readonly client: ImageClient,
    way: RequestRing | Chores,
    /** The file was opened with O_DIRECT. */
    direct = false,
    readonly calls: FileCalls = fileCalls,
    /** In ns. */
    readonly now: () => number = monotonicNs,
  ) {
    this.fd = way.fd;
    this.ring = "submit" in way ? way : undefined;
    this.chores = "submit" in way ? undefined : way;
    this.choreEnded = (slot, error) => this.afterChore(slot, error);
    this.steps = new Uint8Array(transfers.slots);
    this.durable = new Uint8Array(transfers.slots);
    this.tries = new Uint8Array(transfers.slots);
    this.begun = new Uint32Array(transfers.slots);
    this.bounce = direct ? new Bounce(file, transfers, calls) : undefined;
    this.prompt = this.ring && client.alone && !direct ? new PromptWrites() : undefined;
  }

  read(slot: number): void {
    this.begin(slot, Step.read, false);
  }

  write(slot: number, durable: boolean): void {
    this.begin(slot, Step.write, durable);
  }

  flush(slot: number): void {
    this.begin(slot, Step.flush, false);
  }

  discard(slot: number): void {
    this.begin(slot, Step.discard, false);
  }

  writeZeroes(slot: number, unmap: boolean, durable: boolean): void {
    this.begin(slot, unmap ? Step.punch : Step.zeroRange, durable);
  }

  turn(): void {
    if (this.ring) this.turnRing(this.ring);
    else this.turnCalls(this.chores!);
  }

  close(): void {
    this.ring?.close();
  }

  private begin(slot: number, step: number, durable: boolean): void {
    this.steps[slot] = step;
    this.durable[slot] = durable ? 1 : 0;
    this.tries[slot] = 0;
    if (this.ring && !this.isPrompt(slot)) this.queue(this.ring, slot);
    else this.makeReady(slot);
  }

  private isPrompt(slot: number): boolean {
    if (this.prompt === undefined || this.steps[slot] !== Step.write) return false;
    return this.durable[slot] === 0 && this.prompt.suits(this.transfers.left[slot]!);
  }

  private makeReady(slot: number): void {
    this.begun[this.begunCount[0]!++] = slot;
  }

  /** Makes the writes that this thread makes; what one of them leaves to do is the ring's. */
  private turnPrompt(ring: RequestRing, prompt: PromptWrites): void {
    const { begun, begunCount, now } = this;
    const count = begunCount[0]!;
    begunCount[0] = 0;
    let start = now();
    for (let i = 0; i < count; i++) {
      const slot = begun[i]!;
      if (prompt.resting(start)) {
        this.queue(ring, slot);
        continue;
      }
      this.goesOnInRing(ring, slot, this.call(slot));
      const end = now();
      prompt.made(start, end);
      start = end;
    }
  }

  private turnRing(ring: RequestRing): void {
    if (this.prompt && this.begunCount[0]! > 0) this.turnPrompt(ring, this.prompt);
    let again = true;
    while (again) {
      again = false;
      ring.submit();
      while (ring.next()) {
        if (this.goesOnInRing(ring, ring.token, ring.result)) again = true;
      }
    }
  }

  /** True when the slot's next step is in the ring. */
  private goesOnInRing(ring: RequestRing, slot: number, result: number): boolean {
    let last = result;
    while (this.goesOn(slot, last)) {
      if (this.steps[slot]! < Step.bounceRead) {
        this.queue(ring, slot);
        return true;
      }
      last = this.call(slot);
    }
    return false;
  }

  private turnCalls(chores: Chores): void {
    const { begun, begunCount } = this;
    chores.turn(this.choreEnded);
    let kept = 0;
    for (let i = 0; i < begunCount[0]!; i++) {
      const slot = begun[i]!;
      if (!this.goesOnWithout(chores, slot)) begun[kept++] = slot;
    }
    begunCount[0] = kept;
  }

  /** False when the slot's next step is a chore, and there are too many in hand. */
  private goesOnWithout(chores: Chores, slot: number): boolean {
    const { transfers, file: fd } = this;
    const offset = transfers.offsets[slot]!;
    const left = transfers.left[slot]!;
    for (;;) {
      switch (this.steps[slot]) {
        case Step.read:
        case Step.write:
        case Step.bounceRead:
        case Step.bounceWrite:
          if (!this.goesOn(slot, this.call(slot))) return true;
          break;
        case Step.flush:
        case Step.settle:
          return chores.sync(slot, fd);
        case Step.writeZeroes:
          return chores.zero(slot, fd, offset, left);
        default:
          return chores.allocate(slot, fd, this.mode(slot), offset, left);
      }
    }
  }

  private afterChore(slot: number, error: number): void {
    const goesOn = error === 0 ? this.settles(slot) : this.goesOnAfter(slot, error);
    if (goesOn) this.makeReady(slot);
  }

  private queue(ring: RequestRing, slot: number): void {
    const { transfers, file: fd } = this;
    const offset = transfers.offsets[slot]!;
    const count = transfers.count(slot);
    switch (this.steps[slot]) {
      case Step.read:
        if (count > 1) ring.readv(fd, transfers.iovecs(slot), count, offset, slot);
        else ring.read(fd, transfers.baseOf(slot, 0), transfers.lengthOf(slot, 0), offset, slot);
        return;
      case Step.write:
      case Step.writeZeroes: {
        const flags = this.durable[slot] === 1 ? RWF_DSYNC : 0;
        if (count > 1) {
          ring.writev(fd, transfers.iovecs(slot), count, offset, flags, slot);
        } else {
          const base = transfers.baseOf(slot, 0);
          ring.write(fd, base, transfers.lengthOf(slot, 0), offset, flags, slot);
        }
        return;
      }
      case Step.flush:
      case Step.settle:
        ring.dataSync(fd, slot);
        return;
      default:
        ring.allocate(fd, this.mode(slot), offset, transfers.left[slot]!, slot);
    }
  }

  /** A step that is made at once. */
  private call(slot: number): number {
    const { transfers, file: fd } = this;
    const offset = transfers.offsets[slot]!;
    const iovecs = transfers.iovecs(slot);
    const count = transfers.count(slot);
    switch (this.steps[slot]) {
      case Step.read:
        return this.calls.readVector(fd, iovecs, count, offset);
      case Step.write:
        return this.calls.writeVector(fd, iovecs, count, offset, 0);
      case Step.bounceRead:
        return this.bounce!.read(slot);
      default:
        return this.bounce!.write(slot);
    }
  }

  private mode(slot: number): number {
    return this.steps[slot] === Step.zeroRange ? zeroMode : punchMode;
  }

  /** Takes a step's result; true when the slot has another step to make, else it has ended. */
  private goesOn(slot: number, result: number): boolean {
    if (result < 0) return this.goesOnAfter(slot, -result);
    const step = this.steps[slot]!;
    const moves = step < Step.flush || step === Step.writeZeroes || step >= Step.bounceRead;
    if (!moves) return this.settles(slot);
    // nothing moved: the file has been cut short, or the device is full
    if (result === 0) return this.end(slot, Errno.EIO);
    this.transfers.advance(slot, result);
    if (this.transfers.left[slot]! <= 0) return this.settles(slot);
    if (this.transfers.count(slot) === 0) this.layZeroes(slot);
    return true;
  }

  /** All is done; a durable request has a last step if the others do not reach stable storage. */
  private settles(slot: number): boolean {
    const step = this.steps[slot]!;
    const written = step === Step.write || step === Step.writeZeroes;
    const stable = step === Step.settle || (written && this.ring !== undefined);
    if (stable || this.durable[slot] === 0) return this.end(slot, 0);
    this.steps[slot] = Step.settle;
    return true;
  }

  private goesOnAfter(slot: number, error: number): boolean {
    if (error === Errno.EINTR || error === Errno.EAGAIN) {
      return ++this.tries[slot]! < maxTries || this.end(slot, error);
    }
    const unknown = error === Errno.EOPNOTSUPP || error === Errno.ENOSYS || error === Errno.EINVAL;
    switch (unknown ? this.steps[slot] : undefined) {
      case Step.read:
      case Step.write:
        if (error !== Errno.EINVAL || !this.bounce) return this.end(slot, error);
        this.steps[slot] = this.steps[slot] === Step.read ? Step.bounceRead : Step.bounceWrite;
        return true;
      case Step.discard: // a hint, and it may be ignored
        return this.end(slot, 0);
      case Step.punch:
        this.steps[slot] = Step.zeroRange;
        return true;
      case Step.zeroRange:
        this.steps[slot] = Step.writeZeroes;
        if (this.ring) this.layZeroes(slot);
        return true;
      default:
        return this.end(slot, error);
    }
  }

  private layZeroes(slot: number): void {
    this.transfers.repeat(slot, this.zeroAddress, zeroBytes);
  }

  private end(slot: number, error: number): false {
    this.client.ended(slot, error);
    return false;
  }
}
