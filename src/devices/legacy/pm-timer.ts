/**
 * ACPI power management timer: ACPI 6.5 section 4.8.3.3. It counts 32 bits wide: the FADT sets TMR_VAL_EXT. There is no
 * PM1 event block (hardware-reduced ACPI), so its carry raises no interrupt.
 */
import type { AccessSize, BusDevice, Clock } from "../../bus/device.ts";
import { f64, type Of, struct } from "../../ffi/struct.ts";

/** Ticks in a nanosecond: 3.579545 MHz. */
const ticksPerNs = 3_579_545 / 1e9;

/** `startNs`: the monotonic time at which the count was 0. */
export const PmTimerState = struct("pm-timer-state", 8, { startNs: f64 });

export class PmTimer implements BusDevice {
  constructor(
    readonly state: Of<typeof PmTimerState>,
    readonly clock: Clock,
  ) {}

  /** Multiplication rounds monotonically, so the count never goes back; `>>>` takes it modulo 2^32. */
  read(offset: number, size: AccessSize): number {
    const count = ((this.clock.monotonicNs() - this.state.startNs) * ticksPerNs) >>> 0;
    if (size === 4) return count;
    return (count >>> (8 * offset)) & (size === 2 ? 0xffff : 0xff);
  }

  /** The counter is read-only. */
  write(): void {}

  reset(): void {
    this.state.startNs = this.clock.monotonicNs();
  }
}
