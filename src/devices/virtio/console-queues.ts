/**
 * The two queues of a console port, as output and input of a character device: bytes move between the far end's
 * descriptor and the guest's buffers, where they lie. Without a queue (the driver is not there, or left it out) there
 * is no output, and no room for input.
 */
import type { InputSink, OutputSource } from "../../bus/character.ts";
import { GuestFault } from "./guest-fault.ts";
import type { Virtqueue } from "./queue.ts";

/** Words of a queue's position: its chain (-1: none), the segment in it, how far into that, and where that begins. */
const [head, segment, inside, host] = [0, 1, 2, 3];
/** Places in the counters (see ConsoleCounters). */
const [readOps, readBytes, writeOps, writeBytes] = [0, 1, 2, 3];

/** A queue, the chain of it that is in hand, and a place in that. */
abstract class Cursor {
  /** At most one. */
  protected readonly queues: Virtqueue[] = [];
  protected readonly at = Float64Array.of(-1, 0, 0, 0);

  constructor(readonly counters: Float64Array) {}

  start(queue: Virtqueue | undefined): void {
    this.queues.length = 0;
    this.at[head] = -1;
    if (queue) this.queues.push(queue);
  }

  stop(): void {
    this.queues.length = 0;
    this.at[head] = -1;
  }

  get address(): number {
    return this.at[host]! + this.at[inside]!;
  }

  /** Publishes what was given back. */
  flush(): void {
    this.queues[0]?.flush();
  }

  /** Asks for a kick; false when there is a chain. Throws GuestFault. */
  sleep(): boolean {
    this.flush();
    const queue = this.queues[0];
    return queue === undefined || (this.at[head]! < 0 && queue.armKick());
  }

  /** Has a chain in hand with something in its part; gives back those without. False when there is none. */
  protected take(queue: Virtqueue, writable: boolean): boolean {
    const { at } = this;
    // a driver may go on adding empty chains for ever
    for (let looks = 0; at[head]! < 0 && looks < queue.size; looks++) {
      queue.pauseKicks();
      at[head] = queue.next();
      if (at[head]! < 0) return false;
      at[inside] = 0;
      at[segment] = writable ? queue.chain.readable : 0;
      if ((writable ? queue.chain.writable : queue.chain.readable) === 0) this.complete(0);
    }
    return at[head]! >= 0;
  }

  /** How much of the segment is left. Throws GuestFault. */
  protected rest({ chain, windows }: Virtqueue): number {
    const { at } = this;
    const length = chain.lengthOf(at[segment]!);
    // bytes are copied, too: where there may be no memory behind an address that would be the end of the process
    at[host] = windows.ramAddress(chain.addressOf(at[segment]!), length);
    if (at[host]! < 0) throw new GuestFault("a buffer of a console that is not RAM");
    return length - at[inside]!;
  }

  protected advance(count: number): void {
    const { chain } = this.queues[0]!;
    this.at[inside]! += count;
    if (this.at[inside]! < chain.lengthOf(this.at[segment]!)) return;
    this.at[segment]!++;
    this.at[inside] = 0;
  }

  protected complete(written: number): void {
    this.queues[0]!.complete(this.at[head]!, written);
    this.at[head] = -1;
  }
}

/** Words beside the position: how much of the chain in hand has gone, and of the next before the queue was stopped. */
const [gone, before] = [0, 1];

/** A transmit queue: a chain is given back when all of it has gone. */
export class ConsoleOutput extends Cursor implements OutputSource {
  private readonly state = Float64Array.of(0, 0);

  /** `resumed`: the chain that was in hand comes again, and goes on where it was. */
  override start(queue: Virtqueue | undefined, resumed = false): void {
    super.start(queue);
    this.state[gone] = 0;
    if (!resumed) this.state[before] = 0;
  }

  override stop(): void {
    if (this.queues.length > 0) this.state[before] = this.at[head]! < 0 ? 0 : this.state[gone]!;
    super.stop();
  }

  look(): number {
    const queue = this.queues[0];
    if (!queue || !this.take(queue, false)) return 0;
    const length = this.rest(queue);
    if (this.state[before] === 0) return length;
    const skipped = Math.min(length, this.state[before]!);
    this.state[before]! -= skipped;
    this.move(skipped);
    return this.look();
  }

  consume(count: number): void {
    this.counters[writeBytes]! += count;
    this.move(count);
  }

  private move(count: number): void {
    const { chain } = this.queues[0]!;
    this.advance(count);
    this.state[gone]! += count;
    if (this.at[segment]! < chain.readable) return;
    this.counters[writeOps]!++;
    this.complete(0);
    this.state[gone] = 0;
    this.state[before] = 0;
  }
}

/** Words beside the position: how much is in the chain in hand, and 1 while the guest takes input. */
const [filled, open] = [0, 1];

/** A receive queue: a chain is given back with what came at one time, full or not. */
export class ConsoleInput extends Cursor implements InputSink {
  private readonly state = Float64Array.of(0, 0);

  /** Whether the guest takes input; until then it waits at the far end. */
  get isOpen(): boolean {
    return this.state[open] === 1;
  }
  set isOpen(value: boolean) {
    this.state[open] = value ? 1 : 0;
  }

  look(): number {
    const queue = this.queues[0];
    if (!queue || !this.isOpen) return 0;
    if (this.at[head]! >= 0 && this.at[segment] === this.end(queue)) this.finish();
    if (!this.take(queue, true)) return 0;
    return this.rest(queue);
  }

  produced(count: number): void {
    this.advance(count);
    this.state[filled]! += count;
    this.counters[readBytes]! += count;
  }

  /** Gives what was produced to the guest. */
  deliver(): void {
    if (this.state[filled]! > 0) this.finish();
    this.flush();
  }

  /** Nobody waits for room in a port that is closed: its opening says so. */
  override sleep(): boolean {
    return !this.isOpen || super.sleep();
  }

  private finish(): void {
    this.counters[readOps]!++;
    this.complete(this.state[filled]!);
    this.state[filled] = 0;
  }

  private end({ chain }: Virtqueue): number {
    return chain.readable + chain.writable;
  }
}
