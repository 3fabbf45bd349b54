/**
 * The persistent memory device's backend (virtio 1.2 section 5.19). The memory itself is a slot of KVM: a guest reads
 * and writes it without us. Here its flush requests become fdatasync(2), by io_uring or as a chore, never on the
 * worker.
 *
 * Requests that are there together share one sync; those that come while one runs wait in their ring for the next, for
 * it may not cover what the guest wrote before them.
 */
import { armTimerfd, createTimerfd, Epoll } from "../../ffi/epoll.ts";
import { drainEventfd } from "../../ffi/eventfd.ts";
import { close } from "../../ffi/file.ts";
import { IoUring } from "../../ffi/io-uring.ts";
import { Errno, errnoName, SystemError } from "../../ffi/libc.ts";
import type { Chores } from "../chores/chores.ts";
import { type Backend, type BackendHost, tellFailure } from "./backend.ts";
import {
  PmemCounters,
  PmemReturn,
  type PmemSpec,
  pmemQueueSize,
  VIRTIO_PMEM_REQ_TYPE_FLUSH,
  VirtioPmemReq,
  VirtioPmemResp,
} from "./pmem-config.ts";
import type { Virtqueue } from "./queue.ts";

/** Most requests of a turn: those that need no sync are answered at once, and there is no end to them. */
const turnRequests = 256;
const answerBytes = VirtioPmemResp.size;
const [flushOps, errors] = [0, 1];
/** Requests that were taken and not answered; 1 while a sync runs, while it is to stand still, when it has warned. */
const [count, syncing, stopping, warned] = [0, 1, 2, 3];

/** What a sync is asked of: the part of a ring that is needed. */
export type SyncRing = Pick<IoUring, "fd" | "result" | "dataSync" | "submit" | "next" | "close">;

export class PmemBackend implements Backend {
  private readonly queues: (Virtqueue | undefined)[] = [undefined];
  private readonly heads = new Uint16Array(pmemQueueSize);
  /** The guest addresses of the bytes of each answer, which the driver may have split. */
  private readonly answers = new Float64Array(pmemQueueSize * answerBytes);
  private readonly state = new Uint32Array(4);
  private readonly quiet: (() => void)[] = [];
  private readonly ring: SyncRing | undefined;
  private readonly chores: Chores | undefined;
  private readonly choreEnded = (_tag: number, error: number) => this.ended(error);
  /** Goes off when it is time to go on. */
  private readonly timer = createTimerfd();

  constructor(
    readonly spec: PmemSpec,
    readonly host: BackendHost,
    readonly counters: Float64Array = new Float64Array(PmemCounters.length),
    openRing: () => SyncRing | SystemError = () => IoUring.open(1),
  ) {
    host.watch(this.timer, Epoll.in, () => {
      drainEventfd(this.timer);
      this.work();
    });
    if (spec.discard) return;
    const ring = spec.uring ? openRing() : undefined;
    if (ring instanceof SystemError) {
      host.warn(`no io_uring (${ring.message}): a thread of its own flushes`);
    } else {
      this.ring = ring;
    }
    if (!this.ring) this.chores = host.chores();
    host.watch(this.wayFd, Epoll.in, () => this.turn());
  }

  start(queues: readonly (Virtqueue | undefined)[]): void {
    this.queues[0] = queues[0];
    this.state[count] = 0;
    this.state[stopping] = 0;
  }

  kicked(): void {
    this.work();
  }

  stop(quiet: () => void): boolean {
    this.state[stopping] = 1;
    armTimerfd(this.timer, 0);
    if (this.state[syncing] === 1) {
      this.quiet.push(quiet);
      return false;
    }
    this.queues[0] = undefined;
    return true;
  }

  close(): void {
    if (this.wayFd >= 0) this.host.unwatch(this.wayFd);
    this.ring?.close();
    this.host.unwatch(this.timer);
    close(this.timer);
  }

  private get wayFd(): number {
    return (this.ring ?? this.chores)?.fd ?? -1;
  }

  /** Takes what is there, unless a sync runs already. Throws GuestFault. */
  private work(): void {
    const queue = this.queues[0];
    if (!queue || this.state[syncing] === 1 || this.state[stopping] === 1) return;
    try {
      queue.pauseKicks();
      for (let requests = 0; this.state[count]! < pmemQueueSize; requests++) {
        if (requests === turnRequests) {
          armTimerfd(this.timer, 1); // a moment that has passed: after what else is ready
          break;
        }
        const head = queue.next();
        if (head >= 0) this.take(queue, head);
        else if (queue.armKick()) break;
      }
    } finally {
      // also when a chain was broken: those before it go their way
      queue.flush();
      if (this.state[count]! > 0) this.sync();
    }
  }

  private take(queue: Virtqueue, head: number): void {
    const { chain } = queue;
    if (chain.writableBytes < answerBytes) {
      this.counters[errors]!++;
      queue.complete(head, 0); // nowhere to put an answer
      return;
    }
    const slot = this.state[count]!;
    this.heads[slot] = head;
    for (let i = 0; i < answerBytes; i++) {
      this.answers[slot * answerBytes + i] = chain.writableAt(i);
    }
    const whole = chain.readableBytes >= VirtioPmemReq.size;
    if (!whole || chain.readUint32(0) !== VIRTIO_PMEM_REQ_TYPE_FLUSH) {
      this.answer(queue, slot, PmemReturn.failure);
      return;
    }
    this.counters[flushOps]!++;
    if (this.spec.discard) this.answer(queue, slot, PmemReturn.success);
    else this.state[count] = slot + 1;
  }

  private answer(queue: Virtqueue, slot: number, ret: number): void {
    if (ret !== PmemReturn.success) this.counters[errors]!++;
    for (let i = 0; i < answerBytes; i++) {
      queue.windows.setUint8(this.answers[slot * answerBytes + i]!, (ret >>> (8 * i)) & 0xff);
    }
    queue.complete(this.heads[slot]!, answerBytes);
  }

  private sync(): void {
    this.state[syncing] = 1;
    if (this.ring) {
      this.ring.dataSync(this.spec.fd, 0);
      this.ring.submit();
      this.turn();
    } else if (!this.chores!.sync(0, this.spec.fd)) {
      throw new Error("pmem: a chore in hand where there is none");
    }
  }

  /** Something may have ended. Throws GuestFault, as `kicked` does: what waited is taken. */
  private turn(): void {
    const { ring } = this;
    if (!ring) this.chores!.turn(this.choreEnded);
    else while (ring.next()) this.ended(ring.result < 0 ? -ring.result : 0);
  }

  private ended(error: number): void {
    this.state[syncing] = 0;
    const queue = this.queues[0];
    if (this.state[stopping] === 1) {
      this.queues[0] = undefined;
      this.quiet.pop()?.();
      return;
    }
    if (error === Errno.EINTR) {
      this.sync();
      return;
    }
    if (error !== 0 && this.state[warned] === 0) {
      this.state[warned] = 1;
      tellFailure(this.host, `flushing fails: ${errnoName(error)}; the guest is told`);
    }
    const taken = this.state[count]!;
    const ret = error === 0 ? PmemReturn.success : PmemReturn.failure;
    for (let slot = 0; slot < taken; slot++) this.answer(queue!, slot, ret);
    this.state[count] = 0;
    queue!.flush();
    this.work();
  }
}
