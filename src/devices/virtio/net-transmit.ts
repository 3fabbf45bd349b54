/**
 * What a guest sends: each chain is one frame with the header of virtio in front (virtio 1.2 section 5.1.6.2), and
 * goes by one writev(2) from guest pages to a tap's queue. The kernel checks the header. A frame that it refuses, or
 * that the interface does not take because it is down, is dropped, as on a wire.
 */
import { Errno } from "../../ffi/libc.ts";
import type { TapCalls } from "../../ffi/tap.ts";
import { headerBytes, txBytes, txDropped, txFrames } from "./net-config.ts";
import type { Virtqueue } from "./queue.ts";
import type { RateLimiter } from "./rate-limiter.ts";

/** Frames of a turn, after which it is another's. */
const turnFrames = 128;
/** After so many the driver is told of them, and goes on while the others are sent. */
const tellFrames = 64;

/** What the queues of a device have in common. */
export interface TransmitParts {
  /** The host looks for chains, and asks for kicks before it sleeps (see Backend). */
  readonly polls?: boolean;
  readonly limiter: RateLimiter;
  readonly counters: Float64Array;
  readonly write: TapCalls["writeFrame"];
  /** The tap is no more. */
  lost(): void;
}

/** Why a queue stopped. */
export const Pause = {
  /** The driver kicks, or the limiter calls, when there is more to do. */
  idle: 0,
  /** The tap takes no more for now. */
  full: 1,
  /** There is more to do, when the others have had their turn. */
  turn: 2,
} as const;

/** The head of the chain that was taken and could not be sent yet; -1: none. */
const held = 0;

export class NetTransmitter {
  private readonly state = Int32Array.of(-1);

  constructor(
    readonly fd: number,
    readonly queue: Virtqueue,
    readonly parts: TransmitParts,
  ) {}

  /** Sends what the driver has offered; a `Pause` comes back. Throws GuestFault. */
  work(): number {
    const { queue, state, parts } = this;
    queue.pauseKicks();
    try {
      for (let frames = 0; frames < turnFrames; frames++) {
        const head = state[held]! >= 0 ? state[held]! : queue.next();
        if (head < 0) {
          if (parts.polls === true || queue.armKick()) return Pause.idle;
          queue.pauseKicks();
          continue;
        }
        state[held] = head;
        const { chain } = queue;
        const length = chain.readableBytes - headerBytes;
        if (length > 0) {
          if (!parts.limiter.admits(length)) return Pause.idle;
          if (!this.send(length)) return Pause.full;
        } else {
          parts.counters[txDropped]!++;
        }
        state[held] = -1;
        queue.complete(head, 0);
        if (frames % tellFrames === tellFrames - 1) queue.flush();
      }
      return Pause.turn;
    } finally {
      queue.flush();
    }
  }

  /** The driver has offered something, and nothing stands before it. */
  get pending(): boolean {
    return this.state[held]! < 0 && this.queue.pending;
  }

  /** Before sleep: asks for a kick; false when there is something already. Throws GuestFault. */
  sleep(): boolean {
    return this.state[held]! >= 0 || this.queue.armKick();
  }

  /** The queue ends here. */
  stop(): void {
    if (this.state[held]! >= 0) this.queue.putBack(1);
    this.state[held] = -1;
  }

  /** Sends the frame in the queue's chain; false when the tap must be waited for. */
  private send(length: number): boolean {
    const { fd, parts } = this;
    const { chain } = this.queue;
    const result = parts.write(fd, chain.iovecAddress(0), chain.readable);
    if (result === -Errno.EAGAIN) return false;
    parts.limiter.spend(length);
    if (result >= 0) {
      parts.counters[txFrames]!++;
      parts.counters[txBytes]! += length;
    } else {
      parts.counters[txDropped]!++;
      if (result === -Errno.EBADFD) parts.lost();
    }
    return true;
  }
}
