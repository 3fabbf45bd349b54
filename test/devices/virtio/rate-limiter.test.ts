import { afterEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  RateLimiter,
  type RateLimiterSpec,
  TokenBucket,
} from "../../../src/devices/virtio/rate-limiter.ts";
import { monotonicNs } from "../../../src/ffi/clock.ts";
import { Epoll, EpollSet } from "../../../src/ffi/epoll.ts";

const ms = 1e6;

describe("a bucket", () => {
  const full = { size: 1000, oneTimeBurst: 0, refillMs: 100 }; // 10 tokens a ms

  test("holds its size at the start, and no more after a long time", () => {
    const bucket = new TokenBucket(full, 0);

    expect(bucket.delay(1000, 0)).toBe(0);
    bucket.spend(1000);
    expect(bucket.delay(1000, 100 * ms)).toBe(0);
    bucket.spend(1000);
    expect(bucket.delay(1000, 1000 * ms)).toBe(0);
    bucket.spend(1000);
    expect(bucket.delay(1, 1000 * ms)).toBe(0.1 * ms);
  });

  test("says how long until what is wanted is there", () => {
    const bucket = new TokenBucket(full, 0);
    bucket.spend(1000);

    expect(bucket.delay(500, 0)).toBe(50 * ms);
    expect(bucket.delay(500, 20 * ms)).toBe(30 * ms);
    expect(bucket.delay(500, 50 * ms)).toBe(0);
  });

  test("lets its burst through once, before its own tokens", () => {
    const bucket = new TokenBucket({ ...full, oneTimeBurst: 300 }, 0);
    bucket.spend(1000);

    expect(bucket.delay(300, 0)).toBe(0);
    bucket.spend(300);
    expect(bucket.delay(1, 0)).toBeGreaterThan(0);
    expect(bucket.delay(1000, 5000 * ms)).toBe(0);
    bucket.spend(1000);
    expect(bucket.delay(1, 5000 * ms)).toBeGreaterThan(0);
  });

  test("gives more than it holds when it is full, and waits for that to be made up", () => {
    const bucket = new TokenBucket(full, 0);
    bucket.spend(1);

    expect(bucket.delay(3000, 0)).toBe(0.1 * ms);
    expect(bucket.delay(3000, 1 * ms)).toBe(0);
    bucket.spend(3000);
    expect(bucket.delay(1000, 1 * ms)).toBe(300 * ms);
  });

  test.each([
    [{ size: 0, oneTimeBurst: 5, refillMs: 100 }],
    [{ size: 5, oneTimeBurst: 0, refillMs: 0 }],
  ])("%p is no limit", (spec) => {
    const bucket = new TokenBucket(spec, 0);
    bucket.spend(1e9);

    expect(bucket.limits).toBe(false);
    expect(bucket.delay(1e9, 0)).toBe(0);
  });

  test("never lets through more than its size, its burst and what it was refilled with", () => {
    const operation = fc.record({ bytes: fc.integer({ min: 1, max: 999 }), gapNs: fc.nat(2e7) });
    const property = fc.property(
      fc.array(operation, { minLength: 1, maxLength: 50 }),
      fc.nat(500),
      (operations, oneTimeBurst) => {
        const bucket = new TokenBucket({ ...full, oneTimeBurst }, 0);
        let [now, sent] = [0, 0];
        for (const { bytes, gapNs } of operations) {
          now += gapNs;
          now += bucket.delay(bytes, now);
          expect(bucket.delay(bytes, now)).toBeLessThanOrEqual(1);
          bucket.spend(bytes);
          sent += bytes;
          expect(sent).toBeLessThanOrEqual(1000 + oneTimeBurst + now / 1e5 + 0.01);
        }
      },
    );
    fc.assert(property);
  });
});

describe("a limiter", () => {
  const epoll = new EpollSet();
  const ready = new Map<number, () => void>();
  const host = {
    watch: (fd: number, events: number, then: (events: number) => void) => {
      epoll.add(fd, events, fd);
      ready.set(fd, () => then(Epoll.in));
    },
    unwatch: (fd: number) => {
      epoll.remove(fd);
      ready.delete(fd);
    },
  };
  const open: RateLimiter[] = [];
  let resumed = 0;
  let clock: (() => number) | undefined;
  function limiter(spec: RateLimiterSpec | undefined): RateLimiter {
    const made = new RateLimiter(spec, host, () => resumed++, clock);
    open.push(made);
    return made;
  }
  function pump(timeoutMs: number): number {
    const count = epoll.wait(timeoutMs);
    for (let i = 0; i < count; i++) ready.get(epoll.tokenAt(i))!();
    return count;
  }
  afterEach(() => {
    for (const one of open.splice(0)) one.close();
    expect(ready.size).toBe(0);
    resumed = 0;
    clock = undefined;
  });

  test("without limits admits all, and watches nothing", () => {
    const one = limiter(undefined);
    one.spend(1e12);

    expect(one.admits(1e12)).toBe(true);
    expect(ready.size).toBe(0);
  });

  test("counts bytes and operations apart, and the slower one decides", () => {
    clock = () => 0;
    const bucket = { size: 10, oneTimeBurst: 0, refillMs: 10 };
    const byBytes = limiter({ bytes: bucket });
    const byOps = limiter({ ops: bucket });
    const byBoth = limiter({ bytes: { ...bucket, size: 100 }, ops: bucket });

    byBytes.spend(10);
    expect(byBytes.admits(1)).toBe(false);
    for (let i = 0; i < 9; i++) byOps.spend(1000);
    expect(byOps.admits(1000)).toBe(true);
    byOps.spend(1000);
    expect(byOps.admits(1)).toBe(false);
    byBoth.spend(100);
    expect(byBoth.admits(1)).toBe(false);
  });

  test("calls back when what was refused may begin", () => {
    let now = monotonicNs(); // it stands still: the timer alone goes by the kernel's
    clock = () => now;
    const one = limiter({ bytes: { size: 100, oneTimeBurst: 0, refillMs: 1 } });
    one.spend(100);

    expect(one.admits(100)).toBe(false);
    expect(pump(5000)).toBe(1);
    expect(resumed).toBe(1);
    now += ms;
    expect(one.admits(100)).toBe(true);
    expect(pump(0)).toBe(0); // once
  });

  test("calls back for the one that may begin first", () => {
    const now = monotonicNs();
    clock = () => now;
    const one = limiter({ bytes: { size: 1e6, oneTimeBurst: 0, refillMs: 1e6 } });
    one.spend(1e6);
    one.admits(1); // in 1 ms
    one.admits(1e6); // in 1000 s

    expect(pump(5000)).toBe(1);
    expect(resumed).toBe(1);
  });

  test("calls nobody back who gave up", () => {
    clock = () => 0; // long ago: the timer would be due at once
    const one = limiter({ bytes: { size: 100, oneTimeBurst: 0, refillMs: 1 } });
    one.spend(100);
    one.admits(100);
    one.cancel();

    expect(pump(0)).toBe(0);
    expect(resumed).toBe(0);
  });
});
