/** The requests of an image that change it, by slot: what each is, and how far it has come. */

export const Op = { read: 0, write: 1, flush: 2, discard: 3, zero: 4 } as const;

export const Phase = {
  /** Looks for what to do next. */
  next: 0,
  /** Data is on its way to where the cluster is. */
  moving: 1,
  /** The rest of a cluster is read, to be written elsewhere. */
  copying: 2,
  /** Data is on its way to new clusters. */
  placing: 3,
  /** The new clusters are to be entered in the L2 table. */
  linking: 4,
  /** All is done, but for a commit. */
  settling: 5,
  /** An fdatasync is under way. */
  syncing: 6,
} as const;

export class Requests {
  readonly ops: Uint8Array;
  readonly phases: Uint8Array;
  readonly durable: Uint8Array;
  readonly unmaps: Uint8Array;
  readonly tries: Uint8Array;
  /** Of a zero request: bytes that are written as zeroes before tables are looked at again. */
  readonly limits: Float64Array;
  /** The step under way: bytes of the disk, and where in the file they go. */
  readonly bytes: Float64Array;
  readonly hosts: Float64Array;

  constructor(slots: number) {
    this.ops = new Uint8Array(slots);
    this.phases = new Uint8Array(slots);
    this.durable = new Uint8Array(slots);
    this.unmaps = new Uint8Array(slots);
    this.tries = new Uint8Array(slots);
    this.limits = new Float64Array(slots);
    this.bytes = new Float64Array(slots);
    this.hosts = new Float64Array(slots);
  }

  begin(slot: number, op: number, unmap: boolean, durable: boolean): void {
    this.ops[slot] = op;
    this.phases[slot] = Phase.next;
    this.durable[slot] = durable ? 1 : 0;
    this.unmaps[slot] = unmap ? 1 : 0;
    this.tries[slot] = 0;
    this.limits[slot] = 0;
  }
}
