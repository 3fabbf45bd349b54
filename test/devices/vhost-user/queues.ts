/** Queues of a test's front end, and the devices behind it. */
import { closeSync } from "node:fs";
import type { DeviceModel } from "../../../src/devices/vhost-user/device.ts";
import type { Backend, BackendHost } from "../../../src/devices/virtio/backend.ts";
import type { Virtqueue } from "../../../src/devices/virtio/queue.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../../../src/ffi/eventfd.ts";
import { Driver } from "../virtio/driver.ts";
import { type FrontEnd, Message, number, numbers, type SharedRam, state } from "./front-end.ts";

/** VIRTIO_F_VERSION_1, VIRTIO_RING_F_INDIRECT_DESC. */
export const VERSION_1 = 1n << 32n;
export const INDIRECT = 1n << 28n;

export const model: DeviceModel = {
  features: VERSION_1 | INDIRECT | 1n,
  queues: 3,
  queueCount: 3,
  config: Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]),
  writable: Uint8Array.from([0, 0, 0, 0, 1, 0, 0, 0]),
  tracksInFlight: true,
};

/** A backend that takes chains and keeps them, until the test says that they have ended. */
export class Holding implements Backend {
  readonly log: string[] = [];
  readonly queues: (Virtqueue | undefined)[] = [];
  readonly taken: number[][] = [];
  readonly #waiting = new Map<number, () => void>();
  #stopped: (() => void) | undefined;

  constructor(readonly host: BackendHost) {}

  start(queues: readonly (Virtqueue | undefined)[], features: bigint): void {
    const there = [...queues.keys()].filter((index) => queues[index]);
    this.log.push(`start ${there} 0x${features.toString(16)}`);
    this.queues.splice(0, this.queues.length, ...queues);
    for (const index of queues.keys()) this.taken[index] = [];
  }

  startQueue(index: number, queue: Virtqueue): void {
    this.log.push(`start queue ${index}`);
    this.queues[index] = queue;
    this.taken[index] = [];
  }

  stopQueue(index: number, quiet: () => void): boolean {
    this.log.push(`stop queue ${index}`);
    if (this.taken[index]!.length > 0) {
      this.#waiting.set(index, quiet);
      return false;
    }
    this.queues[index] = undefined;
    return true;
  }

  kicked(index: number): void {
    const queue = this.queues[index];
    if (!queue || this.#waiting.has(index)) return;
    for (let head = queue.next(); head >= 0; head = queue.next()) this.taken[index]!.push(head);
    queue.armKick();
  }

  stop(quiet: () => void): boolean {
    this.log.push("stop");
    this.#waiting.clear();
    this.#stopped = quiet;
    return this.#rests();
  }

  close(): void {
    this.log.push("close");
  }

  /** Some chains of a queue have ended, in this order. */
  finishSome(index: number, heads: readonly number[]): void {
    const left = this.taken[index]!.filter((head) => !heads.includes(head));
    this.taken[index]!.splice(0, this.taken[index]!.length, ...left);
    for (const head of heads) this.queues[index]!.complete(head, 0);
    this.queues[index]!.flush();
  }

  /** All chains of a queue have ended. */
  finish(index: number): void {
    const queue = this.queues[index]!;
    for (const head of this.taken[index]!.splice(0)) queue.complete(head, 0);
    queue.flush();
    const quiet = this.#waiting.get(index);
    this.#waiting.delete(index);
    if (quiet) {
      this.queues[index] = undefined;
      quiet();
    }
    if (this.#stopped && this.#rests()) this.#stopped();
  }

  /** The test is over: nothing is kept. */
  [Symbol.dispose](): void {
    for (const index of this.queues.keys()) if (this.queues[index]) this.finish(index);
  }

  #rests(): boolean {
    if (this.taken.some((heads) => heads.length > 0)) return false;
    this.queues.fill(undefined);
    return true;
  }
}

/** A driver's queue and the descriptors that go with it. */
export class TestQueue {
  readonly driver: Driver;
  readonly kick = createEventfd();
  readonly call = createEventfd();
  readonly error = createEventfd();

  constructor(
    readonly front: FrontEnd,
    readonly ram: SharedRam,
    readonly index: number,
    readonly size = 16,
    at = 0x1000 + index * 0x1000,
    driver?: Driver,
  ) {
    this.driver = driver ?? new Driver(ram, size, ram.guest + at);
  }

  /** Size, base, addresses and call: all but what starts it. */
  describe(base = 0): this {
    const { front, index, driver, ram } = this;
    const { desc, driver: avail, device: used } = driver.layout;
    const [d, u, a] = [desc, used, avail].map((address) => ram.userAddress(address));
    const results = [
      front.tell(Message.SET_VRING_NUM, state(index, this.size)),
      front.tell(Message.SET_VRING_BASE, state(index, base)),
      front.tell(Message.SET_VRING_ADDR, numbers(index, d!, u!, a!, 0)),
      front.tell(Message.SET_VRING_CALL, number(index), [this.call]),
      front.tell(Message.SET_VRING_ERR, number(index), [this.error]),
    ];
    if (results.some((result) => result !== 0)) throw new Error(`test: refused: ${results}`);
    return this;
  }

  /** Describes it and lets it run. */
  start(base = 0): this {
    const { front, index } = this.describe(base);
    const kicked = front.tell(Message.SET_VRING_KICK, number(index), [this.kick]);
    const enabled = front.tell(Message.SET_VRING_ENABLE, state(index, 1));
    if (kicked !== 0 || enabled !== 0) throw new Error("test: it is not started");
    return this;
  }

  /** GET_VRING_BASE: the next avail index. */
  stop(): number {
    return this.front.ask(Message.GET_VRING_BASE, state(this.index, 0)).payload.getUint32(4, true);
  }

  /** Offers one buffer that the device may write, and kicks. */
  offer(): number {
    const head = this.driver.offer([{ address: this.ram.guest, length: 8, write: true }]);
    signalEventfd(this.kick);
    return head;
  }

  /** The device has called since the last time. */
  get called(): boolean {
    return drainEventfd(this.call);
  }
  get failed(): boolean {
    return drainEventfd(this.error);
  }

  [Symbol.dispose](): void {
    for (const fd of [this.kick, this.call, this.error]) closeSync(fd);
  }
}
