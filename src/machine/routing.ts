/**
 * KVM's interrupt routing table, shared by all threads: GSI → MSI. KVM takes the table whole (20–60 µs each time), so
 * it is written only when an entry changes. KVM derives which vectors make EOI exits from the entries of the IOAPIC's
 * pins.
 */
import type { DeviceLock } from "../bus/mapping.ts";
import type { SharedState } from "../bus/shared-state.ts";
import { RoutingBuffer } from "../ffi/kvm.ts";
import { bytes, struct } from "../ffi/struct.ts";

export const gsiCount = 1024;
const wordsPerEntry = 4;
const [used, low, high, data] = [0, 1, 2, 3];

const RoutingState = struct(
  "routing-state",
  gsiCount * wordsPerEntry * 4,
  { entries: bytes(gsiCount * wordsPerEntry * 4) },
  { align: 8 },
);

export class RoutingTable {
  readonly #entries: Uint32Array;
  readonly #lock: DeviceLock;
  readonly #buffer = new RoutingBuffer(gsiCount);

  constructor(
    /** Its VM may be known later, when the first entry changes. */
    readonly machine: { readonly vmFd: number },
    state: SharedState,
  ) {
    const { entries } = state.struct(RoutingState);
    this.#entries = new Uint32Array(entries.buffer, entries.byteOffset, gsiCount * wordsPerEntry);
    this.#lock = state.lock();
  }

  /**
   * Routes a GSI to a message, and tells KVM if that is news. The address is the guest's: with any of bits 39:32 set it
   * is no local APIC's (those above are the destination's, KVM_CAP_X2APIC_API), KVM would refuse the whole table, and
   * the GSI goes nowhere.
   */
  set(gsi: number, addressLow: number, addressHigh: number, value: number): void {
    if ((addressHigh & 0xff) === 0) this.#change(gsi, 1, addressLow, addressHigh, value);
    else this.clear(gsi);
  }

  /** Takes a GSI out of the table. */
  clear(gsi: number): void {
    this.#change(gsi, 0, 0, 0, 0);
  }

  #change(gsi: number, on: number, addressLow: number, addressHigh: number, value: number): void {
    const at = gsi * wordsPerEntry;
    const entries = this.#entries;
    this.#lock.acquire();
    try {
      const same =
        entries[at + used] === on &&
        entries[at + low] === addressLow &&
        entries[at + high] === addressHigh &&
        entries[at + data] === value;
      if (same) return;
      entries[at + used] = on;
      entries[at + low] = addressLow;
      entries[at + high] = addressHigh;
      entries[at + data] = value;
      this.#apply();
    } finally {
      this.#lock.release();
    }
  }

  #apply(): void {
    const entries = this.#entries;
    this.#buffer.clear();
    for (let gsi = 0, at = 0; gsi < gsiCount; gsi++, at += wordsPerEntry) {
      if (entries[at + used] === 0) continue;
      this.#buffer.add(gsi, entries[at + low]!, entries[at + high]!, entries[at + data]!);
    }
    this.#buffer.apply(this.machine.vmFd);
  }
}
