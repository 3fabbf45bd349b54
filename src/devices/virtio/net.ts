/**
 * The network device's backend (virtio 1.2 section 5.1): pairs of queues between a tap and the guest, the control
 * queue, and what its commands change.
 */
import { armTimerfd, createTimerfd, Epoll } from "../../ffi/epoll.ts";
import { drainEventfd } from "../../ffi/eventfd.ts";
import { close } from "../../ffi/file.ts";
import { ioctl } from "../../ffi/ioctl.ts";
import { errnoName } from "../../ffi/libc.ts";
import { type TapCalls, tapCalls } from "../../ffi/tap.ts";
import { type VhostCall, VhostNet } from "../../ffi/vhost.ts";
import { type Backend, type BackendHost, tellFailure } from "./backend.ts";
import { macBytes, NetCounters, NetFeature, type NetSpec, VirtioNetConfig } from "./net-config.ts";
import { type ControlTarget, NetControlQueue } from "./net-control.ts";
import { macNumber, NetFilter } from "./net-filter.ts";
import { guestOffloads, longestPacket, tapOffloads } from "./net-offloads.ts";
import { type PairParts, type QueuePair, TapPair } from "./net-pair.ts";
import { discardFrames, type ReceiveParts } from "./net-receive.ts";
import type { TransmitParts } from "./net-transmit.ts";
import { VhostPair } from "./net-vhost.ts";
import type { Virtqueue } from "./queue.ts";
import { RateLimiter } from "./rate-limiter.ts";

/** Receive and transmit queues go by turns; the control queue comes after the last pair that can be used. */
const transmitQueue = 1;
/** Pairs that have queues, pairs in use; the link is gone; whether the driver is ready; low feature bits accepted. */
const [usable, inUse, gone, started, accepted] = [0, 1, 2, 3, 4];
/** Offloads of what the guest receives, as feature bits. */
const offloads = 5;

/** What is called of the kernel, for those who listen. */
export interface NetCalls extends TapCalls {
  /** ioctl(2) on vhost-net. */
  readonly vhost: VhostCall;
}
const netCalls: NetCalls = { ...tapCalls, vhost: ioctl };

export class NetBackend implements Backend, ControlTarget, PairParts {
  readonly filter = new NetFilter();
  readonly receive: ReceiveParts;
  readonly transmit: TransmitParts;
  readonly pairs: readonly QueuePair[];
  private readonly controls: (NetControlQueue | undefined)[] = [undefined];
  private readonly state = new Uint32Array(6);
  /** The MAC that the driver has set, over a pause. */
  private readonly chosenMac = new Uint8Array(macBytes);
  /** By pair: the driver has enabled its queues (1). One more, which it never has. */
  private readonly present: Uint8Array;
  /** By pair: the kernel steers frames to its queue of the tap (1). */
  private readonly attached: Uint8Array;
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
  ) {
    const lost = () => this.lost();
    const limiter = (limit: NetSpec["receiveLimit"], resume: (pair: QueuePair) => void) =>
      new RateLimiter(limit, host, () => this.guarded(() => this.pairs.forEach(resume)));
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
    this.present = new Uint8Array(spec.taps.length + 1);
    this.attached = new Uint8Array(spec.taps.length).fill(1);
    this.pairs = spec.taps.map((tap, index) => {
      const vhost = spec.vhosts[index];
      if (vhost === undefined) return new TapPair(tap, this);
      const kicks = kickFds.slice(index * 2, index * 2 + 2);
      const kernel = new VhostNet(vhost, calls.vhost);
      return new VhostPair(kernel, tap, host, index * 2, kicks, () => this.halt());
    });
    this.filter.reset(this.ownMac);
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
    const { state } = this;
    const low = Number(features & 0xffff_ffffn);
    const has = (bit: number) => (low & (1 << bit)) !== 0;
    state[accepted] = low;
    state[started] = 1;
    state[usable] = has(NetFeature.MQ) ? this.pairs.length : 1;
    if (resumed) {
      this.setMac(this.chosenMac);
    } else {
      // behind a vhost-user socket the front end has the control queue, and gives what is to be used
      state[inUse] = has(NetFeature.CTRL_VQ) ? 1 : state[usable]!;
      state[offloads] = low & guestOffloads;
      this.filter.reset(this.ownMac);
    }
    if (state[gone] === 1) this.showLink();
    const control = has(NetFeature.CTRL_VQ) ? queues[2 * state[usable]!] : undefined;
    this.controls[0] = control && new NetControlQueue(control, low, this);
    this.present.fill(0);
    for (let index = 0; index < state[usable]!; index++) {
      const [receive, transmit] = [queues[2 * index], queues[2 * index + transmitQueue]];
      if (!receive || !transmit) continue;
      this.present[index] = 1;
      const mergeable = has(NetFeature.MRG_RXBUF);
      this.pairs[index]!.start({ receive, transmit, features, mergeable, resumed });
    }
    for (let index = 1; index < this.pairs.length; index++) {
      this.attach(index, index < state[inUse]! && this.present[index] === 1);
    }
    if (!this.setOffloads(state[offloads]!)) {
      this.host.warn("the tap takes no offloads; the guest receives without them");
    }
    for (let index = 0; index < state[inUse]!; index++) {
      if (this.present[index] === 0) continue;
      if (!resumed) discardFrames(this.spec.taps[index]!, this.calls.readFrame);
      this.pairs[index]!.run();
    }
  }

  kicked(index: number): void {
    const { state, pairs } = this;
    if (state[started] === 0) return;
    try {
      if (index === 2 * state[usable]!) this.command();
      else if (index % 2 === transmitQueue) pairs[(index - 1) / 2]?.transmit();
      else pairs[index / 2]?.receive();
    } catch (error) {
      this.halt();
      throw error;
    }
  }

  poll(): boolean {
    const { state, pairs } = this;
    if (state[started] === 0) return false;
    let found = false;
    try {
      for (let index = 0; index < pairs.length; index++) {
        if (pairs[index]!.poll?.() === true) found = true;
      }
    } catch (error) {
      this.halt();
      throw error;
    }
    return found;
  }

  sleep(): boolean {
    const { state, pairs } = this;
    if (state[started] === 0) return true;
    try {
      for (let index = 0; index < pairs.length; index++) {
        if (pairs[index]!.sleep?.() === false) return false;
      }
    } catch (error) {
      this.halt();
      throw error;
    }
    return true;
  }

  /**
   * Frames move by single system calls: none is ever in flight when nobody works. The driver may have reset the device,
   * and then reads configuration space before it is ready again; or the machine pauses, and all is to be as it was.
   */
  stop(): boolean {
    this.state[started] = 0;
    this.controls[0] = undefined;
    for (const pair of this.pairs) pair.stop();
    this.receive.limiter.cancel();
    this.transmit.limiter.cancel();
    this.chosenMac.set(this.config.subarray(0, macBytes));
    this.setMac(Uint8Array.from(this.spec.mac));
    return true;
  }

  close(): void {
    for (const pair of this.pairs) pair.close();
    this.receive.limiter.close();
    this.transmit.limiter.close();
    this.host.unwatch(this.timer);
    close(this.timer);
  }

  setMac(mac: Uint8Array): void {
    for (let i = 0; i < mac.length; i++) Atomics.store(this.config, i, mac[i]!);
    this.filter.mac = this.ownMac;
  }

  setPairs(count: number): boolean {
    const { state } = this;
    if (count > state[usable]! || this.present.indexOf(0) < count) return false;
    for (let index = state[inUse]!; index < count; index++) {
      this.attach(index, true);
      this.pairs[index]!.run();
    }
    for (let index = count; index < state[inUse]!; index++) {
      this.pairs[index]!.rest();
      this.attach(index, false);
    }
    const before = state[inUse]!;
    state[inUse] = count;
    // what the driver did there so far went unheard
    for (let index = before; index < count; index++) {
      this.pairs[index]!.receive();
      this.pairs[index]!.transmit();
    }
    return true;
  }

  setOffloads(bits: number): boolean {
    const { state, calls, spec } = this;
    if ((bits & ~(state[accepted]! & guestOffloads)) !== 0) return false;
    const longest = longestPacket(bits, spec.mtu);
    for (const pair of this.pairs) pair.expect(longest);
    if (calls.setOffload(spec.taps[0]!, tapOffloads(bits)) !== 0) return false;
    state[offloads] = bits;
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
    for (const pair of this.pairs) pair.rest();
  }

  private guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.halt();
      throw error;
    }
  }

  private command(): void {
    if (this.controls[0]?.work() === false) this.later();
  }

  private goOn(): void {
    if (this.state[started] === 0) return;
    this.command();
    for (const pair of this.pairs) pair.goOn();
  }

  private get ownMac(): number {
    const { buffer, byteOffset } = this.config;
    const view = new DataView(buffer, byteOffset);
    return macNumber(view.getUint32(0, true), view.getUint16(4, true));
  }

  private attach(index: number, attached: boolean): void {
    if ((this.attached[index] === 1) === attached) return;
    this.attached[index] = attached ? 1 : 0;
    const result = this.calls.setAttached(this.spec.taps[index]!, attached);
    if (result < 0) {
      const what = attached ? "attached" : "detached";
      this.host.warn(`queue ${index} of the tap could not be ${what}: ${errnoName(-result)}`);
    }
  }

  /** The tap was deleted: the guest sees the cable pulled. */
  private lost(): void {
    if (this.state[gone] === 1) return;
    this.state[gone] = 1;
    tellFailure(this.host, "the tap is gone; the link is down");
    this.showLink();
    this.host.configChanged();
  }

  private showLink(): void {
    const { status } = VirtioNetConfig.offsets;
    Atomics.store(this.config, status, 0);
  }
}
