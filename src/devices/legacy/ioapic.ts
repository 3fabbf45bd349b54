/**
 * I/O APIC: Intel 82093AA data sheet (order number 290566, May 1996), section 3, with 24 pins and the version number
 * 0x20 of later ones, which brings the EOI register (Intel 82801 "ICH" data sheets, "APIC Indirect Registers").
 *
 * A redirection entry is two 32-bit halves in the state, `low` with vector, modes and mask, `high` with the
 * destination. Delivery goes by MSI: the local APICs understand the same fields in a message (Intel SDM volume 3,
 * 11.11), so delivery is at once and the delivery status bit always reads idle.
 *
 * - A pin's input level is kept here, in `asserted`; polarity is not looked at: asserted is asserted.
 * - Edges on a masked pin are "ignored (i.e., not delivered or held pending)" (3.2.4, interrupt mask). KVM's and QEMU's
 *   models do the same: unmasking delivers what is asserted on level pins alone.
 * - A level pin that stays asserted is delivered again at each end of interrupt, without the pause that KVM's in-kernel
 *   model makes after 10,000 in a row: here each delivery costs the guest an exit, and Linux disables such a pin.
 *
 * The caller holds this device's lock around every method; `IoapicPin` takes it for devices that own a pin.
 */
import type { AccessSize, BusDevice, InterruptLine } from "../../bus/device.ts";
import type { DeviceLock } from "../../bus/mapping.ts";
import { array, type Of, struct, u32 } from "../../ffi/struct.ts";

const pins = 24;
const version = 0x20;
/** Offsets from the base. */
const select = 0x00;
const window = 0x10;
const endOfInterruptRegister = 0x40;
/** Indices behind the window. */
const Index = { id: 0, version: 1, arbitration: 2, redirection: 0x10 } as const;

/** Bits of an entry's low half. */
const Entry = {
  vector: 0xff,
  deliveryMode: 0x700,
  logicalDestination: 0x800,
  remoteIrr: 0x4000,
  level: 0x8000,
  masked: 0x1_0000,
  /** All but the delivery status (12), the remote IRR (14) and the reserved bits. */
  writable: 0x1_afff,
} as const;
const idBits = 0x0f00_0000;
const destinationBits = 0xff00_0000;
const messageBase = 0xfee0_0000;
/** Level-triggered (15), asserted (14). */
const levelMessage = 0xc000;

export const IoapicState = struct("ioapic-state", 396, {
  select: u32,
  id: u32,
  /** Bit n: pin n's input is asserted. */
  asserted: u32,
  low: array(u32, pins),
  high: array(u32, pins),
  /** Each entry as `routes` was last told of it; masked when it never was. */
  routedLow: array(u32, pins),
  routedHigh: array(u32, pins),
});

/** Sends a message-signalled interrupt now. */
export interface MessageSink {
  send(address: number, data: number): void;
}

/**
 * Hears of an unmasked pin whose message is not the one it was last told of, before anything is delivered by it.
 * Masking is not told: an interrupt in service must still report its end, and drivers mask and unmask at each
 * interrupt.
 */
export interface RouteListener {
  changed(pin: number): void;
}

export class Ioapic implements BusDevice {
  private readonly low: Uint32Array;
  private readonly high: Uint32Array;
  private readonly routedLow: Uint32Array;
  private readonly routedHigh: Uint32Array;

  /** `state` lies on a multiple of 4 bytes. */
  constructor(
    readonly state: Of<typeof IoapicState>,
    readonly messages: MessageSink,
    readonly routes: RouteListener,
  ) {
    const entries = (offset: number) =>
      new Uint32Array(state.view.buffer, state.view.byteOffset + state.at + offset, pins);
    this.low = entries(IoapicState.offsets.low);
    this.high = entries(IoapicState.offsets.high);
    this.routedLow = entries(IoapicState.offsets.routedLow);
    this.routedHigh = entries(IoapicState.offsets.routedHigh);
  }

  /** Narrow reads give the low part of a register. */
  read(offset: number, size: AccessSize): number {
    const value =
      offset === select ? this.state.select : offset === window ? this.readIndirect() : 0;
    return size === 4 ? value : value & (size === 2 ? 0xffff : 0xff);
  }

  /** The window takes 32-bit writes alone; of the other two only the low byte counts. */
  write(offset: number, size: AccessSize, value: number): void {
    if (offset === select) this.state.select = value & 0xff;
    else if (offset === window && size === 4) this.writeIndirect(value);
    else if (offset === endOfInterruptRegister) this.endOfInterrupt(value & 0xff);
  }

  /**
   * A pin's input. An edge pin delivers when it becomes asserted, a level pin whenever it is and none is in service.
   */
  set(pin: number, asserted: boolean): void {
    const state = this.state;
    const bit = 1 << pin;
    const before = state.asserted;
    if (!asserted) {
      state.asserted = before & ~bit;
      return;
    }
    if (before & bit) return;
    state.asserted = before | bit;
    const low = this.low[pin]!;
    if (low & Entry.masked) return;
    if (low & Entry.level) this.deliverLevel(pin);
    else this.send(pin);
  }

  /** A processor has ended an interrupt of this vector: level pins that raised it may raise it again. */
  endOfInterrupt(vector: number): void {
    for (let pin = 0; pin < pins; pin++) {
      const low = this.low[pin]!;
      if (!(low & Entry.remoteIrr) || (low & Entry.vector) !== vector) continue;
      this.low[pin] = low & ~Entry.remoteIrr;
      this.deliverLevel(pin);
    }
  }

  masked(pin: number): boolean {
    return (this.low[pin]! & Entry.masked) !== 0;
  }

  /** Address of the message that a pin sends: destination and destination mode. */
  messageAddress(pin: number): number {
    const logical = this.low[pin]! & Entry.logicalDestination ? 4 : 0;
    return (messageBase | ((this.high[pin]! >>> 24) << 12) | logical) >>> 0;
  }

  /** Data of that message: vector, delivery mode, trigger mode. */
  messageData(pin: number): number {
    const low = this.low[pin]!;
    return (low & (Entry.vector | Entry.deliveryMode)) | (low & Entry.level ? levelMessage : 0);
  }

  /** All entries masked, identification 0 (3.2). The routing table is its owner's to clear. */
  reset(): void {
    const state = this.state;
    state.select = state.id = state.asserted = 0;
    this.low.fill(Entry.masked);
    this.high.fill(0);
    this.routedLow.fill(Entry.masked);
    this.routedHigh.fill(0);
  }

  private readIndirect(): number {
    const index = this.state.select;
    const pin = (index - Index.redirection) >> 1;
    if (pin >= 0 && pin < pins) return (index & 1 ? this.high : this.low)[pin]!;
    if (index === Index.id || index === Index.arbitration) return this.state.id;
    if (index === Index.version) return ((pins - 1) << 16) | version;
    return 0;
  }

  private writeIndirect(value: number): void {
    const index = this.state.select;
    const pin = (index - Index.redirection) >> 1;
    if (index === Index.id) this.state.id = value & idBits;
    else if (pin < 0 || pin >= pins) return;
    else if (index & 1) {
      this.high[pin] = value & destinationBits;
      this.settle(pin);
    } else {
      this.writeLow(pin, value);
    }
  }

  /** Software without the EOI register clears a remote IRR by switching the pin to edge and back (Linux does). */
  private writeLow(pin: number, value: number): void {
    const remoteIrr = value & Entry.level ? this.low[pin]! & Entry.remoteIrr : 0;
    this.low[pin] = (value & Entry.writable) | remoteIrr;
    this.settle(pin);
  }

  /** After an entry was written: tells the routes, then delivers a level that waited. */
  private settle(pin: number): void {
    const low = this.low[pin]! & ~Entry.remoteIrr;
    if (low & Entry.masked) return;
    const high = this.high[pin]!;
    if (low !== this.routedLow[pin]! || high !== this.routedHigh[pin]!) {
      this.routedLow[pin] = low;
      this.routedHigh[pin] = high;
      this.routes.changed(pin);
    }
    if (low & Entry.level) this.deliverLevel(pin);
  }

  private deliverLevel(pin: number): void {
    const low = this.low[pin]!;
    if (low & (Entry.masked | Entry.remoteIrr) || !(this.state.asserted & (1 << pin))) return;
    this.low[pin] = low | Entry.remoteIrr;
    this.send(pin);
  }

  private send(pin: number): void {
    this.messages.send(this.messageAddress(pin), this.messageData(pin));
  }
}

/**
 * One pin, as the device that drives it sees it. That device's lock is held already; the IOAPIC's comes after it in
 * the lock order.
 */
export class IoapicPin implements InterruptLine {
  constructor(
    readonly ioapic: Ioapic,
    readonly pin: number,
    readonly lock: DeviceLock,
  ) {}

  set(asserted: boolean): void {
    this.lock.acquire();
    try {
      this.ioapic.set(this.pin, asserted);
    } finally {
      this.lock.release();
    }
  }
}
