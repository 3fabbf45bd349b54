/** A virtio device of one machine as plain data, from which each thread builds the half that it runs. */
import type { Lock } from "../../bus/lock.ts";
import { times } from "../../bus/times.ts";
import { choreRingBytes } from "../../devices/chores/chore-ring.ts";
import type { ChoreSpec } from "../../devices/chores/chores.ts";
import type { BalloonSpec } from "../../devices/virtio/balloon-config.ts";
import type { BlockSpec } from "../../devices/virtio/block-config.ts";
import type { ConsoleDeviceSpec } from "../../devices/virtio/console-config.ts";
import type { EntropySpec } from "../../devices/virtio/entropy-config.ts";
import type { NetSpec } from "../../devices/virtio/net-config.ts";
import type { PmemSpec } from "../../devices/virtio/pmem-config.ts";
import type { VirtioIdentity, VirtioTransport } from "../../devices/virtio/transport.ts";
import { ConfigError } from "../../exit-codes.ts";
import { createEventfd } from "../../ffi/eventfd.ts";
import type { ConsoleSpec, FarEndSpec } from "../console/spec.ts";
import { Gsi } from "../memory-map.ts";
import type { Owned } from "../owned.ts";

/** What moves the data, by device type. */
export type BackendSpec =
  | { readonly kind: "balloon"; readonly spec: BalloonSpec }
  | { readonly kind: "block"; readonly spec: BlockSpec }
  | {
      readonly kind: "console";
      readonly spec: ConsoleDeviceSpec;
      /** Of each port. */
      readonly ends: readonly (ConsoleSpec | FarEndSpec)[];
    }
  | { readonly kind: "entropy"; readonly spec: EntropySpec }
  | { readonly kind: "net"; readonly spec: NetSpec }
  | { readonly kind: "pmem"; readonly spec: PmemSpec };

/** Room for what a share of a device counts, in doubles: what the device type names, and last the interrupts. */
export const counterCount = 16;
export const interruptsAt = counterCount - 1;

/** A device, whatever it is plugged into. */
export interface VirtioDevice {
  /** What the user wrote, for messages: "--disk PATH". */
  readonly label: string;
  /** The user's name for it, or a made-up one: "_disk0". */
  readonly id: string;
  readonly identity: VirtioIdentity;
  /** Configuration space as it starts, and which of its bytes the driver may write (1). */
  readonly config: Uint8Array;
  readonly writable: Uint8Array;
  readonly backend: BackendSpec;
  /** The backend may ask for a thread that does its chores. */
  readonly usesChores?: boolean;
  /** I/O workers of its own, among which its queues are dealt in turn; none: it is with others on the first. */
  readonly ioThreads?: number;
}

/** A device with its queues' eventfds. */
export interface WiredVirtio extends VirtioDevice {
  /** An eventfd a queue: the driver's kicks. */
  readonly kickFds: readonly number[];
  /** An eventfd a vector, where the transport has vectors: one for changes of configuration, and one a queue. */
  readonly callFds?: readonly number[];
  /** The I/O workers that serve it, by number: each has a share of the queues. */
  readonly workers: readonly number[];
  /** For each share. */
  readonly chores?: readonly ChoreSpec[];
}

/**
 * The queues of a device's share: they are dealt in turn. A network device's go by pairs, and the control queue, its
 * last, is the first share's.
 */
export function queuesOf({ identity, workers, backend }: WiredVirtio, share: number): number[] {
  const all = [...identity.queueSizes.keys()];
  const last = all.length - 1;
  const pairOf = (queue: number) => (queue === last ? 0 : queue >>> 1);
  const turn = (queue: number) => (backend.kind === "net" ? pairOf(queue) : queue);
  return all.filter((queue) => turn(queue) % workers.length === share);
}

/** Gives a machine's devices their I/O workers and what wakes those, whatever the devices are plugged into. */
export function wire(devices: readonly VirtioDevice[], owned: Owned): WiredVirtio[] {
  let worker = 1;
  return devices.map((device) => {
    const own = times(device.ioThreads ?? 0, () => worker++);
    const workers = own.length === 0 ? [0] : own;
    const chores = device.usesChores && { chores: workers.map(() => createChores(owned)) };
    const kickFds = device.identity.queueSizes.map(() => owned.fd(createEventfd()));
    return { ...device, ...chores, workers, kickFds };
  });
}

/** What a device's chores need; the descriptor stays open until their thread is gone. */
export function createChores(owned: Owned): ChoreSpec {
  return { buffer: new SharedArrayBuffer(choreRingBytes), fd: owned.fd(createEventfd()) };
}

/** The numbers of the workers that devices have of their own. */
export const ownWorkers = (devices: readonly WiredVirtio[]): number[] =>
  devices.flatMap(({ workers }) => workers).filter((worker) => worker > 0);

/** A device's registers, as its backend's host sees them, whatever the transport. Under the device's lock. */
export interface VirtioFront {
  readonly transport: VirtioTransport;
  /** The vectors, where the transport has them. */
  readonly msix?: { readonly enabled: boolean };
  /** Tells the driver: `cause` is a bit of the ISR, `vector` the register of the queue or the configuration. */
  interrupt(cause: number, vector: number): void;
  /** Configuration space has changed: the driver is told. */
  configChanged(): void;
}

/** A device in one thread of the machine: its registers, their lock, and what is shared beside them. */
export interface PluggedVirtio {
  readonly spec: WiredVirtio;
  readonly device: VirtioFront;
  readonly lock: Lock;
  /** Configuration space, in shared memory. */
  readonly config: Uint8Array;
  /** What is counted, in shared memory: `counterCount` for each share (see counters.ts). */
  readonly counters: Float64Array;
}

/** A device on virtio-mmio. */
export interface VirtioMmioSpec extends WiredVirtio {
  /** Guest-physical address of its page. */
  readonly address: number;
  readonly gsi: number;
}

/** A device on PCI. */
export interface VirtioSpec extends WiredVirtio {
  /** Device number on bus 0. */
  readonly slot: number;
  /** An eventfd a vector: one for changes of configuration, and one a queue. */
  readonly callFds: readonly number[];
  /** GSI of vector 0; the others follow. */
  readonly gsiBase: number;
}

/** Where a function's BAR is before the guest moves it. */
export const barStride = 0x1_0000;

/** Devices of PCI bus 0 beside the host bridge. */
const slotsMax = 31;

/** The slot behind them all, for a function that is no virtio device. Throws ConfigError when there is none. */
export function freeSlot(option: string, virtio: readonly VirtioSpec[]): number {
  if (virtio.length < slotsMax) return virtio.length + 1;
  const why = `no PCI slot is left beside ${virtio.length} devices; give fewer`;
  throw new ConfigError(`${option}: ${why}`, option);
}

/** Gives devices their slots, from 1 on, and their eventfds. Throws ConfigError when there are too many. */
export function plug(devices: readonly VirtioDevice[], owned: Owned): VirtioSpec[] {
  if (devices.length > slotsMax) {
    throw new ConfigError(`${devices.length} devices for ${slotsMax} PCI slots; give fewer`);
  }
  let gsi: number = Gsi.pins;
  return wire(devices, owned).map((device, index) => {
    const vectors = device.kickFds.length + 1;
    const callFds = times(vectors, () => owned.fd(createEventfd()));
    const gsiBase = gsi;
    gsi += vectors;
    return { ...device, slot: index + 1, callFds, gsiBase };
  });
}
