/** What stands around PCI in its tests: locks that know their order, and eventfds and KVM's irqfds, as Linux has them. */
import type { VectorSink } from "../../../src/bus/pci/msix.ts";

/** Locks of one thread: taken twice, or out of order, they throw. */
export class LockOrder {
  readonly held: string[] = [];

  constructor(readonly order: readonly string[]) {}

  lock(name: string) {
    const rank = this.order.indexOf(name);
    return {
      acquire: () => {
        const wrong = this.held.find((other) => this.order.indexOf(other) >= rank);
        if (wrong !== undefined) throw new Error(`lock ${name} wanted under ${wrong}`);
        this.held.push(name);
      },
      release: () => {
        if (this.held.pop() !== name) throw new Error(`lock ${name} released out of turn`);
      },
    };
  }
}

/** An eventfd a vector, and KVM's irqfds on them: an eventfd that has one cannot get another (EBUSY). */
export class FakeVectors implements VectorSink {
  /** What reached the guest: [vector, address, data]. */
  readonly delivered: [vector: number, address: number, data: number][] = [];
  /** The irqfds that there are, by vector, with their messages. */
  readonly irqfds = new Map<number, [address: number, data: number]>();
  private readonly counts = new Map<number, number>();

  connect(vector: number, addressLow: number, addressHigh: number, data: number): void {
    if (this.irqfds.has(vector)) throw new Error("KVM_IRQFD: EBUSY");
    this.irqfds.set(vector, [addressHigh * 2 ** 32 + addressLow, data]);
    if (this.isPending(vector)) this.signal(vector);
  }

  /** KVM takes the count with it. */
  disconnect(vector: number): void {
    if (!this.irqfds.delete(vector)) throw new Error(`vector ${vector} has no irqfd`);
    this.forget(vector);
  }

  isPending(vector: number): boolean {
    return this.counts.has(vector);
  }

  forget(vector: number): void {
    this.counts.delete(vector);
  }

  /** A device writes the eventfd. */
  signal(vector: number): void {
    const message = this.irqfds.get(vector);
    if (!message) {
      this.counts.set(vector, (this.counts.get(vector) ?? 0) + 1);
      return;
    }
    this.counts.delete(vector);
    this.delivered.push([vector, ...message]);
  }
}
