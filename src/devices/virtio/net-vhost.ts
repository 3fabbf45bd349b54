/**
 * A pair of queues that the kernel serves (vhost-net): it waits on the driver's kicks, moves frames between guest
 * memory and the tap in a thread of its own, and tells the driver through the vector's eventfd. Where the driver has no
 * vector, the worker passes on what the kernel tells.
 */
import { Epoll } from "../../ffi/epoll.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../../ffi/eventfd.ts";
import { close } from "../../ffi/file.ts";
import { SystemError } from "../../ffi/libc.ts";
import type { VhostNet } from "../../ffi/vhost.ts";
import { type BackendHost, tellFailure } from "./backend.ts";
import { GuestFault } from "./guest-fault.ts";
import type { PairQueues, QueuePair } from "./net-pair.ts";
import type { Virtqueue } from "./queue.ts";

/** vhost's numbers of the two queues. */
const queueNumbers = [0, 1] as const;
const stopped = -1;
/** Owned by this process; rings set; frames move. */
const [owned, ready, running] = [0, 1, 2];

export class VhostPair implements QueuePair {
  private readonly state = new Uint8Array(3);
  /** Indexes of the next avail entries, over a pause. */
  private readonly bases = new Uint16Array(2);
  /** What the kernel writes to when the driver has no vector, and when a ring is broken: one for each queue. */
  private readonly callFds: readonly number[];
  private readonly errorFds: readonly number[];

  constructor(
    readonly vhost: VhostNet,
    readonly tap: number,
    readonly host: BackendHost,
    /** The device's number of the receive queue. */
    readonly index: number,
    readonly kickFds: readonly number[],
    /** A queue is broken: the whole device stands still. */
    halt: () => void,
  ) {
    this.callFds = queueNumbers.map(createEventfd);
    this.errorFds = queueNumbers.map(createEventfd);
    for (const queue of queueNumbers) {
      const [callFd, errorFd] = [this.callFds[queue]!, this.errorFds[queue]!];
      host.watch(callFd, Epoll.in, () => {
        if (drainEventfd(callFd)) host.call(index + queue);
      });
      host.watch(errorFd, Epoll.in, () => {
        if (drainEventfd(errorFd) && this.state[ready] === 1) {
          halt();
          throw new GuestFault(`vhost finds queue ${index + queue} broken`);
        }
      });
    }
  }

  start({ receive, transmit, features, resumed }: PairQueues): void {
    const { vhost, state } = this;
    if (!resumed) this.bases.set([receive.nextAvail, transmit.nextAvail]);
    this.tried("start", () => {
      if (state[owned] === 0) vhost.own();
      state[owned] = 1;
      vhost.setFeatures(features);
      vhost.setMemory(receive.windows.regions);
      vhost.setRing(0, this.ring(0, receive));
      vhost.setRing(1, this.ring(1, transmit));
      state[ready] = 1;
    });
  }

  run(): void {
    const { vhost, state } = this;
    if (state[ready] === 0) return;
    this.tried("run", () => {
      state[running] = 1;
      for (const queue of queueNumbers) vhost.setBackend(queue, this.tap);
      // what was kicked before went unheard
      this.kickFds.forEach(signalEventfd);
    });
  }

  rest(): void {
    const { vhost, state } = this;
    if (state[running] === 0) return;
    state[running] = 0;
    this.tried("stop", () => {
      for (const queue of queueNumbers) vhost.setBackend(queue, stopped);
    });
  }

  expect(): void {}
  receive(): void {}
  transmit(): void {}
  goOn(): void {}

  stop(): void {
    this.rest();
    const { vhost, state } = this;
    if (state[ready] === 0) return;
    state[ready] = 0;
    this.tried("stop", () => {
      for (const queue of queueNumbers) this.bases[queue] = vhost.base(queue);
    });
  }

  close(): void {
    this.stop();
    for (const fd of [...this.callFds, ...this.errorFds]) {
      this.host.unwatch(fd);
      close(fd);
    }
  }

  /** Where a queue's rings lie in this process. The worker has no use for its kicks. */
  private ring(queue: number, { layout, size, windows }: Virtqueue) {
    const kickFd = this.kickFds[queue]!;
    this.host.unwatch(kickFd);
    const at = (address: number) => windows.hostAddress(address, 1);
    return {
      ...{ size, nextAvail: this.bases[queue]!, kickFd, errorFd: this.errorFds[queue]! },
      ...{ desc: at(layout.desc), avail: at(layout.driver), used: at(layout.device) },
      callFd: this.host.callFd?.(this.index + queue) ?? this.callFds[queue]!,
    };
  }

  private tried(what: string, run: () => void): void {
    try {
      run();
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      tellFailure(this.host, `vhost-net does not ${what}: ${error.message}; no frames move`);
    }
  }
}
