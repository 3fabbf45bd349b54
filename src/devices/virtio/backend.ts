/**
 * A backend knows how to move the data of one device type, and nothing of PCI or registers. It runs on an I/O worker
 * (or in a process of its own behind a vhost-user socket) and meets the guest in the queues alone.
 */
import type { Chores } from "../chores/chores.ts";
import type { Virtqueue } from "./queue.ts";

/** What a backend's host does for it. */
export interface BackendHost {
  /**
   * The host looks for work by `poll` for a while, and calls `sleep` before it does. Its thread serves nothing but this
   * backend.
   */
  readonly polls?: boolean;
  /** The thread serves nothing but this backend, polling or not. */
  readonly alone?: boolean;
  /** Calls `ready(events)` on the worker when a descriptor has one of epoll's `events`. Level-triggered. */
  watch(fd: number, events: number, ready: (events: number) => void): void;
  unwatch(fd: number): void;
  /** Queue `index` has used buffers, and the driver asked to be told (`Virtqueue.needsCall`). Once for a batch. */
  call(index: number): void;
  /**
   * The eventfd that does what `call(index)` does, for who writes to it without us (the kernel, another process);
   * undefined where there is none: the driver has no vector, or the transport none to give. As it is now; ask when the
   * driver is ready.
   */
  callFd?(index: number): number | undefined;
  /** The device's configuration space has changed: the guest is told. */
  configChanged(): void;
  /**
   * The device's chores (see chores.ts), for a backend that asks for them once, and whose device says that it may
   * (`VirtioDevice.usesChores`). The host's to close.
   */
  chores(): Chores;
  /** A line for the log. */
  warn(text: string): void;
  /** The same, where the device or what is behind it does not work: it is told as an event, too. */
  failed?(text: string): void;
}

/** For hosts of either kind. */
export function tellFailure(host: BackendHost, text: string): void {
  if (host.failed) host.failed(text);
  else host.warn(text);
}

/** One device's backend. Every method is called on its worker. */
export interface Backend {
  /**
   * The driver is ready: `queues` are those it enabled, by number; `features` the bits it accepted. `resumed`: it was
   * so all the time, and nothing has changed but that the backend stood still; chains that it had not given back come
   * again.
   */
  start(queues: readonly (Virtqueue | undefined)[], features: bigint, resumed?: boolean): void;
  /** The driver has something in queue `index`. Never blocks. */
  kicked(index: number): void;
  /**
   * For hosts that poll, in place of the kicks that drivers then need not give: does what there is to do; whether there
   * was something. Throws GuestFault.
   */
  poll?(): boolean;
  /** Requests are in hand, whose end is waited for. */
  readonly inFlight?: boolean;
  /** Before sleep: kicks are asked for. False when there is something to do already. Throws GuestFault. */
  sleep?(): boolean;
  /**
   * Stands still, also when `start` failed: nothing in flight may touch guest memory afterwards. True when that is so
   * already; false when requests are in flight, and `quiet` is called when the last one has ended. The queues are gone
   * then.
   */
  stop(quiet: () => void): boolean;
  /**
   * For hosts that start and stop queues one by one while others run (vhost-user): between `start` and `stop`, as those
   * are, for one queue. A backend without them ends `stop` at once, and is stopped and started with other queues.
   */
  startQueue?(index: number, queue: Virtqueue): void;
  stopQueue?(index: number, quiet: () => void): boolean;
  /**
   * Its worker is about to leave, and the backend stands still: what is still on its way out goes on. Whether there is
   * more, and to call again. Absent where nothing ever is.
   */
  farewell?(): boolean;
  /** Frees descriptors and mappings. */
  close(): void;
}
