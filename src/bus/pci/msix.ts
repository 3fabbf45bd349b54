/**
 * MSI-X (PCI Local Bus 3.0, section 6.8.2): table and pending bits of one function, in shared memory. Vectors reach the
 * guest by irqfd: whoever has news writes the vector's eventfd. A masked vector's irqfd is taken away, so that the
 * eventfd's count is its pending bit; unmasking gives it back, and KVM delivers what has come in the meantime. The
 * table is reached through a BAR and through configuration space, so it has a lock of its own, below both.
 */
import { bytes, type Of, struct, u16 } from "../../ffi/struct.ts";
import type { AccessSize, BusDevice } from "../device.ts";
import type { DeviceLock } from "../mapping.ts";

export const maxVectors = 64;
const entryBytes = 16;
const [addressLow, addressHigh, data, control] = [0, 4, 8, 12];
const vectorMasked = 1;
const messageControlEnable = 0x8000;
const messageControlFunctionMask = 0x4000;

export const MsixState = struct(
  "msix",
  1096,
  {
    table: bytes(maxVectors * entryBytes),
    /** 1 where the vector's irqfd is assigned. */
    assigned: bytes(maxVectors),
    messageControl: u16,
    pad: bytes(6),
  },
  { align: 8 },
);

/** What connects a vector to KVM. A vector is connected and disconnected in turn. */
export interface VectorSink {
  /** Routes the vector to a message and assigns its irqfd. */
  connect(vector: number, addressLow: number, addressHigh: number, data: number): void;
  /** Takes the irqfd away; the route may stay. */
  disconnect(vector: number): void;
  /** Whether the vector's eventfd holds a count. */
  isPending(vector: number): boolean;
  /** Takes the count away. */
  forget(vector: number): void;
}

export class Msix implements BusDevice {
  private readonly table: DataView;
  private readonly tableBytes: Uint8Array;
  private readonly assigned: Uint8Array;

  /** The table lies at the BAR's start, the pending bits at `pbaOffset`. */
  constructor(
    readonly state: Of<typeof MsixState>,
    readonly vectors: number,
    readonly sink: VectorSink,
    readonly pbaOffset: number,
    readonly lock: DeviceLock,
  ) {
    if (vectors < 1 || vectors > maxVectors) throw new RangeError(`MSI-X: ${vectors} vectors`);
    this.tableBytes = state.table;
    this.table = new DataView(
      this.tableBytes.buffer,
      this.tableBytes.byteOffset,
      this.tableBytes.length,
    );
    this.assigned = state.assigned;
  }

  /** Every vector masked, none pending, MSI-X off. */
  reset(): void {
    this.setMessageControl(0);
    this.lock.acquire();
    try {
      this.tableBytes.fill(0);
      for (let vector = 0; vector < this.vectors; vector++) {
        this.table.setUint32(vector * entryBytes + control, vectorMasked, true);
        this.sink.forget(vector);
      }
    } finally {
      this.lock.release();
    }
  }

  get enabled(): boolean {
    return (this.state.messageControl & messageControlEnable) !== 0;
  }

  /** The capability's message control has been written. */
  setMessageControl(value: number): void {
    this.lock.acquire();
    try {
      this.state.messageControl = value & (messageControlEnable | messageControlFunctionMask);
      this.update();
    } finally {
      this.lock.release();
    }
  }

  read(offset: number, size: AccessSize): number {
    this.lock.acquire();
    try {
      if (offset >= this.pbaOffset) return this.pendingBits(offset - this.pbaOffset, size);
      if (size !== 4 || offset % 4 !== 0 || offset >= this.vectors * entryBytes) return 0;
      return this.table.getUint32(offset, true);
    } finally {
      this.lock.release();
    }
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (size !== 4 || offset % 4 !== 0 || offset >= this.vectors * entryBytes) return;
    this.lock.acquire();
    try {
      this.writeTable(offset, value);
    } finally {
      this.lock.release();
    }
  }

  private writeTable(offset: number, value: number): void {
    const isControl = offset % entryBytes === control;
    this.table.setUint32(offset, isControl ? value & vectorMasked : value, true);
    const vector = Math.floor(offset / entryBytes);
    if (isControl) this.updateVector(vector);
    else if (this.assigned[vector] === 1) {
      // drivers mask a vector before they change its message; what one that does not gets is open (section 6.8.2)
      this.sink.disconnect(vector);
      this.connect(vector);
    }
  }

  private update(): void {
    for (let vector = 0; vector < this.vectors; vector++) this.updateVector(vector);
  }

  /** Brings a vector's irqfd in line with what masks it. */
  private updateVector(vector: number): void {
    const { messageControl } = this.state;
    const entry = this.table.getUint32(vector * entryBytes + control, true);
    const open =
      (messageControl & messageControlEnable) !== 0 &&
      (messageControl & messageControlFunctionMask) === 0 &&
      (entry & vectorMasked) === 0;
    const was = this.assigned[vector] === 1;
    if (open === was) return;
    this.assigned[vector] = open ? 1 : 0;
    if (open) this.connect(vector);
    else this.sink.disconnect(vector);
  }

  private connect(vector: number): void {
    const at = vector * entryBytes;
    const low = this.table.getUint32(at + addressLow, true);
    const high = this.table.getUint32(at + addressHigh, true);
    this.sink.connect(vector, low, high, this.table.getUint32(at + data, true));
  }

  private pendingBits(offset: number, size: AccessSize): number {
    let bits = 0;
    for (let i = 0; i < size * 8; i++) {
      const vector = offset * 8 + i;
      if (vector >= this.vectors || this.assigned[vector] === 1) continue;
      if (this.sink.isPending(vector)) bits += 2 ** i;
    }
    return bits;
  }
}
