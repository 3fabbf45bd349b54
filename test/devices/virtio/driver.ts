/**
 * The driver's half of a split virtqueue, written from virtio 1.2 section 2.7 alone: it shares no code and no layout with
 * the device's half. Ring memory is guest RAM of a test.
 */
import type { FakeRam } from "./fake-ram.ts";

/** One descriptor: a buffer, and whether the device may write it. */
export interface Buffer {
  readonly address: number;
  readonly length: number;
  readonly write?: boolean;
}

/** What one descriptor says, field by field, right or wrong. */
export interface RawDescriptor {
  readonly address: number | bigint;
  readonly length: number;
  readonly flags: number;
  readonly next: number;
}

const [NEXT, WRITE, INDIRECT] = [1, 2, 4];

export class Driver {
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  #availIndex: number;
  #usedIndex: number;
  #free: number[];
  /** The descriptors of each chain in flight, by head. */
  readonly #chains = new Map<number, number[]>();

  /** Rings from `base` on, which is a multiple of 16; indexes begin at `start`. */
  constructor(
    readonly ram: Pick<FakeRam, "view">,
    readonly size: number,
    readonly base = 0x1000,
    start = 0,
  ) {
    // 16 bytes a descriptor; flags, idx, entries of 2 bytes and used_event; the used ring is aligned to 4
    this.desc = base;
    this.avail = base + 16 * size;
    this.used = this.avail + 2 + 2 + 2 * size + 2;
    if (this.used % 4 !== 0) this.used += 4 - (this.used % 4);
    this.#free = Array.from({ length: size }, (_, i) => i);
    this.#availIndex = start;
    this.#usedIndex = start;
    this.availIndex = start;
    this.#u16(this.used + 2, start);
  }

  /** The first byte behind the rings. */
  get end(): number {
    return this.used + 4 + 8 * this.size + 2;
  }

  get layout() {
    return { size: this.size, desc: this.desc, driver: this.avail, device: this.used };
  }

  /** Offers a chain; its head comes back. With `table`, its descriptors lie in an indirect table there. */
  offer(buffers: readonly Buffer[], table?: number): number {
    const count = table === undefined ? buffers.length : 1;
    const slots = this.#free.splice(0, count);
    if (slots.length < count) throw new Error("test: no free descriptors");
    if (table === undefined) {
      this.#link(
        buffers,
        (i) => this.desc + 16 * slots[i]!,
        (i) => slots[i]!,
      );
    } else {
      this.#link(
        buffers,
        (i) => table + 16 * i,
        (i) => i,
      );
      const length = 16 * buffers.length;
      this.describe(slots[0]!, { address: table, length, flags: INDIRECT, next: 0 });
    }
    this.#chains.set(slots[0]!, slots);
    this.publish(slots[0]!);
    return slots[0]!;
  }

  /** Writes descriptor `index` of the table, right or wrong. */
  describe(index: number, descriptor: RawDescriptor): void {
    this.write(this.desc + 16 * index, descriptor);
  }

  write(at: number, { address, length, flags, next }: RawDescriptor): void {
    const view = this.ram.view(at, 16);
    view.setBigUint64(0, BigInt(address), true);
    view.setUint32(8, length, true);
    view.setUint16(12, flags, true);
    view.setUint16(14, next, true);
  }

  /** Puts a head into the avail ring. */
  publish(head: number): void {
    this.#u16(this.avail + 4 + 2 * (this.#availIndex % this.size), head);
    this.availIndex = this.#availIndex + 1;
  }

  set availIndex(index: number) {
    this.#availIndex = index % 65536;
    this.#u16(this.avail + 2, this.#availIndex);
  }
  get availIndex(): number {
    return this.#availIndex;
  }

  /** VIRTQ_AVAIL_F_NO_INTERRUPT. */
  set noInterrupt(value: boolean) {
    this.#u16(this.avail, value ? 1 : 0);
  }
  set usedEvent(index: number) {
    this.#u16(this.avail + 4 + 2 * this.size, index % 65536);
  }

  /** VIRTQ_USED_F_NO_NOTIFY. */
  get noNotify(): boolean {
    return this.ram.view(this.used, 2).getUint16(0, true) === 1;
  }
  get availEvent(): number {
    return this.ram.view(this.used + 4 + 8 * this.size, 2).getUint16(0, true);
  }
  get usedIndex(): number {
    return this.ram.view(this.used + 2, 2).getUint16(0, true);
  }

  /** Takes what the device has given back since the last time. */
  collect(): { head: number; written: number }[] {
    const elements = [];
    while (this.#usedIndex !== this.usedIndex) {
      const view = this.ram.view(this.used + 4 + 8 * (this.#usedIndex % this.size), 8);
      const head = view.getUint32(0, true);
      elements.push({ head, written: view.getUint32(4, true) });
      this.#free.push(...(this.#chains.get(head) ?? []));
      this.#chains.delete(head);
      this.#usedIndex = (this.#usedIndex + 1) % 65536;
    }
    return elements;
  }

  #link(
    buffers: readonly Buffer[],
    place: (i: number) => number,
    number: (i: number) => number,
  ): void {
    for (const [i, { address, length, write }] of buffers.entries()) {
      const last = i === buffers.length - 1;
      const flags = (write ? WRITE : 0) + (last ? 0 : NEXT);
      this.write(place(i), { address, length, flags, next: last ? 0 : number(i + 1) });
    }
  }

  #u16(at: number, value: number): void {
    this.ram.view(at, 2).setUint16(0, value, true);
  }
}
