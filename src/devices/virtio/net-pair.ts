/**
 * A pair of receive and transmit queues, and the queue of a tap that the worker moves their frames from and to. The tap
 * is watched only for what there is to do: frames while there are buffers for them, room while a frame waits for it.
 */
import { Epoll } from "../../ffi/epoll.ts";
import type { BackendHost } from "./backend.ts";
import { ReceiveMemory } from "./net-chains.ts";
import { NetFeature } from "./net-config.ts";
import { NetReceiver, type ReceiveParts } from "./net-receive.ts";
import { NetTransmitter, Pause, type TransmitParts } from "./net-transmit.ts";
import type { Virtqueue } from "./queue.ts";

/** What serves a pair of queues: the worker, or the kernel (net-vhost.ts). */
export interface QueuePair {
  /** The driver is ready. */
  start(queues: PairQueues): void;
  /** Frames move from now on; they do not before. */
  run(): void;
  /** No more frames move, until `run`. */
  rest(): void;
  /** Packets of up to `bytes` are to be expected. */
  expect(bytes: number): void;
  /** The driver has buffers to receive into, or frames to send. Throws GuestFault. */
  receive(): void;
  transmit(): void;
  /** For hosts that poll (see Backend). Throw GuestFault. */
  poll?(): boolean;
  sleep?(): boolean;
  /** The turn that was asked for with `again`. */
  goOn(): void;
  /** The queues are gone: nothing touches guest memory any more. */
  stop(): void;
  close(): void;
}

export interface PairQueues {
  readonly receive: Virtqueue;
  readonly transmit: Virtqueue;
  /** What the driver accepted. */
  readonly features: bigint;
  readonly mergeable: boolean;
  /** The pair goes on where it was when it was stopped. */
  readonly resumed: boolean;
}

export interface PairParts {
  readonly host: BackendHost;
  readonly receive: ReceiveParts;
  readonly transmit: TransmitParts;
  /** Around what is done when the tap is ready: who has other pairs of the device may change what runs in between. */
  begin(): void;
  end(): void;
  /** `goOn` is to be called after what else is ready. */
  again(): void;
  /** A queue is broken: the whole device stands still. */
  halt(): void;
}

/** Epoll's events that the tap is watched for; whether frames move; a frame waits for room; its turn was over. */
const [watched, running, full, more] = [0, 1, 2, 3];

export class TapPair implements QueuePair {
  private readonly state = new Uint32Array(4);
  private readonly memory = new ReceiveMemory();
  private readonly receivers: (NetReceiver | undefined)[] = [undefined];
  private readonly transmitters: (NetTransmitter | undefined)[] = [undefined];

  constructor(
    readonly fd: number,
    readonly parts: PairParts,
  ) {}

  start({ receive, transmit, mergeable, features }: PairQueues): void {
    const { fd, parts, memory } = this;
    const sums = (features & (1n << BigInt(NetFeature.GUEST_CSUM))) !== 0n;
    this.receivers[0] = new NetReceiver(fd, receive, mergeable, sums, parts.receive, memory);
    this.transmitters[0] = new NetTransmitter(fd, transmit, parts.transmit);
  }

  run(): void {
    this.state[running] = 1;
  }

  rest(): void {
    this.state[running] = 0;
    this.state[full] = 0;
    this.state[more] = 0;
    this.receivers[0]?.stop();
    this.transmitters[0]?.stop();
    this.watch();
  }

  expect(bytes: number): void {
    this.receivers[0]?.expect(bytes);
  }

  receive(): void {
    if (this.state[running] === 0) return;
    this.receivers[0]?.work();
    this.watch();
  }

  transmit(): void {
    const { state } = this;
    if (state[running] === 0) return;
    const pause = this.transmitters[0]?.work() ?? Pause.idle;
    state[full] = pause === Pause.full ? 1 : 0;
    state[more] = pause === Pause.turn ? 1 : 0;
    if (state[more] === 1) this.parts.again();
    this.watch();
  }

  poll(): boolean {
    const { state } = this;
    if (state[running] === 0) return false;
    const sends = state[more] === 1 || this.transmitters[0]?.pending === true;
    if (sends) this.transmit();
    const receiver = this.receivers[0];
    if (receiver === undefined || !receiver.pending) return sends;
    const received = receiver.work();
    this.watch();
    return received || sends;
  }

  sleep(): boolean {
    const { state } = this;
    if (state[running] === 0) return true;
    const sends = state[more] === 1 || this.transmitters[0]?.sleep() === false;
    return !sends && this.receivers[0]?.sleep() !== false;
  }

  goOn(): void {
    if (this.state[more] === 1) this.transmit();
  }

  stop(): void {
    this.rest();
    this.receivers[0] = undefined;
    this.transmitters[0] = undefined;
  }

  close(): void {
    this.stop();
  }

  private watch(): void {
    const { state, parts, fd } = this;
    const listening = state[running] === 1 && this.receivers[0]?.listening === true;
    const wanted = (listening ? Epoll.in : 0) | (state[full] === 1 ? Epoll.out : 0);
    if (wanted === state[watched]) return;
    if (state[watched] !== 0) parts.host.unwatch(fd);
    state[watched] = wanted;
    if (wanted !== 0) parts.host.watch(fd, wanted, this.ready);
  }

  /** An error (the tap is gone) shows when it is used. */
  private readonly ready = (events: number) => {
    const { state, parts } = this;
    parts.begin();
    try {
      const reads = (events & ~Epoll.out) !== 0 && (state[watched]! & Epoll.in) !== 0;
      // who polls looks now that it is awake
      if (reads && parts.host.polls !== true) this.receive();
      if ((events & ~Epoll.in) !== 0 && (state[watched]! & Epoll.out) !== 0) this.transmit();
    } catch (error) {
      parts.halt();
      throw error;
    } finally {
      parts.end();
    }
  };
}
