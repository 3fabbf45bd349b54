/**
 * Generic Event Device: what the machine tells the OS through ACPI (ACPI 6.5 section 5.6.9). A byte of pending events,
 * and one edge-triggered interrupt; the DSDT's `_EVT` reads the byte and notifies the devices that it speaks of.
 */
import type { AccessSize, BusDevice, InterruptLine } from "../../bus/device.ts";
import { type Of, struct, u8 } from "../../ffi/struct.ts";

/** Bits of the byte. */
export const AcpiEvent = { powerButton: 1 } as const;

export const EventDeviceState = struct("acpi-events-state", 1, { pending: u8 });

export class EventDevice implements BusDevice {
  constructor(
    readonly state: Of<typeof EventDeviceState>,
    readonly line: InterruptLine,
  ) {}

  /** Tells the OS. Events that it has not read yet stay. */
  raise(events: number): void {
    this.state.pending |= events;
    this.line.set(true);
    this.line.set(false);
  }

  /** Reading takes the events. */
  read(offset: number, size: AccessSize): number {
    if (offset !== 0 || size !== 1) return 0;
    const { pending } = this.state;
    this.state.pending = 0;
    return pending;
  }

  /** The register is read-only. */
  write(): void {}

  reset(): void {
    this.state.pending = 0;
  }
}
