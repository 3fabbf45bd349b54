/**
 * What is left of the keyboard controller: ports 0x60 to 0x64, as one device (IBM PC/AT Technical Reference, 1984,
 * "Keyboard Controller" and "System Control Port"). No keyboard and no mouse; the controller resets the machine:
 * commands 0xf0 to 0xfe with bit 0 clear pulse the reset line, command 0xd1 writes the output port that holds it.
 *
 * Its status always reads 0, "ready, nothing to fetch": Linux's `reboot=k` waits for that before it sends 0xfe, and
 * would poll a port of all ones for seconds.
 *
 * Port 0x61 belongs to the board, not to the controller. Its refresh bit (4) and timer 2's output (5) change at every
 * read, because guests wait in a loop for either; without a timer behind it, a calibration against bit 5 ends at once
 * with too few loops, which Linux takes for a failure and not for a frequency.
 */
import type { AccessSize, BusDevice, EventSink } from "../../bus/device.ts";
import { EventKind, ResetSource } from "../../bus/events.ts";
import { type Of, struct, u8 } from "../../ffi/struct.ts";
import { readByBytes, writeByBytes } from "./byte-lanes.ts";

/** Offsets from port 0x60. The ports between read all ones. */
const Reg = { data: 0, systemControl: 1, command: 4 } as const;
const writeOutputPort = 0xd1;
/** Commands 0xf0 to 0xff pulse the output port's lines whose bit is clear; line 0 is the reset. */
const pulseOutputPort = 0xf0;
const resetLine = 0x01;
/** Port 0x61: timer 2's gate, the speaker and the two error enables are the guest's. */
const controlBits = 0x0f;
const togglingBits = 0x30;

/** `outputPortNext`: the next byte to the data port is the output port's. */
export const I8042State = struct("i8042-state", 2, { systemControl: u8, outputPortNext: u8 });

export class I8042 implements BusDevice {
  constructor(
    readonly state: Of<typeof I8042State>,
    readonly events: EventSink,
  ) {}

  read(offset: number, size: AccessSize): number {
    if (size !== 1) return readByBytes(this, offset, size);
    if (offset === Reg.data || offset === Reg.command) return 0;
    if (offset !== Reg.systemControl) return 0xff;
    this.state.systemControl ^= togglingBits;
    return this.state.systemControl;
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (size !== 1) writeByBytes(this, offset, size, value);
    else if (offset === Reg.command) this.command(value);
    else if (offset === Reg.data) this.data(value);
    else if (offset === Reg.systemControl) {
      const toggling = this.state.systemControl & togglingBits;
      this.state.systemControl = (value & controlBits) | toggling;
    }
  }

  reset(): void {
    this.state.systemControl = 0;
    this.state.outputPortNext = 0;
  }

  private command(value: number): void {
    this.state.outputPortNext = value === writeOutputPort ? 1 : 0;
    if (value >= pulseOutputPort && !(value & resetLine)) this.requestReset();
  }

  private data(value: number): void {
    if (this.state.outputPortNext && !(value & resetLine)) this.requestReset();
    this.state.outputPortNext = 0;
  }

  private requestReset(): void {
    this.events.emit(EventKind.reset, ResetSource.i8042, 0);
  }
}
