/**
 * 16550A serial port: National Semiconductor PC16550D data sheet (June 1995), section 8 "Registers". On a PC the OUT2
 * pin opens the way from the INTR pin to the bus, and the modem control pins are inactive in loopback (8.8).
 *
 * The line is infinitely fast and has no errors: an overrun occurs only in loopback. What the output cannot take stays
 * in the transmitter's FIFO and keeps THRE and TEMT low, so the guest waits and nothing is lost: neither clearing the
 * FIFO nor a machine reset discards those bytes, which the line would have carried away by then.
 *
 * Host input waits in its ring until a driver wants it, as from a peer that heeds flow control: while IER.RDI is set,
 * or once a polling driver has found an idle line `pollsToListen` times running without a write. Without this, what
 * is piped in at start would be thrown away by the driver's own set-up, which clears the FIFO and reads RX.
 *
 * Methods are `private` rather than `#`: the engine checks a brand at each call of the latter, which tripled the cost of
 * a THR write (measured, Bun 1.4.5).
 *
 * Not modelled: the divisor's effect, DMA mode, writes to LSR and MSR (the data sheet's factory tests).
 */
import type { AccessSize, BusDevice, ByteSink, InterruptLine } from "../../bus/device.ts";
import type { ByteSource } from "../../bus/rings.ts";
import { bytes, type Of, struct, u8 } from "../../ffi/struct.ts";
import { readByBytes, writeByBytes } from "./byte-lanes.ts";
import { Fcr, Ier, Iir, Lcr, Lsr, Mcr, Msr, Reg } from "./serial-registers.ts";

const fifoSize = 16;
const fifoMask = fifoSize - 1;
/** Linux's set-up reads LSR some six times between two writes; a driver that waits for input reads nothing else. */
const pollsToListen = 16;
const idle = Lsr.THRE | Lsr.TEMT;
/** A peer is there and ready; nobody rings. */
const peerLines = Msr.DCD | Msr.DSR | Msr.CTS;
/** 115200 baud. Never 0: Linux divides by it when `console=ttyS0` names no speed. */
const defaultDivisor = 1;

export const SerialState = struct("serial-state", 48, {
  ier: u8,
  fcr: u8,
  lcr: u8,
  mcr: u8,
  scr: u8,
  dll: u8,
  dlm: u8,
  /** LSR.OE until it is read. */
  overrun: u8,
  /** MSR bits 3:0 until they are read. */
  modemChanges: u8,
  /** The transmitter became empty, and neither a read of IIR nor a write of TX has followed. */
  emptied: u8,
  /** What the interrupt line was last set to. */
  line: u8,
  /** Reads of LSR that found an idle line since the last write, up to `pollsToListen`. */
  idlePolls: u8,
  rxHead: u8,
  rxCount: u8,
  txHead: u8,
  txCount: u8,
  rx: bytes(fifoSize),
  tx: bytes(fifoSize),
});

export class Serial implements BusDevice {
  private readonly rx: Uint8Array;
  private readonly tx: Uint8Array;

  constructor(
    readonly state: Of<typeof SerialState>,
    readonly line: InterruptLine,
    readonly output: ByteSink,
    readonly input: ByteSource,
  ) {
    this.rx = state.rx;
    this.tx = state.tx;
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
    if (this.listening()) this.refill();
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
    state.rxHead = state.rxCount = 0;
    this.update();
  }

  private transmit(byte: number): void {
    const state = this.state;
    if (state.mcr & Mcr.LOOP) this.loop(byte);
    else this.send(byte);
    state.emptied = state.txCount === 0 ? 1 : 0;
    this.update();
  }

  /** To the output, in order. A driver that writes a full transmitter without looking at LSR loses the byte. */
  private send(byte: number): void {
    const state = this.state;
    if (state.txCount > 0) this.drain();
    if (state.txCount === 0 && this.output.push(byte)) return;
    if (state.txCount === fifoSize) return;
    this.tx[(state.txHead + state.txCount) & fifoMask] = byte;
    state.txCount++;
  }

  private drain(): void {
    const state = this.state;
    while (state.txCount > 0) {
      if (!this.output.push(this.tx[state.txHead & fifoMask]!)) return;
      state.txHead = (state.txHead + 1) & fifoMask;
      state.txCount--;
    }
    state.emptied = 1;
    this.update();
  }

  private listening(): boolean {
    const state = this.state;
    return (state.ier & Ier.RDI) !== 0 || state.idlePolls === pollsToListen;
  }

  private capacity(): number {
    return this.state.fcr & Fcr.ENABLE_FIFO ? fifoSize : 1;
  }

  /** From the input ring into the receiver, as far as there is room. In loopback the SIN pin is disconnected. */
  private refill(): void {
    const state = this.state;
    if (state.mcr & Mcr.LOOP) return;
    while (state.rxCount < this.capacity()) {
      const byte = this.input.pop();
      if (byte < 0) return;
      this.append(byte);
    }
  }

  private append(byte: number): void {
    const state = this.state;
    this.rx[(state.rxHead + state.rxCount) & fifoMask] = byte;
    state.rxCount++;
  }

  /** A full FIFO keeps what it has, a full holding register takes the newer byte (8.4, bit 1). */
  private loop(byte: number): void {
    const state = this.state;
    if (state.rxCount < this.capacity()) {
      this.append(byte);
      return;
    }
    state.overrun = 1;
    if (this.capacity() === 1) this.rx[state.rxHead & fifoMask] = byte;
  }

  private receive(): number {
    const state = this.state;
    if (state.rxCount === 0) return 0;
    const byte = this.rx[state.rxHead & fifoMask]!;
    state.rxHead = (state.rxHead + 1) & fifoMask;
    state.rxCount--;
    if (this.listening()) this.refill();
    this.update();
    return byte;
  }

  private lineStatus(): number {
    const state = this.state;
    if (state.txCount > 0) this.drain();
    else if (state.rxCount === 0) this.pollIdle();
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

  private pollIdle(): void {
    const state = this.state;
    if (state.idlePolls < pollsToListen) state.idlePolls++;
    else this.refill();
  }

  /** The highest cause that is enabled (table IV). The receiver's time-out needs no clock here: the line has gone quiet. */
  private cause(): number {
    const state = this.state;
    const ier = state.ier;
    if (ier & Ier.RLSI && state.overrun) return Iir.RLSI;
    if (ier & Ier.RDI && state.rxCount > 0) {
      return state.rxCount >= this.trigger() ? Iir.RDI : Iir.RX_TIMEOUT;
    }
    if (ier & Ier.THRI && state.emptied) return Iir.THRI;
    if (ier & Ier.MSI && state.modemChanges) return Iir.MSI;
    return Iir.NO_INT;
  }

  /** Bytes in the receiver at which it interrupts: 1, 4, 8 or 14 with FIFOs on. */
  private trigger(): number {
    switch (this.state.fcr & Fcr.TRIGGER) {
      case 0x40:
        return 4;
      case 0x80:
        return 8;
      case 0xc0:
        return 14;
      default:
        return 1;
    }
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
    if (ier & Ier.RDI) this.refill();
    this.update();
  }

  /** The other bits count only together with the enable bit; changing that one empties the FIFOs (8.5). */
  private controlFifo(fcr: number): void {
    const state = this.state;
    const enabled = fcr & Fcr.ENABLE_FIFO;
    if (fcr & (enabled * Fcr.CLEAR_RCVR) || enabled !== (state.fcr & Fcr.ENABLE_FIFO)) {
      state.rxHead = state.rxCount = 0;
    }
    state.fcr = enabled ? fcr & (Fcr.ENABLE_FIFO | Fcr.TRIGGER) : 0;
    if (this.listening()) this.refill();
    this.update();
  }

  private controlModem(mcr: number): void {
    const state = this.state;
    const before = modemLines(state.mcr);
    const after = modemLines(mcr);
    state.modemChanges |= ((before ^ after) & peerLines) >> 4;
    if (before & ~after & Msr.RI) state.modemChanges |= Msr.TERI;
    state.mcr = mcr;
    if (this.listening()) this.refill();
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

/** MSR bits 7:4. In loopback the modem control outputs come back in (8.8): RTS, DTR, OUT1, OUT2 as CTS, DSR, RI, DCD. */
function modemLines(mcr: number): number {
  if (!(mcr & Mcr.LOOP)) return peerLines;
  return (
    (mcr & Mcr.RTS ? Msr.CTS : 0) |
    (mcr & Mcr.DTR ? Msr.DSR : 0) |
    (mcr & Mcr.OUT1 ? Msr.RI : 0) |
    (mcr & Mcr.OUT2 ? Msr.DCD : 0)
  );
}
