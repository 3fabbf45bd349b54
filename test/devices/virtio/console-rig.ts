/** A console device of a test: the backend with real far ends, and a driver's half for each queue. */
import { EventRing, type MachineEvent } from "../../../src/bus/event-ring.ts";
import { ConsoleBackend } from "../../../src/devices/virtio/console.ts";
import {
  type ConsoleDeviceSpec,
  consoleConfig,
  consoleQueueSizes,
} from "../../../src/devices/virtio/console-config.ts";
import { GuestWindows } from "../../../src/devices/virtio/guest-windows.ts";
import { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { ConsolePort } from "../../../src/machine/console/port.ts";
import type { FarEndSpec } from "../../../src/machine/console/spec.ts";
import { TestClock } from "../../machine/console/far-end.ts";
import { type Buffer, Driver } from "./driver.ts";
import { FakeRam } from "./fake-ram.ts";
import { TestWorker } from "./worker.ts";

/** VIRTIO_CONSOLE_F_SIZE and _MULTIPORT (virtio 1.2 section 5.3.3). */
export const [SIZE, MULTIPORT] = [1n, 2n];
const none = { outFd: -1, inFd: -1, listenFd: -1, escapeKeys: false, outBlocks: false };
const buffersAt = 0x10_0000;
const ramBytes = 0x80_0000;

/** A control message (virtio 1.2 section 5.3.6.2) and what follows it. */
export type Message = readonly [id: number, event: number, value: number, extra?: string];

export class ConsoleRig {
  readonly ram = new FakeRam([{ start: 0, length: ramBytes }]);
  readonly worker = new TestWorker();
  readonly clock = new TestClock();
  readonly config: Uint8Array;
  readonly counters = new Float64Array(4);
  readonly backend: ConsoleBackend;
  readonly spec: ConsoleDeviceSpec;
  readonly #ring = new EventRing(new SharedArrayBuffer(EventRing.byteLength), 0);
  readonly events: MachineEvent[] = [];
  drivers: Driver[] = [];
  /** How often the driver was called, by queue. */
  calls: number[] = [];
  #next = buffersAt;
  #windows = this.ram.windows;
  #queues: Virtqueue[] = [];

  constructor(
    ends: readonly (Partial<FarEndSpec> & { readonly gathers?: boolean })[],
    readonly features = 0n,
    spec: Partial<ConsoleDeviceSpec> = {},
  ) {
    this.spec = { ports: [], ...spec };
    this.config = consoleConfig(this.spec);
    const open = (port: number, side: ConstructorParameters<typeof ConsolePort>[1]) => {
      const end = { name: `end${port}`, mode: "null", ...none, ...ends[port] } as const;
      return new ConsolePort(end, side, this.worker, this.#ring, this.clock, ends[port]?.gathers);
    };
    this.backend = new ConsoleBackend(this.spec, this.worker, this.config, this.counters, open);
    this.start();
  }

  start(features = this.features): void {
    const sizes = consoleQueueSizes(this.spec);
    this.calls = sizes.map(() => 0);
    this.drivers = sizes.map((size, i) => new Driver(this.ram, size, 0x1000 + i * 0x1000));
    this.#begin(features, false);
  }

  /** After `backend.stop`: a pause is over, and the driver is as it was. */
  resume(): void {
    this.#begin(this.features, true);
  }

  #begin(features: bigint, resumed: boolean): void {
    this.#queues = this.drivers.map((driver, i) => {
      const nextAvail = resumed ? this.#queues[i]!.nextUsed : 0;
      const call = () => this.calls[i]!++;
      const options = { indirect: true, eventIndex: false, call, nextAvail };
      return new Virtqueue(this.#windows, driver.layout, options);
    });
    this.backend.start(this.#queues, features, resumed);
    for (const i of this.#queues.keys()) this.backend.kicked(i);
  }

  /** Starts anew with a page of persistent memory at a guest address. */
  usePersistent(start: number): void {
    const page = new FakeRam([{ start, length: 4096 }]);
    this.#windows = new GuestWindows(this.ram.regions, page.regions);
    this.backend.stop();
    this.start();
  }

  /** The port's receive queue (virtio 1.2 section 5.3.2); the transmit queue is the next. */
  queueOf(port: number): number {
    return port === 0 ? 0 : 4 + 2 * (port - 1);
  }

  /** Puts bytes out by a port, in segments of so many bytes, without a kick; the chain's head. */
  offer(bytes: string | Uint8Array, port = 0, cuts: readonly number[] = []): number {
    const data = typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes;
    const address = this.#place(data.length);
    this.ram.bytes(address, data.length).set(data);
    const buffers: Buffer[] = [];
    let at = 0;
    for (const cut of [...cuts, data.length]) {
      const length = Math.min(cut, data.length - at);
      if (length > 0) buffers.push({ address: address + at, length });
      at += length;
    }
    return this.drivers[this.queueOf(port) + 1]!.offer(buffers);
  }

  /** The same, with a kick. */
  say(bytes: string | Uint8Array, port = 0, cuts: readonly number[] = []): number {
    const head = this.offer(bytes, port, cuts);
    this.backend.kicked(this.queueOf(port) + 1);
    return head;
  }

  /** How many chains of output have been given back since the last time. */
  said(port = 0): number {
    return this.drivers[this.queueOf(port) + 1]!.collect().length;
  }

  readonly #rooms = new Map<string, number>();

  /** Offers a buffer for input, or for control messages. */
  room(length: number, queue = 0): void {
    const address = this.#place(length);
    this.ram.bytes(address, length).fill(0xee);
    const head = this.drivers[queue]!.offer([{ address, length, write: true }]);
    this.#rooms.set(`${queue}/${head}`, address);
    this.backend.kicked(queue);
  }

  /** The bytes of each buffer that came back since the last time. */
  arrived(queue = 0): string[] {
    return this.drivers[queue]!.collect().map(({ head, written }) => {
      const address = this.#rooms.get(`${queue}/${head}`)!;
      return Buffer.from(this.ram.bytes(address, written)).toString("latin1");
    });
  }

  /** Sends the device a control message. */
  control(id: number, event: number, value: number): void {
    const view = new DataView(new ArrayBuffer(8));
    view.setUint32(0, id, true);
    view.setUint16(4, event, true);
    view.setUint16(6, value, true);
    const address = this.#place(8);
    this.ram.bytes(address, 8).set(new Uint8Array(view.buffer));
    this.drivers[3]!.offer([{ address, length: 8 }]);
    this.backend.kicked(3);
    this.drivers[3]!.collect();
  }

  /** What the device has said by control messages since the last time. */
  messages(): Message[] {
    return this.arrived(2).map((text) => {
      const view = new DataView(Uint8Array.from(text, (byte) => byte.charCodeAt(0)).buffer);
      const words = [view.getUint32(0, true), view.getUint16(4, true), view.getUint16(6, true)];
      const [id, event, value] = words as [number, number, number];
      return text.length > 8 ? [id, event, value, text.slice(8)] : [id, event, value];
    });
  }

  /** Rounds of the worker until nothing is ready, timers of 10 ms among it when `waitMs` is given. */
  settle(waitMs = 0): void {
    this.worker.pump(waitMs);
    this.worker.settle();
    for (let event = this.#ring.take(); event; event = this.#ring.take()) this.events.push(event);
  }

  get texts(): string[] {
    this.settle();
    return this.events.map(({ text }) => text);
  }

  close(): void {
    this.backend.stop();
    this.backend.close();
    this.worker.close();
  }

  /** Room for a buffer, a gap behind it. */
  #place(length: number): number {
    if (this.#next + length > ramBytes) this.#next = buffersAt;
    const address = this.#next;
    this.#next += Math.ceil((length + 16) / 16) * 16;
    return address;
  }
}
