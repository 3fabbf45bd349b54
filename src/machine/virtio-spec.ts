/** A virtio device of one machine as plain data, from which each thread builds the half that it runs. */
import type { VirtioIdentity } from "../devices/virtio/transport.ts";

/** What moves the data, by device type. */
export type BackendSpec = {
  readonly kind: "block";
  readonly fd: number;
  readonly sectors: number;
  readonly readonly: boolean;
  readonly direct: boolean;
  readonly serial: string;
};

export interface VirtioSpec {
  /** The user's name for it, or a made-up one: "_disk0". */
  readonly id: string;
  /** Device number on PCI bus 0. */
  readonly slot: number;
  readonly identity: VirtioIdentity;
  /** Configuration space as it starts, and which of its bytes the driver may write (1). */
  readonly config: Uint8Array;
  readonly writable: Uint8Array;
  /** An eventfd a queue: the driver's kicks. */
  readonly kickFds: readonly number[];
  /** An eventfd a vector: the first for configuration changes by convention of drivers, the rest for queues. */
  readonly callFds: readonly number[];
  /** GSI of vector 0; the others follow. */
  readonly gsiBase: number;
  readonly backend: BackendSpec;
}

/** Where a function's BAR is before the guest moves it. */
export const barStride = 0x1_0000;
