/**
 * One device behind a vhost-user socket: its backend, which lives as long as the process, and its rings, which are the
 * front end's. A ring is worked while the front end wants it and there is memory. Everything that takes time (requests
 * in flight must end) reports by a callback.
 */
import { Epoll } from "../../ffi/epoll.ts";
import { drainEventfd } from "../../ffi/eventfd.ts";
import { pollEvents } from "../../ffi/poll.ts";
import type { Chores } from "../chores/chores.ts";
import type { Backend, BackendHost } from "../virtio/backend.ts";
import { GuestFault } from "../virtio/guest-fault.ts";
import { Virtqueue } from "../virtio/queue.ts";
import { Feature } from "../virtio/registers.ts";
import { Refusal } from "./errors.ts";
import type { InflightArea } from "./inflight.ts";
import { MemoryTable } from "./memory-table.ts";
import { Ring, RingFd } from "./ring.ts";

/** What is served, as plain data. */
export interface DeviceModel {
  /** Feature bits that the device offers, and those without which it cannot be driven. */
  readonly features: bigint;
  readonly needs?: bigint;
  /** Queues that a front end may use, and what GET_QUEUE_NUM says of them. */
  readonly queues: number;
  readonly queueCount: number;
  /** Configuration space as it starts, and which bytes a driver may write (1). */
  readonly config: Uint8Array;
  readonly writable: Uint8Array;
  /** Chains end in any order: those in flight are tracked where the front end asks for it. */
  readonly tracksInFlight: boolean;
}

/** What a process of its own does for the device. */
export interface DeviceHome {
  /** It calls `poll` and `sleep`. */
  readonly polls?: boolean;
  watch(fd: number, events: number, ready: (events: number) => void): void;
  unwatch(fd: number): void;
  chores(): Chores;
  warn(text: string): void;
}

/** Configuration space and counters are the backend's too. */
export interface DeviceParts {
  readonly config: Uint8Array;
  readonly create: (host: BackendHost) => Backend;
}

/** A pipe holds 8192 kicks. One less than a power of two. */
const kicksPerDrain = 1023;
/** Flags of the device. */
const [live, stopping, broken] = [0, 1, 2];

export class VhostUserDevice implements BackendHost {
  readonly memory = new MemoryTable();
  readonly rings: readonly Ring[];
  private readonly backend: Backend;
  private readonly flags = new Uint8Array(3);
  private readonly kicks = new Uint32Array(1);
  /** Feature bits that the driver accepted. */
  private readonly accepted = new BigUint64Array(1);
  /** The area of the front end, if there is one. */
  private readonly areas: InflightArea[] = [];
  /** Who waits for all queues to rest. */
  private readonly halted: (() => void)[] = [];
  /** Who is told that configuration space has changed. */
  private readonly listeners: (() => void)[] = [];

  constructor(
    readonly model: DeviceModel,
    readonly parts: DeviceParts,
    readonly home: DeviceHome,
  ) {
    this.rings = Array.from({ length: model.queues }, (_, index) => new Ring(index));
    this.parts.config.set(model.config);
    this.backend = parts.create(this);
  }

  get features(): bigint {
    return this.accepted[0]!;
  }
  /** Nothing may be running. */
  set features(bits: bigint) {
    this.accepted[0] = bits;
  }

  /** Some ring is worked. */
  get running(): boolean {
    return this.flags[live] === 1;
  }

  /** The front end's area for chains in flight; the device takes it over. Nothing may be running. */
  setInflight(area: InflightArea | undefined): void {
    for (const former of this.areas.splice(0)) former.close();
    if (area) this.areas.push(area);
  }

  /** Works every ring that is wanted and is not worked yet. Throws Refusal when one cannot be. */
  resume(): void {
    const { windows } = this.memory;
    if (!windows || this.flags[stopping] === 1) return;
    for (const ring of this.rings) {
      if (ring.wanted && ring.queue === undefined) this.start(ring);
    }
  }

  get polls(): boolean {
    return this.home.polls === true;
  }

  /** Looks for what drivers have offered: whether there was something. */
  poll(): boolean {
    const { backend } = this;
    if (!this.canPoll) return false;
    try {
      return backend.poll!();
    } catch (error) {
      this.contain(error);
      return true;
    }
  }

  /** It can be looked for what drivers have offered, and there may be something. */
  get canPoll(): boolean {
    return this.flags[live] === 1 && this.flags[broken] === 0 && this.backend.poll !== undefined;
  }

  /** Requests are in hand, whose end is waited for. */
  get inFlight(): boolean {
    return this.backend.inFlight === true;
  }

  /** Drivers are to kick from now on; false when there is something to do already. */
  sleep(): boolean {
    const { backend, flags } = this;
    if (flags[live] === 0 || flags[broken] === 1 || !backend.sleep) return true;
    try {
      return backend.sleep();
    } catch (error) {
      this.contain(error);
      return true;
    }
  }

  /** Lets one ring rest; `done` when the last of its requests has ended. Others go on, if the backend can do that. */
  rest(ring: Ring, done: () => void): void {
    if (ring.queue === undefined) {
      done();
      return;
    }
    this.home.unwatch(ring.fd(RingFd.kick));
    const { backend } = this;
    if (!backend.stopQueue) {
      this.halt(() => {
        // a ring that the front end wants no more is not started again
        this.resume();
        done();
      });
      return;
    }
    const rested = () => {
      ring.rest();
      if (this.rings.some(({ queue }) => queue)) done();
      else this.halt(done);
    };
    if (backend.stopQueue(ring.index, rested)) rested();
  }

  /** Lets all rings rest; whoever waited for that before is not told any more. */
  halt(done: () => void): void {
    if (this.flags[live] === 0) {
      done();
      return;
    }
    this.halted[0] = done;
    if (this.flags[stopping] === 1) return;
    this.flags[stopping] = 1;
    for (const ring of this.rings) if (ring.queue) this.home.unwatch(ring.fd(RingFd.kick));
    if (this.backend.stop(() => this.hasHalted())) this.hasHalted();
  }

  /** Forgets the front end. Nothing may be running. */
  forget(): void {
    for (const ring of this.rings) ring.reset();
    this.setInflight(undefined);
    this.memory.clear();
    this.reset();
  }

  /** The driver's side as after power-on. Nothing may be running. */
  reset(): void {
    this.features = 0n;
    this.parts.config.set(this.model.config);
  }

  /** Replaces a ring's kick; a ring that is worked goes on with it. */
  setKick(ring: Ring, fd: number): void {
    if (ring.queue) this.home.unwatch(ring.fd(RingFd.kick));
    ring.setFd(RingFd.kick, fd);
    if (ring.queue) this.watchKick(ring);
  }

  close(): void {
    this.forget();
    this.backend.close();
  }

  call(index: number): void {
    this.rings[index]!.signal(RingFd.call);
  }

  configChanged(): void {
    this.listeners[0]?.();
  }
  /** At most one listener. */
  onConfigChanged(listener: (() => void) | undefined): void {
    this.listeners.length = 0;
    if (listener) this.listeners.push(listener);
  }

  watch(fd: number, events: number, ready: (events: number) => void): void {
    // nothing is made for an event
    this.home.watch(fd, events, (what) => {
      try {
        ready(what);
      } catch (error) {
        this.contain(error);
      }
    });
  }

  unwatch(fd: number): void {
    this.home.unwatch(fd);
  }

  chores(): Chores {
    return this.home.chores();
  }

  warn(text: string): void {
    this.home.warn(text);
  }

  private start(ring: Ring): void {
    const { backend, flags } = this;
    const queue = this.makeQueue(ring);
    this.watchKick(ring);
    ring.run(queue);
    if (flags[live] === 1 && backend.startQueue) {
      backend.startQueue(ring.index, queue);
    } else {
      this.restart();
    }
    // answers whose call was lost with the back end before, and chains whose kick was
    if (queue.nextUsed !== 0) ring.signal(RingFd.call);
    for (const { index } of this.rings.filter((one) => one.queue)) {
      this.guarded(() => backend.kicked(index));
    }
  }

  /** Starts the backend with all rings that run; one without `startQueue` stands still at once, and begins anew. */
  private restart(): void {
    const { backend, flags } = this;
    if (flags[live] === 1) backend.stop(() => {});
    flags[live] = 1;
    const queues = this.rings.map(({ queue }) => queue);
    this.guarded(() => backend.start(queues, this.features));
  }

  private makeQueue(ring: Ring): Virtqueue {
    const { memory } = this;
    const windows = memory.windows!;
    const layout = ring.layout(memory);
    const { needs = 0n } = this.model;
    if ((this.features & needs) !== needs) throw new Refusal("a driver of before virtio 1.0");
    const has = (bit: number) => ((this.features >> BigInt(bit)) & 1n) === 1n;
    const index = windows.windowOf(layout.device, 4);
    if (index < 0) throw new Refusal(`queue ${ring.index} has no used ring`);
    const nextUsed = windows.view(index).getUint16(windows.offset + 2, true);
    const inFlight = this.areas[0]?.queue(ring.index, ring.size, nextUsed);
    const nextAvail = inFlight ? (nextUsed + inFlight.heads.length) & 0xffff : ring.base;
    return new Virtqueue(windows, layout, {
      ...{ indirect: has(Feature.RING_INDIRECT_DESC), eventIndex: has(Feature.RING_EVENT_IDX) },
      ...{ nextAvail, nextUsed, ...(inFlight && { inFlight }), call: () => this.call(ring.index) },
    });
  }

  private watchKick(ring: Ring): void {
    const fd = ring.fd(RingFd.kick);
    this.home.watch(fd, Epoll.in | Epoll.edge, () => this.kicked(ring.index, fd));
  }

  /** Each kick is an edge, so the eventfd need not be read; a pipe would fill up. */
  private kicked(index: number, fd: number): void {
    this.kicks[0]!++;
    const drains = (this.kicks[0]! & kicksPerDrain) === 0;
    if (drains && (pollEvents(fd, Epoll.in) & Epoll.in) !== 0) drainEventfd(fd);
    // who polls looks now that it is awake
    if (this.flags[broken] === 1 || (this.polls && this.backend.poll)) return;
    try {
      this.backend.kicked(index);
    } catch (error) {
      this.contain(error);
    }
  }

  private hasHalted(): void {
    this.flags.fill(0);
    for (const ring of this.rings) if (ring.queue) ring.rest();
    this.halted.pop()?.();
  }

  private guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.contain(error);
    }
  }

  /** The driver broke the rules: the device stands still until all its rings were stopped. */
  private contain(error: unknown): void {
    if (!(error instanceof GuestFault)) throw error;
    if (this.flags[broken] === 1) return;
    this.flags[broken] = 1;
    this.warn(`the driver broke its queue: ${error.message}; the device waits for a reset`);
    for (const ring of this.rings) if (ring.queue) ring.signal(RingFd.error);
  }
}
