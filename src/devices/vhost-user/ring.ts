/** What a front end has said of one queue, and the descriptors that it gave for it. Nothing here touches memory. */

import { signalEventfd } from "../../ffi/eventfd.ts";
import { close } from "../../ffi/file.ts";
import type { QueueLayout, Virtqueue } from "../virtio/queue.ts";
import { Refusal } from "./errors.ts";
import type { MemoryTable } from "./memory-table.ts";

/** Places of descriptors. */
export const RingFd = { kick: 0, call: 1, error: 2 } as const;
/** Words: entries, the next avail index, and 1 where it is started, and enabled. */
const [size, base, started, enabled] = [0, 1, 2, 3];
/** Doubles: the user addresses of its parts. */
const [descAt, availAt, usedAt] = [0, 1, 2];

export class Ring {
  private readonly words = new Uint32Array(4);
  private readonly addresses = new Float64Array(3);
  private readonly fds = new Int32Array(3).fill(-1);
  /** The queue while the backend works it. */
  private readonly running: Virtqueue[] = [];

  constructor(readonly index: number) {}

  get queue(): Virtqueue | undefined {
    return this.running[0];
  }

  /** The front end wants it worked (vhost-user, "Ring states"). */
  get wanted(): boolean {
    return this.words[started] === 1 && this.words[enabled] === 1;
  }

  get size(): number {
    return this.words[size]!;
  }
  set size(entries: number) {
    this.words[size] = entries;
  }

  /** The next avail index to take. */
  get base(): number {
    return this.queue?.nextAvail ?? this.words[base]!;
  }
  set base(index: number) {
    this.words[base] = index;
  }

  set started(value: boolean) {
    this.words[started] = value ? 1 : 0;
  }
  set enabled(value: boolean) {
    this.words[enabled] = value ? 1 : 0;
  }

  /** User addresses. */
  place(desc: number, avail: number, used: number): void {
    this.addresses.set([desc, avail, used]);
  }
  isAt(desc: number, avail: number, used: number): boolean {
    const { addresses } = this;
    return addresses[descAt] === desc && addresses[availAt] === avail && addresses[usedAt] === used;
  }

  /** The same for a queue, guest-physical. Throws Refusal when it is not in the table. */
  layout(memory: MemoryTable): QueueLayout {
    const [desc, driver, device] = [descAt, availAt, usedAt].map((part) => {
      const address = memory.guestAddress(this.addresses[part]!);
      if (address < 0) throw new Refusal(`queue ${this.index} lies outside of memory`);
      return address;
    });
    return { size: this.size, desc: desc!, driver: driver!, device: device! };
  }

  /** The backend works it from now on. */
  run(queue: Virtqueue): void {
    this.running.push(queue);
  }
  /** The backend does not any more. */
  rest(): void {
    this.words[base] = this.base;
    this.running.pop();
  }

  fd(which: number): number {
    return this.fds[which]!;
  }

  /** Takes over a descriptor in place of the one there was; -1 is none. */
  setFd(which: number, fd: number): void {
    const former = this.fds[which]!;
    this.fds[which] = fd;
    if (former >= 0) close(former);
  }

  /** Writes the eventfd, if there is one. */
  signal(which: number): void {
    const fd = this.fds[which]!;
    if (fd >= 0) signalEventfd(fd);
  }

  /** As it was before the front end came. */
  reset(): void {
    for (const which of Object.values(RingFd)) this.setFd(which, -1);
    this.words.fill(0);
    this.addresses.fill(0);
  }
}
