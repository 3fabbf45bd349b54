/**
 * The 16550A's registers and their bits, under the names of linux/serial_reg.h without its prefix; and the state of the
 * model in shared memory.
 */
import { bytes, struct, u8 } from "../../ffi/struct.ts";

/**
 * Ports from the base. RX, IIR are read where TX, FCR are written; DLL and DLM take the place of ports 0 and 1 while
 * LCR.DLAB is set.
 */
export const Reg = {
  RX: 0,
  TX: 0,
  DLL: 0,
  IER: 1,
  DLM: 1,
  IIR: 2,
  FCR: 2,
  LCR: 3,
  MCR: 4,
  LSR: 5,
  MSR: 6,
  SCR: 7,
} as const;

/** Interrupt enable. */
export const Ier = { RDI: 0x01, THRI: 0x02, RLSI: 0x04, MSI: 0x08 } as const;

/** Interrupt identification: one number in bits 3:0, not flags; bits 7:6 say that the FIFOs are on. */
export const Iir = {
  MSI: 0x00,
  NO_INT: 0x01,
  THRI: 0x02,
  RDI: 0x04,
  RLSI: 0x06,
  RX_TIMEOUT: 0x0c,
  FIFO_ENABLED: 0xc0,
} as const;

/** FIFO control. Bits 7:6 choose the receiver's trigger level. */
export const Fcr = {
  ENABLE_FIFO: 0x01,
  CLEAR_RCVR: 0x02,
  CLEAR_XMIT: 0x04,
  TRIGGER: 0xc0,
} as const;

export const Lcr = { DLAB: 0x80 } as const;

/** Modem control. */
export const Mcr = { DTR: 0x01, RTS: 0x02, OUT1: 0x04, OUT2: 0x08, LOOP: 0x10 } as const;

/** Line status. The receiver's other errors never occur. */
export const Lsr = { DR: 0x01, OE: 0x02, THRE: 0x20, TEMT: 0x40 } as const;

/** Modem status: the changes since the last read, and the lines. */
export const Msr = {
  DCTS: 0x01,
  DDSR: 0x02,
  TERI: 0x04,
  DDCD: 0x08,
  CTS: 0x10,
  DSR: 0x20,
  RI: 0x40,
  DCD: 0x80,
} as const;

export const fifoSize = 16;
/** Reads of LSR in a row, see `Receiver.poll`. */
export const pollsToListen = 16;

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
