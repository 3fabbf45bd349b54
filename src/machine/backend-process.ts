/**
 * A process that is one device's backend behind a vhost-user socket. One thread: it sleeps in epoll_wait(2) and never
 * goes back to the event loop, so host signals come by a pipe.
 */
import type { Chores } from "../devices/chores/chores.ts";
import {
  type DeviceHome,
  type DeviceModel,
  VhostUserDevice,
} from "../devices/vhost-user/device.ts";
import { VhostUserServer } from "../devices/vhost-user/server.ts";
import { NetFeature } from "../devices/virtio/net-config.ts";
import { Feature } from "../devices/virtio/registers.ts";
import { ExitCode } from "../exit-codes.ts";
import { monotonicNs } from "../ffi/clock.ts";
import { Epoll, EpollSet } from "../ffi/epoll.ts";
import { Signal, SignalPipe } from "../ffi/signal-pipe.ts";
import { compileSoon } from "../jit-policy.ts";
import { log } from "../log.ts";
import { LoneChores } from "./lone-chores.ts";
import { Owned } from "./owned.ts";
import { PollWindow } from "./poll-window.ts";
import { createBackend } from "./virtio/backends.ts";
import { counterCount, type VirtioDevice } from "./virtio/spec.ts";
import { Watcher } from "./watcher.ts";

/** Windows on guest RAM keep the collector from running by itself: it is run after so many wake-ups (0.16 ms). */
const roundsPerCollection = 65_536;
/** Looks at the queues between two looks at the clock, and at the descriptors. */
const looksPerClock = 16;
const looksPerTurn = 1024;
/** A disk's answer that comes later is not looked for: its time is the disk's, and not known as a driver's is. */
const shortEndingNs = 12_000;
/** A disk's driver is often on the processor that ends requests, and answers when all of them have ended. */
const mostDiskOffersNs = 20_000;
/** How long requests in flight may hold up the end. */
const patienceNs = 5e9;
const highUnit = 2n ** 32n;

const exitCodes: Readonly<Record<number, number>> = {
  [Signal.terminate]: ExitCode.ok,
  [Signal.interrupt]: ExitCode.interrupted,
  [Signal.hangUp]: 128 + Signal.hangUp,
  [Signal.quit]: 128 + Signal.quit,
};

/** Serves the device until a signal ends it; `ready` is called when the socket answers. Gives the exit code. */
export function serveDevice(device: VirtioDevice, listenFd: number, ready: () => void): number {
  const process = new BackendProcess(device, listenFd);
  ready();
  compileSoon();
  return process.run();
}

class BackendProcess implements DeviceHome {
  readonly polls = true;
  readonly #epoll = new EpollSet();
  readonly #watcher = new Watcher(this.#epoll, 0);
  readonly #signals = new SignalPipe(Object.keys(exitCodes).map(Number));
  readonly #served: VhostUserDevice;
  readonly #server: VhostUserServer;
  /** For what drivers offer while nothing is in hand, and for the end of what is. */
  readonly #offers: PollWindow;
  readonly #endings = new PollWindow(undefined, shortEndingNs);
  /** When there was last something to do, and, if it has been slept since, what for. */
  #idleNs = 0;
  #slept: PollWindow | undefined;
  #looks = 0;
  /** The signal that ends the process; 0 while none has come. */
  #signal = 0;
  readonly #owned = new Owned();

  constructor(
    readonly device: VirtioDevice,
    listenFd: number,
  ) {
    const config = new Uint8Array(new SharedArrayBuffer(device.config.length));
    const counters = new Float64Array(new SharedArrayBuffer(counterCount * 8));
    const spec = { ...device, kickFds: [] };
    const disk = device.backend.kind === "block";
    this.#offers = new PollWindow(disk ? mostDiskOffersNs : undefined);
    this.#served = new VhostUserDevice(
      modelOf(device),
      { config, create: (host) => createBackend(host, { spec, config, counters }) },
      this,
    );
    this.#server = new VhostUserServer(listenFd, this.#served);
  }

  run(): number {
    this.watch(this.#signals.fd, Epoll.in, () => {
      this.#signal = this.#signals.take();
    });
    for (let round = 1; this.#signal === 0; round++) {
      if (round % roundsPerCollection === 0) Bun.gc(true);
      this.#poll();
      // a signal that was found while looking wakes nobody any more
      if (this.#signal === 0 && this.#served.sleep()) this.#sleep();
    }
    this.#end();
    return exitCodes[this.#signal] ?? ExitCode.ok;
  }

  watch(fd: number, events: number, ready: (events: number) => void): void {
    this.#watcher.watch(fd, events, ready);
  }
  unwatch(fd: number): void {
    this.#watcher.unwatch(fd);
  }

  /** Asked for once, by the device's one backend. */
  chores(): Chores {
    const lone = new LoneChores(this.#owned);
    this.watch(lone.deathFd, Epoll.in, () => {
      throw new Error(lone.death);
    });
    return lone.client;
  }

  warn(text: string): void {
    log.warn(text);
  }

  /** Looks for work, until there has been none for a while; descriptors have their turn in between. */
  #poll(): void {
    for (let idle = 1; this.#signal === 0; idle++) {
      const found = this.#served.poll();
      this.#looks = (this.#looks + 1) % looksPerTurn;
      if (this.#looks === 0) this.#turn(0);
      if (found) {
        idle = 0;
        this.#found(monotonicNs());
      } else if (idle === 1 ? this.#window.ns === 0 : idle % looksPerClock === 0) {
        if (monotonicNs() - this.#idleNs >= this.#window.ns) return;
      }
    }
  }

  /** A sleep may end for nothing, as by the kick for what was found before it: it lasts until there is work. */
  #found(now: number): void {
    this.#slept?.idled(now - this.#idleNs);
    this.#slept = undefined;
    this.#idleNs = now;
  }

  #sleep(): void {
    this.#slept ??= this.#window;
    this.#turn(-1);
  }

  get #window(): PollWindow {
    return this.#served.inFlight ? this.#endings : this.#offers;
  }

  #turn(timeoutMs: number): void {
    const count = this.#epoll.wait(timeoutMs);
    for (let i = 0; i < count; i++) {
      this.#watcher.handle(this.#epoll.tokenAt(i), this.#epoll.eventsAt(i));
    }
  }

  /** A second signal, or a host that does not answer, cuts it short: what is in flight is the next process's. */
  #end(): void {
    let over = false;
    this.#server.close(() => {
      over = true;
    });
    const until = monotonicNs() + patienceNs;
    while (!over && monotonicNs() < until && this.#signals.take() === 0) this.#turn(100);
    this.#signals.close();
  }
}

/** What has to do with the control queue of a network interface, which is the front end's own affair. */
const { CTRL_VQ, CTRL_RX, CTRL_RX_EXTRA, CTRL_MAC_ADDR, CTRL_GUEST_OFFLOADS } = NetFeature;
const frontEndsOwn = [CTRL_VQ, CTRL_RX, CTRL_RX_EXTRA, CTRL_MAC_ADDR, CTRL_GUEST_OFFLOADS].reduce(
  (bits, bit) => bits | (1n << BigInt(bit)),
  0n,
);

function modelOf({ identity, config, writable, backend }: VirtioDevice): DeviceModel {
  const features = BigInt(identity.featuresHigh) * highUnit + BigInt(identity.featuresLow);
  const queues = identity.queueSizes.length;
  if (backend.kind !== "net") {
    const tracksInFlight = backend.kind === "block";
    return { features, queues, queueCount: queues, config, writable, tracksInFlight };
  }
  const pairs = backend.spec.taps.length;
  return {
    features: features & ~frontEndsOwn,
    ...{ queues: 2 * pairs, queueCount: pairs, config, writable },
    ...{ tracksInFlight: false, needs: 1n << BigInt(Feature.VERSION_1) },
  };
}
