/**
 * The receiving half of the 16550A: its FIFO (with FIFOs off, one register), and when it takes from the input ring.
 *
 * Host input waits in its ring until a driver wants it, as from a peer that heeds flow control: while IER.RDI is set,
 * or once a polling driver has found an idle line `pollsToListen` times running without a write. Without this, what
 * is piped in at start would be thrown away by the driver's own set-up, which clears the FIFO and reads RX.
 */
import type { ByteSource } from "../../bus/rings.ts";
import type { Of } from "../../ffi/struct.ts";
import { Fcr, fifoSize, Ier, Mcr, pollsToListen, type SerialState } from "./serial-registers.ts";

const fifoMask = fifoSize - 1;

export class Receiver {
  private readonly fifo: Uint8Array;

  constructor(
    readonly state: Of<typeof SerialState>,
    readonly input: ByteSource,
  ) {
    this.fifo = state.rx;
  }

  /** From the input ring, as far as there is room and a driver listens. In loopback the SIN pin is disconnected. */
  refill(): void {
    const state = this.state;
    if (!this.listening() || state.mcr & Mcr.LOOP) return;
    const capacity = this.capacity();
    while (state.rxCount < capacity) {
      const byte = this.input.pop();
      if (byte < 0) return;
      this.append(byte);
    }
  }

  /** A read of LSR has found nothing received and nothing to send. */
  poll(): void {
    if (this.state.idlePolls === pollsToListen) this.refill();
    else this.state.idlePolls++;
  }

  /**
   * A byte comes back in loopback. A full FIFO keeps what it has, a full register takes the newer byte (8.4, bit 1).
   */
  loop(byte: number): void {
    const state = this.state;
    const capacity = this.capacity();
    if (state.rxCount < capacity) {
      this.append(byte);
      return;
    }
    state.overrun = 1;
    if (capacity === 1) this.fifo[state.rxHead & fifoMask] = byte;
  }

  /** The oldest byte; 0 when there is none. */
  take(): number {
    const state = this.state;
    if (state.rxCount === 0) return 0;
    const byte = this.fifo[state.rxHead & fifoMask]!;
    state.rxHead = (state.rxHead + 1) & fifoMask;
    state.rxCount--;
    this.refill();
    return byte;
  }

  clear(): void {
    this.state.rxHead = this.state.rxCount = 0;
  }

  /** Whether enough was received to interrupt as data: 1, 4, 8 or 14 bytes with FIFOs on. */
  triggered(): boolean {
    const count = this.state.rxCount;
    switch (this.state.fcr & Fcr.TRIGGER) {
      case 0x40:
        return count >= 4;
      case 0x80:
        return count >= 8;
      case 0xc0:
        return count >= 14;
      default:
        return count >= 1;
    }
  }

  private listening(): boolean {
    return (this.state.ier & Ier.RDI) !== 0 || this.state.idlePolls === pollsToListen;
  }

  private capacity(): number {
    return this.state.fcr & Fcr.ENABLE_FIFO ? fifoSize : 1;
  }

  private append(byte: number): void {
    const state = this.state;
    this.fifo[(state.rxHead + state.rxCount) & fifoMask] = byte;
    state.rxCount++;
  }
}
