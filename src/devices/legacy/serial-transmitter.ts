/**
 * The sending half of the 16550A. The line is infinitely fast: a byte is gone at once, unless the output has no room.
 * Then it waits in the FIFO, THRE and TEMT stay low, and the guest waits with it.
 */
import type { ByteSink } from "../../bus/device.ts";
import type { Of } from "../../ffi/struct.ts";
import { fifoSize, type SerialState } from "./serial-registers.ts";

const fifoMask = fifoSize - 1;

export class Transmitter {
  private readonly fifo: Uint8Array;

  constructor(
    readonly state: Of<typeof SerialState>,
    readonly output: ByteSink,
  ) {
    this.fifo = state.tx;
  }

  /** To the output, in order. A driver that writes a full transmitter without looking at LSR loses the byte. */
  send(byte: number): void {
    const state = this.state;
    if (state.txCount > 0) this.drain();
    if (state.txCount === 0 && this.output.push(byte)) return;
    if (state.txCount === fifoSize) return;
    this.fifo[(state.txHead + state.txCount) & fifoMask] = byte;
    state.txCount++;
  }

  /** Sends what waits, as far as there is room. */
  drain(): void {
    const state = this.state;
    while (state.txCount > 0) {
      if (!this.output.push(this.fifo[state.txHead & fifoMask]!)) return;
      state.txHead = (state.txHead + 1) & fifoMask;
      state.txCount--;
    }
  }
}
