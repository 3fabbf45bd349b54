/**
 * The console device's backend (virtio 1.2 section 5.3): one port, which is a console, or several with names. Each has
 * a far end, which moves its bytes; here is what the driver and the device say to each other about them.
 */
import type { CharacterDevice, FarEnd } from "../../bus/character.ts";
import { monotonicNs } from "../../ffi/clock.ts";
import { armTimerfd, createTimerfd, Epoll } from "../../ffi/epoll.ts";
import { drainEventfd } from "../../ffi/eventfd.ts";
import { close } from "../../ffi/file.ts";
import type { Backend, BackendHost } from "./backend.ts";
import {
  ConsoleCounters,
  type ConsoleDeviceSpec,
  ConsoleFeature,
  controlReceiveQueue,
  controlTransmitQueue,
  portOfQueue,
  receiveQueueOf,
  VirtioConsoleConfig,
} from "./console-config.ts";
import { ConsoleControl, type ConsolePorts } from "./console-control.ts";
import { ConsoleInput, ConsoleOutput } from "./console-queues.ts";
import { GuestFault } from "./guest-fault.ts";
import type { Virtqueue } from "./queue.ts";

const { offsets: configAt } = VirtioConsoleConfig;
/**
 * Words: the terminal's size, rows in the upper half; what the driver accepted; how often it was told the size, and
 * whether it is to be told again; whether the backend stands still.
 */
const [size, sizeAccepted, multiport, tells, telling, standing] = [0, 1, 2, 3, 4, 5];
/**
 * Linux reads the size only when it is told of a change, and forgets one that it hears of before its driver has made
 * the port. So the same size is told anew, after output, when so much time has passed; the pause doubles each time.
 */
const tellAgainNs = 100e6;
const mostTells = 8;

/** Opens the far end of a port. */
export type OpenEnd = (port: number, device: CharacterDevice) => FarEnd;

/** A port: its queues, and what its far end tells of it. */
class Port implements CharacterDevice {
  readonly output: ConsoleOutput;
  readonly input: ConsoleInput;
  readonly end: FarEnd;

  constructor(
    readonly number: number,
    readonly backend: ConsoleBackend,
    openEnd: OpenEnd,
  ) {
    this.output = new ConsoleOutput(backend.counters);
    this.input = new ConsoleInput(backend.counters);
    this.end = openEnd(number, this);
  }

  inputArrived(): void {
    this.input.deliver();
  }
  transmitterReady(): void {
    this.output.flush();
  }
  presenceChanged(): void {
    this.backend.control.presenceChanged(this.number);
  }
  resized(columns: number, rows: number): void {
    this.backend.resized(this.number, columns, rows);
  }
}

export class ConsoleBackend implements Backend, ConsolePorts {
  readonly control: ConsoleControl;
  private readonly ports: readonly Port[];
  private readonly state = new Uint32Array(6);
  /** By port: 1 where the driver's buffers still hold output. */
  private readonly left: Uint8Array;
  /** Goes off when the size is to be told again, or control messages are left. */
  private readonly timer = createTimerfd();

  /** `config` is configuration space in shared memory, `counters` where to count (see ConsoleCounters). */
  constructor(
    readonly spec: ConsoleDeviceSpec,
    readonly host: BackendHost,
    readonly config: Uint8Array,
    readonly counters: Float64Array = new Float64Array(ConsoleCounters.length),
    openEnd: OpenEnd,
  ) {
    const { ports, terminal } = spec;
    this.state[size] = terminal ? wordOf(terminal.columns, terminal.rows) : 0;
    this.control = new ConsoleControl(ports, this);
    const count = Math.max(ports.length, 1);
    this.left = new Uint8Array(count);
    this.ports = Array.from({ length: count }, (_, number) => new Port(number, this, openEnd));
    host.watch(this.timer, Epoll.in, () => this.timedOut());
  }

  start(
    queues: readonly (Virtqueue | undefined)[],
    features: bigint,
    resumed: boolean = false,
  ): void {
    const { state } = this;
    const has = (bit: number) => ((features >> BigInt(bit)) & 1n) === 1n;
    const several = has(ConsoleFeature.MULTIPORT);
    if (!resumed) this.forget(several);
    for (const { number, input, output } of this.ports) {
      const queue = receiveQueueOf(number);
      const there = number === 0 || several;
      input.start(there ? queues[queue] : undefined);
      output.start(there ? queues[queue + 1] : undefined, resumed);
    }
    this.left.fill(0);
    if (several) this.control.start(queues[controlReceiveQueue], queues[controlTransmitQueue]);
    state[multiport] = several ? 1 : 0;
    state[sizeAccepted] = has(ConsoleFeature.SIZE) ? 1 : 0;
    state[telling] = 0;
    state[standing] = 0;
    this.writeSize();
    if (this.tellsByConfig) this.host.configChanged();
  }

  kicked(index: number): void {
    const number = portOfQueue(index);
    if (number < 0) {
      this.workControl();
      return;
    }
    if (number === 0) this.tellSizeAgain();
    const port = this.ports[number];
    if (index === receiveQueueOf(number)) port?.end.pump();
    else port?.end.arrived();
  }

  /** What an earlier driver said and heard is nothing to the next. */
  private forget(several: boolean): void {
    for (const { input } of this.ports) input.isOpen = !several;
    this.control.forget();
    this.state[tells] = 0;
    this.tellLost();
  }

  /** Output that was left in buffers is not to be had any more. */
  private tellLost(): void {
    for (const { number, end } of this.ports) if (this.left[number] === 1) end.outputLost();
    this.left.fill(0);
  }

  /** What the driver has put out is taken from it; nothing is in flight. */
  stop(): boolean {
    for (const { number, end, input, output } of this.ports) {
      try {
        if (end.keepOutput()) this.left[number] = 1;
      } catch (error) {
        if (!(error instanceof GuestFault)) throw error;
      }
      input.stop();
      output.stop();
    }
    this.control.stop();
    this.state[standing] = 1;
    armTimerfd(this.timer, 0);
    return true;
  }

  farewell(): boolean {
    this.tellLost();
    for (const { end } of this.ports) end.pump();
    return this.ports.some(({ end }) => end.busy);
  }

  close(): void {
    for (const { end } of this.ports) end.close();
    this.host.unwatch(this.timer);
    close(this.timer);
  }

  isPresent(port: number): boolean {
    return this.ports[port]!.end.present;
  }

  sizeOf(port: number): number {
    const told = this.state[sizeAccepted] === 1 && this.spec.terminal?.port === port;
    return told ? this.state[size]! : -1;
  }

  guestOpened(port: number, open: boolean): void {
    const { input, end } = this.ports[port]!;
    input.isOpen = open;
    if (open) end.pump();
  }

  /** Throws GuestFault. */
  resized(port: number, columns: number, rows: number): void {
    this.state[size] = wordOf(columns, rows);
    this.writeSize();
    if (this.state[sizeAccepted] === 0) return;
    if (this.tellsByConfig && this.state[standing] === 1) return; // it is told at the start
    if (this.tellsByConfig) this.host.configChanged();
    else this.control.resized(port);
  }

  /** The size is told by a change of configuration, not by a control message (section 5.3.5). */
  private get tellsByConfig(): boolean {
    return this.state[sizeAccepted] === 1 && this.state[multiport] === 0;
  }

  private writeSize(): void {
    if (!this.spec.terminal) return;
    const word = this.state[size]!;
    for (let i = 0; i < 2; i++) {
      this.config[configAt.cols + i] = (word >>> (8 * i)) & 0xff;
      this.config[configAt.rows + i] = (word >>> (16 + 8 * i)) & 0xff;
    }
  }

  private tellSizeAgain(): void {
    const { state } = this;
    if (!this.tellsByConfig || state[telling] === 1 || state[tells] === mostTells) return;
    state[telling] = 1;
    armTimerfd(this.timer, monotonicNs() + tellAgainNs * 2 ** state[tells]!);
  }

  private timedOut(): void {
    drainEventfd(this.timer);
    const { state } = this;
    if (state[telling] === 1) {
      state[telling] = 0;
      state[tells]!++;
      if (this.tellsByConfig) this.host.configChanged();
    } else {
      this.workControl();
    }
  }

  private workControl(): void {
    if (this.control.work()) armTimerfd(this.timer, 1); // a moment that has passed: after what else is ready
  }
}

const wordOf = (columns: number, rows: number): number => rows * 65536 + columns;
