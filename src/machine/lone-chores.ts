/**
 * The chores of a process that serves one device and never goes back to its event loop: it starts the thread itself,
 * and hears of its death by a descriptor.
 */
import { EventRing } from "../bus/event-ring.ts";
import { ThreadControl } from "../bus/thread-control.ts";
import { ChoreClient } from "../devices/chores/chore-ring.ts";
import type { Chores } from "../devices/chores/chores.ts";
import { createEventfd } from "../ffi/eventfd.ts";
import { choreWorkerUrl } from "../workers.ts";
import type { ChoreThreadSpec } from "./chore-thread.ts";
import type { Owned } from "./owned.ts";
import { createChores } from "./virtio/spec.ts";

const name = "chores0";

export class LoneChores {
  readonly client: Chores;
  /** Readable (epoll) when the thread has died. */
  readonly deathFd: number;
  readonly #events = new EventRing(new SharedArrayBuffer(EventRing.byteLength), 0);

  /** The descriptors are `owned`, for as long as the process lives: nobody waits for the thread. */
  constructor(owned: Owned) {
    this.deathFd = owned.fd(createEventfd());
    const spec: ChoreThreadSpec = {
      chores: createChores(owned),
      control: new SharedArrayBuffer(ThreadControl.bytesFor(1)),
      events: this.#events.buffer as SharedArrayBuffer,
      ...{ number: 0, name, deathFd: this.deathFd },
    };
    this.client = new ChoreClient(spec.chores, () => {
      new Worker(choreWorkerUrl, { name }).postMessage(spec);
    });
  }

  /** What the thread died of, in one line. */
  get death(): string {
    const why = this.#events.take()?.text ?? "nobody knows why";
    return `${name} ended on an error of chv's own: ${why.replace(/\s+/g, " ")}`;
  }
}
