/**
 * The entropy device's backend (virtio 1.2 section 5.4): bytes of a source go straight into the buffers that the driver
 * offers. The device may fill less of a buffer than there is (5.4.6.2), so a request is one read(2) of at most
 * `requestBytes`, and a driver that asks without end gets `turnBytes` at a time between the worker's other work. A
 * source that has nothing now is waited for; one that has ended, or fails, gives the request back as it is, with 0
 * bytes.
 */
import { Block } from "../../ffi/block.ts";
import { monotonicNs } from "../../ffi/clock.ts";
import { armTimerfd, createTimerfd, Epoll } from "../../ffi/epoll.ts";
import { drainEventfd } from "../../ffi/eventfd.ts";
import { close } from "../../ffi/file.ts";
import { readVector } from "../../ffi/file-vector.ts";
import { iovecBytes } from "../../ffi/iovec.ts";
import { Errno, errnoName, SystemError } from "../../ffi/libc.ts";
import { type Backend, type BackendHost, tellFailure } from "./backend.ts";
import { maxSegments } from "./chain.ts";
import { EntropyCounters, type EntropySpec } from "./entropy-config.ts";
import type { Virtqueue } from "./queue.ts";

const requestBytes = 64 * 1024;
/** Under 1 ms of /dev/urandom; and most requests of a turn, whatever they bring. */
const turnBytes = 256 * 1024;
const turnRequests = 256;
/** How soon to ask a source again that has nothing and cannot be waited on, as /dev/hwrng. */
const retryNs = 10e6;
/** preadv2(2): at the file's own position, or of what has none. */
const ownPosition = -1;
const [readOps, readBytes, errors] = [0, 1, 2];
/** The request in hand: its chain (-1: none), and the iovecs laid over it. What is waited for, and has been said. */
const [head, segments, watching, warned] = [0, 1, 2, 3];
/** What `read` says beside a count of bytes. */
const nothingYet = -1;

export class EntropyBackend implements Backend {
  private readonly state = Int32Array.of(-1, 0, 0, 0);
  private readonly queues: (Virtqueue | undefined)[] = [undefined];
  private readonly iovecs = new Block(maxSegments * iovecBytes);
  private readonly words = new Uint32Array(this.iovecs.buffer);
  /** Goes off when it is time to go on. */
  private readonly timer = createTimerfd();

  constructor(
    readonly spec: EntropySpec,
    readonly host: BackendHost,
    readonly counters: Float64Array = new Float64Array(EntropyCounters.length),
    readonly readSource: typeof readVector = readVector,
  ) {
    host.watch(this.timer, Epoll.in, () => {
      drainEventfd(this.timer);
      this.work();
    });
  }

  start(queues: readonly (Virtqueue | undefined)[]): void {
    this.queues[0] = queues[0];
    this.state[head] = -1;
  }

  kicked(): void {
    this.work();
  }

  /** Reads are done at once: nothing is ever in flight. */
  stop(): boolean {
    this.queues[0] = undefined;
    this.unwatchSource();
    armTimerfd(this.timer, 0);
    return true;
  }

  close(): void {
    this.unwatchSource();
    this.host.unwatch(this.timer);
    close(this.timer);
  }

  /** Fills buffers until there are no more, the source has nothing, or a turn is over. Throws GuestFault. */
  private work(): void {
    const queue = this.queues[0];
    if (!queue || this.state[watching] === 1) return;
    queue.pauseKicks();
    try {
      let bytes = 0;
      for (let requests = 0; ; requests++) {
        if (requests === turnRequests || bytes >= turnBytes) {
          armTimerfd(this.timer, 1); // a moment that has passed: after what else is ready
          return;
        }
        if (!this.take(queue)) {
          if (queue.armKick()) return;
          continue;
        }
        const count = this.read();
        if (count === nothingYet) {
          this.waitForSource();
          return;
        }
        bytes += count;
        queue.complete(this.state[head]!, count);
        this.state[head] = -1;
      }
    } finally {
      queue.flush();
    }
  }

  /** Has a request in hand: the one that waited, or the next. */
  private take(queue: Virtqueue): boolean {
    const { state } = this;
    if (state[head]! >= 0) return true;
    state[head] = queue.next();
    if (state[head]! < 0) return false;
    const { chain } = queue;
    const length = Math.min(chain.writableBytes, requestBytes);
    state[segments] = chain.gather(true, 0, length, this.words, 0, maxSegments);
    return true;
  }

  /** Into the request in hand: how many bytes came, or `nothingYet`. */
  private read(): number {
    const { counters, spec, state, iovecs } = this;
    if (state[segments] === 0) return 0;
    let count: number;
    do count = this.readSource(spec.fd, iovecs.address, state[segments]!, ownPosition);
    while (count === -Errno.EINTR);
    if (count === -Errno.EAGAIN) return nothingYet;
    counters[readOps]!++;
    if (count > 0) {
      counters[readBytes]! += count;
      return count;
    }
    counters[errors]!++;
    if (state[warned] === 0) {
      state[warned] = 1;
      const why = count === 0 ? "has ended" : `fails: ${errnoName(-count)}`;
      tellFailure(this.host, `the source ${why}; the guest gets no entropy from it`);
    }
    return 0;
  }

  private readonly sourceReady = () => {
    this.unwatchSource();
    this.work();
  };

  private waitForSource(): void {
    const { host, spec, state } = this;
    try {
      host.watch(spec.fd, Epoll.in, this.sourceReady);
      state[watching] = 1;
    } catch (error) {
      if (!(error instanceof SystemError && error.code === "EPERM")) throw error;
      armTimerfd(this.timer, monotonicNs() + retryNs);
    }
  }

  private unwatchSource(): void {
    if (this.state[watching] === 1) this.host.unwatch(this.spec.fd);
    this.state[watching] = 0;
  }
}
