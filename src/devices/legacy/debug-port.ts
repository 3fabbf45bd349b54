/**
 * The diagnostic port 0x80: what is written to it is a code that tells how far the guest has come. Reads give the last
 * code back, as on boards since the PC/AT, where the port is a spare DMA page register (IBM PC/AT Technical Reference,
 * 1984, "I/O Address Map").
 *
 * Linux also writes to it to pass a microsecond, with whatever AL holds, thousands of times. So that the event ring
 * keeps room for what matters, a window of `windowNs` passes at most `codesPerWindow` codes, each at most
 * `repeatsPerWindow` times; the rest is only latched. The clock is read only when a limit is reached: up to there a
 * guest's codes all pass.
 */
import type { AccessSize, BusDevice, Clock, EventSink } from "../../bus/device.ts";
import { EventKind } from "../../bus/events.ts";
import { bytes, f64, type Of, struct, u8, u16 } from "../../ffi/struct.ts";
import { readByBytes, writeByBytes } from "./byte-lanes.ts";

const windowNs = 100e6;
const codesPerWindow = 128;
const repeatsPerWindow = 8;

export const DebugPortState = struct("debug-port-state", 272, {
  windowStartNs: f64,
  /** How often each code was passed on in this window. */
  repeats: bytes(256),
  passed: u16,
  last: u8,
});

export class DebugPort implements BusDevice {
  private readonly repeats: Uint8Array;

  constructor(
    readonly state: Of<typeof DebugPortState>,
    readonly events: EventSink,
    readonly clock: Clock,
  ) {
    this.repeats = state.repeats;
  }

  read(offset: number, size: AccessSize): number {
    return size === 1 ? this.state.last : readByBytes(this, offset, size);
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (size !== 1) {
      writeByBytes(this, offset, size, value);
      return;
    }
    this.state.last = value;
    if (this.exhausted(value)) {
      this.openWindow();
      if (this.exhausted(value)) return;
    }
    this.state.passed++;
    this.repeats[value]!++;
    this.events.emit(EventKind.debugCode, value, 0);
  }

  reset(): void {
    this.state.last = 0;
    this.openWindow();
  }

  private exhausted(code: number): boolean {
    return this.state.passed >= codesPerWindow || this.repeats[code]! >= repeatsPerWindow;
  }

  /** Starts a new window, unless this one is still running. */
  private openWindow(): void {
    const state = this.state;
    const now = this.clock.monotonicNs();
    if (now - state.windowStartNs < windowNs) return;
    state.windowStartNs = now;
    state.passed = 0;
    this.repeats.fill(0);
  }
}

/** Who writes which codes: from the first code of each range up to the next one's. */
const ranges = [
  [0x00, "Firmware"],
  [0x20, "Bootloader"],
  [0x40, "Kernel"],
  [0x60, "Userspace"],
  [0x80, "Custom"],
] as const;

export type DebugCodeRange = (typeof ranges)[number][1];

/** The range that a code of 0 to 255 belongs to. */
export function debugCodeRange(code: number): DebugCodeRange {
  return ranges.findLast(([first]) => code >= first)![1];
}

/** `[Debug I/O port: Kernel code 0x41] 0.412003 seconds`; `seconds` since the machine's start. */
export function formatDebugCode(code: number, seconds: number): string {
  const hex = code.toString(16).padStart(2, "0");
  return `[Debug I/O port: ${debugCodeRange(code)} code 0x${hex}] ${seconds.toFixed(6)} seconds`;
}
