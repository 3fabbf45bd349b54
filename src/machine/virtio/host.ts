/**
 * The virtio devices of an I/O worker: takes each device over when its driver is ready, hands kicks to its backend, and
 * gives it back when the driver resets it. A driver that breaks the rules of its rings costs itself the device.
 */

import type { EventRing } from "../../bus/event-ring.ts";
import { EventKind, LogLevel } from "../../bus/events.ts";
import { locked } from "../../bus/lock.ts";
import { ChoreClient } from "../../devices/chores/chore-ring.ts";
import type { Chores } from "../../devices/chores/chores.ts";
import type { Backend, BackendHost } from "../../devices/virtio/backend.ts";
import type { HandOver, QueueState } from "../../devices/virtio/device-state.ts";
import { GuestFault } from "../../devices/virtio/guest-fault.ts";
import type { GuestWindows } from "../../devices/virtio/guest-windows.ts";
import { Virtqueue } from "../../devices/virtio/queue.ts";
import { Feature, Isr } from "../../devices/virtio/registers.ts";
import { Epoll } from "../../ffi/epoll.ts";
import { drainEventfd } from "../../ffi/eventfd.ts";
import type { Watcher } from "../watcher.ts";
import { counterCount, interruptsAt, type PluggedVirtio, queuesOf } from "./spec.ts";

type QueueRegisters = InstanceType<typeof QueueState>;

const highUnit = 0x1_0000_0000;

/** The share of a device that a worker serves: its queues, and where it counts. */
export interface VirtioShare extends PluggedVirtio {
  readonly queues: readonly number[];
}

/** Makes the backend of a device's share. */
export type BackendFactory = (host: BackendHost, device: VirtioShare) => Backend;

export class VirtioDeviceHost implements BackendHost {
  readonly #backend: Backend;
  readonly #handOver: HandOver;
  /** A view of each queue's registers: none is made on a call. */
  readonly #queues: readonly QueueRegisters[];
  readonly #own: readonly number[];
  readonly #counters: Float64Array;
  #running = false;
  /** The worker is parked, or about to be: the backend stands still, and goes on where it was. */
  #held = false;
  /** The queues that the backend works, and where it left them while it is held. */
  #working: readonly (Virtqueue | undefined)[] = [];
  /** The backend has been asked to stand still, for this request. */
  #stopping = false;

  constructor(
    readonly plugged: PluggedVirtio,
    readonly windows: GuestWindows,
    readonly watcher: Watcher,
    readonly events: EventRing,
    create: BackendFactory,
    /** Which share of the device's queues this worker has. */
    readonly share = 0,
    /** The worker has no other device, nor anything else to do. */
    readonly alone = false,
  ) {
    const { transport } = plugged.device;
    this.#handOver = transport.handOver;
    this.#queues = [...transport.identity.queueSizes.keys()].map((i) =>
      transport.state.queues.get(i),
    );
    const queues = queuesOf(plugged.spec, share);
    const first = share * counterCount;
    const counters = plugged.counters.subarray(first, first + counterCount);
    this.#own = queues;
    this.#counters = counters;
    this.#backend = create(this, { ...plugged, counters, queues });
    for (const index of queues) {
      const fd = plugged.spec.kickFds[index]!;
      watcher.watch(fd, Epoll.in, () => this.#kicked(index, fd));
    }
  }

  /** Does what the transport wants, if it wants something else than before. */
  settle(): void {
    if (this.#held) return;
    if (this.#handOver.hasReached(this.share) || this.#stopping) return;
    if (this.#running) this.#stop();
    else this.#follow();
  }

  /** Nothing is in flight. */
  #follow(): void {
    const wanted = this.#handOver.wanted;
    if ((wanted & 1) === 1) this.#start();
    this.#handOver.reach(wanted, this.share);
    this.settle();
  }

  #start(resumed = false): void {
    this.#running = true;
    this.#guarded(() => {
      const { queues, features } = this.#takeQueues();
      this.#working = queues;
      this.#backend.start(queues, features, resumed);
      for (const index of queues.keys()) if (queues[index]) this.#backend.kicked(index);
    });
  }

  #stop(): void {
    this.#stopping = true;
    const stopped = () => {
      if (!this.#stopping) return;
      this.#stopping = false;
      if (this.#held) return;
      this.#running = false;
      this.#working = [];
      this.#follow();
    };
    if (this.#backend.stop(stopped)) stopped();
  }

  /** The worker is to stand still: the backend ends what it has in hand; see `atRest`. */
  hold(): void {
    if (this.#held) return;
    this.#held = true;
    if (this.#running && !this.#stopping) this.#stop();
  }

  /** Nothing is in flight, and nothing begins until `release`. */
  get atRest(): boolean {
    return this.#held && !this.#stopping;
  }

  /** The worker goes on: so does the backend, with the chains that the driver has offered meanwhile. */
  release(): void {
    if (!this.#held) return;
    this.#held = false;
    if (!this.#handOver.hasReached(this.share)) {
      // the driver has taken it back, and its registers with it: it stands still already
      this.#running = false;
      this.#working = [];
    }
    if (this.#running && !this.#handOver.broken) this.#start(true);
    this.settle();
  }

  /** The queues that the driver has enabled, as its registers say now. */
  #takeQueues(): { queues: (Virtqueue | undefined)[]; features: bigint } {
    const { device, lock } = this.plugged;
    const { state } = device.transport;
    const queues: (Virtqueue | undefined)[] = [];
    let features = 0n;
    locked(lock, () => {
      features = (BigInt(state.driverFeaturesHigh) << 32n) | BigInt(state.driverFeaturesLow);
      const has = (bit: number) => (features & (1n << BigInt(bit))) !== 0n;
      const indirect = has(Feature.RING_INDIRECT_DESC);
      const eventIndex = has(Feature.RING_EVENT_IDX);
      for (const [index, queue] of this.#queues.entries()) {
        if (queue.enable === 0 || !this.#own.includes(index)) {
          queues.push(undefined);
          continue;
        }
        const layout = {
          size: queue.size,
          desc: queue.descHigh * highUnit + queue.descLow,
          driver: queue.driverHigh * highUnit + queue.driverLow,
          device: queue.deviceHigh * highUnit + queue.deviceLow,
        };
        const call = () => this.call(index);
        // what a backend that stands still has taken it has given back: it goes on where it was
        const nextAvail = this.#working[index]?.nextUsed ?? 0;
        const options = { indirect, eventIndex, call, nextAvail };
        queues.push(new Virtqueue(this.windows, layout, options));
      }
    });
    return { queues, features };
  }

  #kicked(index: number, fd: number): void {
    drainEventfd(fd);
    if (!this.#running || this.#held || this.#stopping || this.#handOver.broken) return;
    try {
      this.#backend.kicked(index);
    } catch (error) {
      this.#contain(error);
    }
  }

  /** A guest's fault is contained here: the device stands still until its driver resets it. */
  #guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#contain(error);
    }
  }

  #contain(error: unknown): void {
    if (!(error instanceof GuestFault)) throw error;
    this.broke(error);
  }

  /** The driver broke the rules, found in the midst of something else than a kick. */
  broke(fault: GuestFault): void {
    if (!this.#handOver.breaks()) return;
    this.failed(`the driver broke its queue: ${fault.message}; the device waits for a reset`);
    this.configChanged();
  }

  call(index: number): void {
    const { device, lock } = this.plugged;
    this.#counters[interruptsAt]!++;
    lock.acquire();
    try {
      device.interrupt(Isr.queue, this.#queues[index]!.vector);
    } finally {
      lock.release();
    }
  }

  callFd(index: number): number | undefined {
    const { device, lock, spec } = this.plugged;
    lock.acquire();
    try {
      if (device.msix?.enabled !== true) return undefined;
      return spec.callFds?.[this.#queues[index]!.vector];
    } finally {
      lock.release();
    }
  }

  configChanged(): void {
    const { device, lock } = this.plugged;
    locked(lock, () => device.configChanged());
  }

  watch(fd: number, events: number, ready: (events: number) => void): void {
    // nothing is made for an event
    this.watcher.watch(fd, events, (what) => {
      try {
        ready(what);
      } catch (error) {
        this.#contain(error);
      }
    });
  }

  unwatch(fd: number): void {
    this.watcher.unwatch(fd);
  }

  chores(): Chores {
    const { chores, id } = this.plugged.spec;
    if (!chores) throw new Error(`${id}: a device without chores asks for them`);
    const start = () => this.events.emit(EventKind.choresWanted, this.share, 0, id);
    return new ChoreClient(chores[this.share]!, start);
  }

  warn(text: string): void {
    const { id } = this.plugged.spec;
    this.events.log(LogLevel.warn, `${id}: ${text}`, 1);
  }

  failed(text: string): void {
    this.events.emit(EventKind.deviceFailed, 0, 0, `${this.plugged.spec.id}\0${text}`);
  }

  /** See Backend. */
  farewell(): boolean {
    return this.#backend.farewell?.() ?? false;
  }

  close(): void {
    this.#backend.close();
  }
}
