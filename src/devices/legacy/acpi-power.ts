/**
 * Power-off and reset as hardware-reduced ACPI has them: sleep control and sleep status register (ACPI 6.5 section
 * 4.8.3.7), reset register (4.8.3.6). The FADT announces their addresses, the DSDT's `\_S5` names `s5SleepType`.
 *
 * Other sleep types do nothing: no other sleep state is announced.
 */
import type { AccessSize, BusDevice, EventSink } from "../../bus/device.ts";
import { EventKind, ResetSource } from "../../bus/events.ts";
import { type Of, struct, u8 } from "../../ffi/struct.ts";
import { readByBytes, writeByBytes } from "./byte-lanes.ts";

/** SLP_TYPx of the S5 state. */
export const s5SleepType = 5;
/** The FADT's RESET_VALUE. */
export const resetValue = 1;

/** Offsets from the base. */
const Reg = { sleepControl: 0, sleepStatus: 1, reset: 2 } as const;
const sleepEnable = 0x20;
const sleepTypeShift = 2;
const sleepTypeMask = 0x1c;

/** `sleepType`: SLP_TYPx where it lies in the sleep control register. */
export const AcpiPowerState = struct("acpi-power-state", 1, { sleepType: u8 });

export class AcpiPower implements BusDevice {
  constructor(
    readonly state: Of<typeof AcpiPowerState>,
    readonly events: EventSink,
  ) {}

  /** SLP_EN is write-only. WAK_STS is never set: nothing sleeps here and comes back. */
  read(offset: number, size: AccessSize): number {
    if (size !== 1) return readByBytes(this, offset, size);
    return offset === Reg.sleepControl ? this.state.sleepType : 0;
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (size !== 1) {
      writeByBytes(this, offset, size, value);
    } else if (offset === Reg.sleepControl) {
      this.state.sleepType = value & sleepTypeMask;
      const type = (value & sleepTypeMask) >> sleepTypeShift;
      if (value & sleepEnable && type === s5SleepType) this.events.emit(EventKind.poweroff, 0, 0);
    } else if (offset === Reg.reset && value === resetValue) {
      this.events.emit(EventKind.reset, ResetSource.acpi, 0);
    }
  }

  reset(): void {
    this.state.sleepType = 0;
  }
}
