/**
 * Rate limits as token buckets: one of bytes, one of operations, each optional. A full bucket lets `size` tokens
 * through at once, and refills evenly in `refillMs`; `oneTimeBurst` further tokens are there at the start and never
 * come again. An operation of more bytes than the bucket holds goes when the bucket is full, and leaves a debt: so the
 * rate holds whatever the sizes are.
 */
import { monotonicNs } from "../../ffi/clock.ts";
import { armTimerfd, createTimerfd, Epoll } from "../../ffi/epoll.ts";
import { drainEventfd } from "../../ffi/eventfd.ts";
import { close } from "../../ffi/file.ts";
import type { BackendHost } from "./backend.ts";

/** One bucket, as plain data. A size of 0, or a refill time of 0, is no limit. */
export interface TokenBucketSpec {
  readonly size: number;
  readonly oneTimeBurst: number;
  readonly refillMs: number;
}

export interface RateLimiterSpec {
  readonly bytes?: TokenBucketSpec;
  readonly ops?: TokenBucketSpec;
}

const unlimited: TokenBucketSpec = { size: 0, oneTimeBurst: 0, refillMs: 0 };
/** Words of a bucket: tokens in it (below 0: a debt), and when that was so, in ns. */
const [tokens, since] = [0, 1];

export class TokenBucket {
  /** Whether it ever refuses anything. */
  readonly limits: boolean;
  private readonly size: number;
  private readonly perNs: number;
  private readonly words = new Float64Array(2);

  constructor({ size, oneTimeBurst, refillMs }: TokenBucketSpec, nowNs: number) {
    this.size = refillMs > 0 ? size : 0;
    this.limits = this.size > 0;
    this.perNs = this.size / (refillMs * 1e6);
    this.words[tokens] = size + oneTimeBurst;
    this.words[since] = nowNs;
  }

  /** Ns until `wanted` tokens are there, or the bucket is full; 0 when that is so now. */
  delay(wanted: number, nowNs: number): number {
    if (!this.limits) return 0;
    const { words, size } = this;
    if (words[tokens]! < size) {
      const refilled = words[tokens]! + (nowNs - words[since]!) * this.perNs;
      words[tokens] = Math.min(size, refilled);
    }
    words[since] = nowNs;
    const missing = Math.min(wanted, size) - words[tokens]!;
    return missing > 0 ? Math.ceil(missing / this.perNs) : 0;
  }

  spend(count: number): void {
    if (this.limits) this.words[tokens]! -= count;
  }
}

/** The limits of one direction of one device. Without any it costs a comparison, and has no descriptor. */
export class RateLimiter {
  readonly limits: boolean;
  private readonly bytes: TokenBucket;
  private readonly ops: TokenBucket;
  /** A timerfd, or -1. */
  private readonly timer: number;
  /** When the timer goes off, in ns; 0 when it does not. */
  private readonly deadline = new Float64Array(1);

  /** `resume` is called on the worker when what was refused is worth another try. */
  constructor(
    spec: RateLimiterSpec | undefined,
    readonly host: Pick<BackendHost, "watch" | "unwatch">,
    resume: () => void,
    readonly clock: () => number = monotonicNs,
  ) {
    const now = clock();
    this.bytes = new TokenBucket(spec?.bytes ?? unlimited, now);
    this.ops = new TokenBucket(spec?.ops ?? unlimited, now);
    this.limits = this.bytes.limits || this.ops.limits;
    this.timer = this.limits ? createTimerfd() : -1;
    if (!this.limits) return;
    host.watch(this.timer, Epoll.in, () => {
      drainEventfd(this.timer);
      this.deadline[0] = 0;
      resume();
    });
  }

  /** Whether an operation of `bytes` may begin now. If not, the timer is set for when it may. Takes no tokens. */
  admits(bytes: number): boolean {
    if (!this.limits) return true;
    const now = this.clock();
    const delay = Math.max(this.bytes.delay(bytes, now), this.ops.delay(1, now));
    if (delay === 0) return true;
    this.wakeAt(now + delay);
    return false;
  }

  /** Takes the tokens of an operation that has begun. */
  spend(bytes: number): void {
    if (!this.limits) return;
    this.bytes.spend(bytes);
    this.ops.spend(1);
  }

  /** Nothing waits any more: `resume` is not called for what was refused before. */
  cancel(): void {
    this.deadline[0] = 0;
    if (this.limits) armTimerfd(this.timer, 0);
  }

  close(): void {
    if (!this.limits) return;
    this.host.unwatch(this.timer);
    close(this.timer);
  }

  /** Several queues may wait for one limiter: the first deadline counts, and then each tries again. */
  private wakeAt(deadlineNs: number): void {
    const { deadline } = this;
    if (deadline[0] !== 0 && deadline[0]! <= deadlineNs) return;
    deadline[0] = deadlineNs;
    armTimerfd(this.timer, deadlineNs);
  }
}
