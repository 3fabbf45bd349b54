/** A virtio device of one machine as plain data, from which each thread builds the half that it runs. */
import type { BlockSpec } from "../devices/virtio/block-config.ts";
import type { VirtioIdentity } from "../devices/virtio/transport.ts";
import { createEventfd } from "../ffi/eventfd.ts";
import { Gsi } from "./memory-map.ts";
import type { Owned } from "./owned.ts";

/** What moves the data, by device type. */
export type BackendSpec = { readonly kind: "block"; readonly spec: BlockSpec };

/** A device, whatever it is plugged into. */
export interface VirtioDevice {
  /** The user's name for it, or a made-up one: "_disk0". */
  readonly id: string;
  readonly identity: VirtioIdentity;
  /** Configuration space as it starts, and which of its bytes the driver may write (1). */
  readonly config: Uint8Array;
  readonly writable: Uint8Array;
  readonly backend: BackendSpec;
}

/** A device on PCI. */
export interface VirtioSpec extends VirtioDevice {
  /** Device number on bus 0. */
  readonly slot: number;
  /** An eventfd a queue: the driver's kicks. */
  readonly kickFds: readonly number[];
  /** An eventfd a vector: one for changes of configuration, and one a queue. */
  readonly callFds: readonly number[];
  /** GSI of vector 0; the others follow. */
  readonly gsiBase: number;
}

/** Where a function's BAR is before the guest moves it. */
export const barStride = 0x1_0000;

/** Gives devices their slots, from 1 on, and their eventfds. */
export function plug(devices: readonly VirtioDevice[], owned: Owned): VirtioSpec[] {
  let gsi: number = Gsi.pins;
  return devices.map((device, index) => {
    const queues = device.identity.queueSizes.length;
    const eventfds = (count: number) =>
      Array.from({ length: count }, () => owned.fd(createEventfd()));
    const gsiBase = gsi;
    gsi += queues + 1;
    const slot = index + 1;
    return { ...device, slot, kickFds: eventfds(queues), callFds: eventfds(queues + 1), gsiBase };
  });
}
