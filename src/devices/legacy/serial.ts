/**
 * 16550A serial port: National Semiconductor PC16550D data sheet (June 1995), section 8 "Registers". On a PC the OUT2
 * pin opens the way from the INTR pin to the bus, and the modem control pins are inactive in loopback (8.8).
 *
 * The line has no errors: break, parity and framing errors never occur, an overrun only in loopback. Output is never
 * lost, see `Transmitter`: neither clearing the FIFO nor a machine reset discards what waits there, which a line would
 * have carried away by then. When input is taken: see `Receiver`.
 *
 * Methods are `private` rather than `#`: the engine checks a brand at each call of the latter, which tripled the cost
 * of a THR write (measured, Bun 1.4.5).
 *
 * Not modelled: the divisor's effect, DMA mode, writes to LSR and MSR (the data sheet's factory tests).
 */
import type { AccessSize, BusDevice, ByteSink, InterruptLine } from "../../bus/device.ts";
import type { ByteSource } from "../../bus/rings.ts";
import type { Of } from "../../ffi/struct.ts";
import { readByBytes, writeByBytes } from "./byte-lanes.ts";
import { Receiver } from "./serial-receiver.ts";
import { Fcr, Ier, Iir, Lcr, Lsr, Mcr, Msr, Reg, type SerialState } from "./serial-registers.ts";
import { Transmitter } from "./serial-transmitter.ts";

export { SerialState } from "./serial-registers.ts";

const idle = Lsr.THRE | Lsr.TEMT;
/** A peer is there and ready; nobody rings. */
const peerLines = Msr.DCD | Msr.DSR | Msr.CTS;
/** 115200 baud; never 0: Linux divides by it when `console=ttyS0` names no speed. */
const defaultDivisor = 1;

export class Serial implements BusDevice {
  private readonly receiver: Receiver;
  private readonly transmitter: Transmitter;

  constructor(
    readonly state: Of<typeof SerialState>,
    readonly line: InterruptLine,
    output: ByteSink,
    input: ByteSource,
  ) {
    this.receiver = new Receiver(state, input);
    this.transmitter = new Transmitter(state, output);
  }

  read(offset: number, size: AccessSize): number {
    if (size !== 1) return readByBytes(this, offset, size);
    const state = this.state;
    switch (offset) {
      case Reg.RX:
        return state.lcr & Lcr.DLAB ? state.dll : this.receive();
      case Reg.IER:
        return state.lcr & Lcr.DLAB ? state.dlm : state.ier;
      case Reg.IIR:
        return this.identify();
      case Reg.LCR:
        return state.lcr;
      case Reg.MCR:
        return state.mcr;
      case Reg.LSR:
        return this.lineStatus();
      case Reg.MSR:
        return this.modemStatus();
      case Reg.SCR:
        return state.scr;
      default:
        return 0xff;
    }
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (size !== 1) {
      writeByBytes(this, offset, size, value);
      return;
    }
    const state = this.state;
    state.idlePolls = 0;
    switch (offset) {
      case Reg.TX:
        if (state.lcr & Lcr.DLAB) state.dll = value;
        else this.transmit(value);
        break;
      case Reg.IER:
        if (state.lcr & Lcr.DLAB) state.dlm = value;
        else this.enableInterrupts(value & 0x0f);
        break;
      case Reg.FCR:
        this.controlFifo(value);
        break;
      case Reg.LCR:
        state.lcr = value;
        break;
      case Reg.MCR:
        this.controlModem(value & 0x1f);
        break;
      case Reg.SCR:
        state.scr = value;
        break;
    }
  }

  /** There are bytes in the input ring. Under the device's lock. */
  inputArrived(): void {
    this.receiver.refill();
    this.update();
  }

  /** The output has room again. Under the device's lock; harmless at any time. */
  transmitterReady(): void {
    if (this.state.txCount > 0) this.drain();
  }

  /** Bytes wait in the transmitter for the output: `transmitterReady()` is owed. Under the device's lock. */
  get transmitterBusy(): boolean {
    return this.state.txCount > 0;
  }

  /** Table I of the data sheet, "UART Reset Configuration". What waits in the transmitter is still sent. */
  reset(): void {
    const state = this.state;
    state.ier = state.fcr = state.lcr = state.mcr = state.scr = 0;
    state.dll = defaultDivisor;
    state.dlm = 0;
    state.overrun = state.modemChanges = state.emptied = state.idlePolls = 0;
    this.receiver.clear();
    this.update();
  }

  private transmit(byte: number): void {
    const state = this.state;
    if (state.mcr & Mcr.LOOP) this.receiver.loop(byte);
    else this.transmitter.send(byte);
    state.emptied = state.txCount === 0 ? 1 : 0;
    this.update();
  }

  /** Sends what waits; an empty transmitter is worth an interrupt. */
  private drain(): void {
    this.transmitter.drain();
    if (this.state.txCount > 0) return;
    this.state.emptied = 1;
    this.update();
  }

  private receive(): number {
    if (this.state.rxCount === 0) return 0;
    const byte = this.receiver.take();
    this.update();
    return byte;
  }

  private lineStatus(): number {
    const state = this.state;
    if (state.txCount > 0) this.drain();
    else if (state.rxCount === 0) this.poll();
    const status =
      (state.rxCount > 0 ? Lsr.DR : 0) |
      (state.overrun ? Lsr.OE : 0) |
      (state.txCount === 0 ? idle : 0);
    if (state.overrun) {
      state.overrun = 0;
      this.update();
    }
    return status;
  }

  private poll(): void {
    this.receiver.poll();
    if (this.state.rxCount > 0) this.update();
  }

  /**
   * The highest cause that is enabled (table IV). The receiver's time-out needs no clock here: the line has gone quiet.
   */
  private cause(): number {
    const state = this.state;
    const ier = state.ier;
    if (ier & Ier.RLSI && state.overrun) return Iir.RLSI;
    if (ier & Ier.RDI && state.rxCount > 0) {
      return this.receiver.triggered() ? Iir.RDI : Iir.RX_TIMEOUT;
    }
    if (ier & Ier.THRI && state.emptied) return Iir.THRI;
    if (ier & Ier.MSI && state.modemChanges) return Iir.MSI;
    return Iir.NO_INT;
  }

  private identify(): number {
    const state = this.state;
    const cause = this.cause();
    if (cause === Iir.THRI) {
      state.emptied = 0;
      this.update();
    }
    return cause | (state.fcr & Fcr.ENABLE_FIFO ? Iir.FIFO_ENABLED : 0);
  }

  /** Enabling the transmitter's interrupt with an empty transmitter raises it at once: drivers start sending so. */
  private enableInterrupts(ier: number): void {
    const state = this.state;
    if (ier & ~state.ier & Ier.THRI) state.emptied = state.txCount === 0 ? 1 : 0;
    state.ier = ier;
    this.receiver.refill();
    this.update();
  }

  /** The other bits count only together with the enable bit; changing that one empties the FIFOs (8.5). */
  private controlFifo(fcr: number): void {
    const state = this.state;
    const enabled = fcr & Fcr.ENABLE_FIFO;
    const switched = enabled !== (state.fcr & Fcr.ENABLE_FIFO);
    if (switched || (enabled && fcr & Fcr.CLEAR_RCVR)) this.receiver.clear();
    state.fcr = enabled ? fcr & (Fcr.ENABLE_FIFO | Fcr.TRIGGER) : 0;
    this.receiver.refill();
    this.update();
  }

  private controlModem(mcr: number): void {
    const state = this.state;
    const before = modemLines(state.mcr);
    const after = modemLines(mcr);
    state.modemChanges |= ((before ^ after) & peerLines) >> 4;
    if (before & ~after & Msr.RI) state.modemChanges |= Msr.TERI;
    state.mcr = mcr;
    this.receiver.refill();
    this.update();
  }

  private modemStatus(): number {
    const state = this.state;
    const changes = state.modemChanges;
    if (changes) {
      state.modemChanges = 0;
      this.update();
    }
    return modemLines(state.mcr) | changes;
  }

  /** Brings the interrupt line in step with the registers. */
  private update(): void {
    const state = this.state;
    const open = (state.mcr & (Mcr.OUT2 | Mcr.LOOP)) === Mcr.OUT2;
    const level = open && this.cause() !== Iir.NO_INT ? 1 : 0;
    if (level === state.line) return;
    state.line = level;
    this.line.set(level === 1);
  }
}

/**
 * MSR bits 7:4. In loopback the modem control outputs come back in (8.8): RTS, DTR, OUT1, OUT2 as CTS, DSR, RI, DCD.
 */
function modemLines(mcr: number): number {
  if (!(mcr & Mcr.LOOP)) return peerLines;
  return (
    (mcr & Mcr.RTS ? Msr.CTS : 0) |
    (mcr & Mcr.DTR ? Msr.DSR : 0) |
    (mcr & Mcr.OUT1 ? Msr.RI : 0) |
    (mcr & Mcr.OUT2 ? Msr.DCD : 0)
  );
}
