/**
 * What keeps a vCPU from going on after an exit that was served: a device's reset on virtio-mmio, which must not end
 * before its backend stands still. Of one thread; it waits with no lock held, and still hears what is asked of it.
 */
import { Ask, type ThreadControl } from "../bus/thread-control.ts";
import type { HandOver } from "../devices/virtio/device-state.ts";

/** How long a request to park may go unheard. */
const roundMs = 10;

export class Hold {
  #handOver: HandOver | undefined;

  /** The vCPU stays until the backend is where it was asked to be. */
  until(handOver: HandOver): void {
    if (!handOver.settled) this.#handOver = handOver;
  }

  get on(): boolean {
    return this.#handOver !== undefined;
  }

  /** Waits until the vCPU may go on: true. False when the thread is asked for something else: it is still held. */
  wait(control: ThreadControl): boolean {
    const handOver = this.#handOver;
    if (handOver === undefined) return true;
    while (!handOver.waitSettled(roundMs)) if (control.asked !== Ask.run) return false;
    this.#handOver = undefined;
    return true;
  }
}
