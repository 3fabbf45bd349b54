/**
 * The network device's backend (virtio 1.2 section 5.1): pairs of queues between a tap and the guest, the control
 * queue, and what its commands change.
 */
import { armTimerfd, createTimerfd, Epoll } from "../../ffi/epoll.ts";
import { drainEventfd, signalEventfd } from "../../ffi/eventfd.ts";
import { close } from "../../ffi/file.ts";
import { ioctl } from "../../ffi/ioctl.ts";
import { errnoName } from "../../ffi/libc.ts";
import { type TapCalls, tapCalls } from "../../ffi/tap.ts";
import { type VhostCall, VhostNet } from "../../ffi/vhost.ts";
import { type Backend, type BackendHost, tellFailure } from "./backend.ts";
import { macBytes, NetCounters, NetFeature, type NetSpec, VirtioNetConfig } from "./net-config.ts";
import { type ControlTarget, NetControlQueue } from "./net-control.ts";
import { macNumber, type NetFilter } from "./net-filter.ts";
import { guestOffloads, tapOffloads } from "./net-offloads.ts";
import { type PairParts, type QueuePair, TapPair } from "./net-pair.ts";
import { NetPairs, netQueueNumbers } from "./net-pairs.ts";
import { discardFrames, type ReceiveParts } from "./net-receive.ts";
import { NetShared } from "./net-shared.ts";
import type { TransmitParts } from "./net-transmit.ts";
import { VhostPair } from "./net-vhost.ts";
import type { Virtqueue } from "./queue.ts";
import { RateLimiter } from "./rate-limiter.ts";

/** Pairs that have queues; whether the driver is ready; low feature bits accepted; the control queue is here (1). */
const [usable, started, accepted, leads] = [0, 1, 2, 3];

/** What is called of the kernel, for those who listen. */
export interface NetCalls extends TapCalls {
  /** ioctl(2) on vhost-net. */
  readonly vhost: VhostCall;
}
const netCalls: NetCalls = { ...tapCalls, vhost: ioctl };

export class NetBackend implements Backend, ControlTarget, PairParts {
  readonly filter: NetFilter;
  readonly receive: ReceiveParts;
  readonly transmit: TransmitParts;
  private readonly pairs: NetPairs;
  private readonly shared: NetShared;
  private readonly controls: (NetControlQueue | undefined)[] = [undefined];
  private readonly state = new Uint32Array(4);
  /** The MAC that the driver has set, over a pause. */
  private readonly chosenMac = new Uint8Array(macBytes);
  /** Goes off when it is time to go on with what had its turn. */
  private readonly timer = createTimerfd();

  /** `config` is configuration space in shared memory, `counters` where to count, `kickFds` an eventfd a queue. */
  constructor(
    readonly spec: NetSpec,
    readonly host: BackendHost,
    readonly config: Uint8Array,
    readonly counters: Float64Array = new Float64Array(NetCounters.length),
    kickFds: readonly number[] = [],
    readonly calls: NetCalls = netCalls,
    /** Those of the device's queues that this backend serves, by number: see `queuesOf`. */
    numbers: readonly number[] = netQueueNumbers(spec),
  ) {
    this.shared = new NetShared(spec.shared);
    this.filter = this.shared.filter;
    const lost = () => this.lost();
    const limiter = (limit: NetSpec["receiveLimit"], resume: (pair: QueuePair) => void) =>
      new RateLimiter(limit, host, () =>
        this.guarded(() => {
          for (const pair of this.pairs.all) if (pair) resume(pair);
        }),
      );
    const { filter } = this;
    const polls = host.polls === true;
    this.receive = {
      ...{ filter, counters, lost, polls, read: calls.readFrame },
      limiter: limiter(spec.receiveLimit, (pair) => pair.receive()),
    };
    this.transmit = {
      ...{ counters, lost, polls, write: calls.writeFrame },
      limiter: limiter(spec.transmitLimit, (pair) => pair.transmit()),
    };
    this.pairs = new NetPairs(spec, this.shared, numbers, kickFds, (index, tap) => {
      const vhost = spec.vhosts[index];
      if (vhost === undefined) return new TapPair(tap, this);
      const kicks = kickFds.slice(index * 2, index * 2 + 2);
      const kernel = new VhostNet(vhost, calls.vhost);
      return new VhostPair(kernel, tap, host, index * 2, kicks, () => this.halt());
    });
    host.watch(this.timer, Epoll.in, () => {
      drainEventfd(this.timer);
      this.guarded(() => this.goOn());
    });
  }

  start(
    queues: readonly (Virtqueue | undefined)[],
    features: bigint,
    resumed: boolean = false,
  ): void {
    const { state, shared, pairs } = this;
    const low = Number(features & 0xffff_ffffn);
    const has = (bit: number) => (low & (1 << bit)) !== 0;
    state[accepted] = low;
    state[started] = 1;
    state[usable] = has(NetFeature.MQ) ? this.spec.taps.length : 1;
    const control = has(NetFeature.CTRL_VQ) ? queues[this.controlNumber] : undefined;
    this.controls[0] = control && new NetControlQueue(control, low, this);
    const leading = pairs.numbers.includes(this.controlNumber);
    state[leads] = leading ? 1 : 0;
    if (leading) shared.enterAll();
    else shared.enter(pairs.share);
    try {
      if (leading && resumed) this.setMac(this.chosenMac);
      else if (leading) this.reset(has(NetFeature.CTRL_VQ));
      pairs.start(state[usable]!, queues, features, resumed);
      if (leading) this.lead(resumed);
      pairs.apply();
      shared.setReady(pairs.share, true);
    } finally {
      if (leading) shared.leaveAll();
      else shared.leave(pairs.share);
    }
    if (leading) pairs.wakeOthers(state[usable]!);
    else signalEventfd(pairs.kickFds[this.controlNumber]!); // commands may wait for us
  }

  /** The control queue's number: it comes after the last pair that can be used. */
  private get controlNumber(): number {
    return 2 * this.state[usable]!;
  }

  /** All is as the driver finds it; `chooses`: it has a queue to change that with. */
  private reset(chooses: boolean): void {
    const { state, shared } = this;
    // behind a vhost-user socket the front end has the control queue, and gives what is to be used
    shared.inUse = chooses ? 1 : state[usable]!;
    shared.offloads = state[accepted]! & guestOffloads;
    this.filter.reset(this.ownMac);
  }

  /** Frames move from now on, in all shares. */
  private lead(resumed: boolean): void {
    const { shared, spec, calls, pairs } = this;
    if (shared.gone) this.showLink();
    // whether another's are there it knows itself
    const there = (index: number) => pairs.all[index] === undefined || shared.present(index);
    for (let index = 1; index < spec.taps.length; index++) {
      this.attach(index, index < shared.inUse && there(index));
    }
    if (!this.setOffloads(shared.offloads)) {
      this.host.warn("the tap takes no offloads; the guest receives without them");
      this.setOffloads(0); // nor those of a driver before
    }
    for (let index = 0; index < shared.inUse && !resumed; index++) {
      if (there(index)) discardFrames(spec.taps[index]!, calls.readFrame);
    }
    shared.begun = true;
  }

  begin(): void {
    this.pairs.begin();
  }
  end(): void {
    this.pairs.end();
  }

  kicked(index: number): void {
    if (this.state[started] === 0) return;
    const control = index === this.controlNumber;
    if (!control) this.begin();
    try {
      if (control) this.command();
      else this.pairs.kicked(index);
    } catch (error) {
      this.halt();
      throw error;
    } finally {
      if (!control) this.end();
    }
  }

  poll(): boolean {
    if (this.state[started] === 0) return false;
    try {
      return this.pairs.poll();
    } catch (error) {
      this.halt();
      throw error;
    }
  }

  sleep(): boolean {
    if (this.state[started] === 0) return true;
    try {
      return this.pairs.sleep();
    } catch (error) {
      this.halt();
      throw error;
    }
  }

  /**
   * Frames move by single system calls: none is ever in flight when nobody works. The driver may have reset the device,
   * and then reads configuration space before it is ready again; or the machine pauses, and all is to be as it was.
   */
  stop(): boolean {
    const { state, shared, pairs } = this;
    shared.enter(pairs.share);
    shared.setReady(pairs.share, false);
    state[started] = 0;
    this.controls[0] = undefined;
    pairs.stop();
    this.receive.limiter.cancel();
    this.transmit.limiter.cancel();
    if (state[leads] === 1) {
      shared.begun = false;
      this.chosenMac.set(this.config.subarray(0, macBytes));
      this.showMac(this.spec.mac);
    }
    state[leads] = 0;
    shared.leave(pairs.share);
    return true;
  }

  close(): void {
    this.pairs.close();
    this.receive.limiter.close();
    this.transmit.limiter.close();
    this.host.unwatch(this.timer);
    close(this.timer);
  }

  setMac(mac: Uint8Array): void {
    this.showMac(mac);
    this.filter.mac = this.ownMac;
  }

  private showMac(mac: ArrayLike<number>): void {
    for (let i = 0; i < mac.length; i++) Atomics.store(this.config, i, mac[i]!);
  }

  setPairs(count: number): boolean {
    return count <= this.state[usable]! && this.pairs.use(count, this.attach);
  }

  setOffloads(bits: number): boolean {
    const { state, calls, spec, shared } = this;
    if ((bits & ~(state[accepted]! & guestOffloads)) !== 0) return false;
    if (calls.setOffload(spec.taps[0]!, tapOffloads(bits)) !== 0) return false;
    shared.offloads = bits;
    this.pairs.apply();
    return true;
  }

  again(): void {
    // a host that polls finds it
    if (this.host.polls !== true) this.later();
  }

  private later(): void {
    armTimerfd(this.timer, 1); // a moment that has passed: after what else is ready
  }

  halt(): void {
    this.state[started] = 0;
    this.shared.begun = false;
    this.pairs.apply();
  }

  private guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.halt();
      throw error;
    }
  }

  /** Commands wait for the shares that are not there yet: they call when they are. */
  private command(): void {
    const { shared, pairs } = this;
    const control = this.controls[0];
    if (control === undefined) return;
    const before = pairs.version;
    shared.enterAll();
    try {
      if (shared.ready && !control.work()) this.later();
    } finally {
      shared.leaveAll();
      if (pairs.version !== before) pairs.wakeOthers(this.state[usable]!);
    }
  }

  private goOn(): void {
    if (this.state[started] === 0) return;
    this.command();
    this.begin();
    try {
      for (const pair of this.pairs.all) pair?.goOn();
    } finally {
      this.end();
    }
  }

  private get ownMac(): number {
    const { buffer, byteOffset } = this.config;
    const view = new DataView(buffer, byteOffset);
    return macNumber(view.getUint32(0, true), view.getUint16(4, true));
  }

  private readonly attach = (index: number, attached: boolean) => {
    if (this.shared.attached(index) === attached) return;
    this.shared.setAttached(index, attached);
    const result = this.calls.setAttached(this.spec.taps[index]!, attached);
    if (result < 0) {
      const what = attached ? "attached" : "detached";
      this.host.warn(`queue ${index} of the tap could not be ${what}: ${errnoName(-result)}`);
    }
  };

  /** The tap was deleted: the guest sees the cable pulled. */
  private lost(): void {
    if (!this.shared.lose()) return;
    tellFailure(this.host, "the tap is gone; the link is down");
    this.showLink();
    this.host.configChanged();
  }

  private showLink(): void {
    const { status } = VirtioNetConfig.offsets;
    Atomics.store(this.config, status, 0);
  }
}
