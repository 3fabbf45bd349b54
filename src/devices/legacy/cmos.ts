/**
 * The real-time clock and CMOS memory of a PC, ports 0x70 (index) and 0x71 (data): Motorola MC146818 data sheet (1984),
 * with the century at 0x32 and the memory sizes where a PC's BIOS leaves them (RBIL's CMOS.LST; 0x5b to 0x5d as
 * SeaBIOS and QEMU have them).
 *
 * The clock is the host's wall clock plus an offset, which is what a guest sets. Time is computed when it is asked for;
 * flags are brought up to date then, too, and a timer runs only for an interrupt that is enabled and not yet pending.
 * The update takes the last millisecond of each second (the data sheet allows 2.2 ms): a guest that waits for UIP
 * to fall waits that long at most, one that waits for it to rise a second.
 *
 * While SET is on or the divider is held in reset, the time's bytes are plain memory; letting go takes the time from
 * them. After a divider reset the first update comes half a second later. Not modelled: square wave, daylight saving.
 */
import type { AccessSize, BusDevice, Clock, InterruptLine, Timer } from "../../bus/device.ts";
import { bytes, f64, type Of, struct, u8 } from "../../ffi/struct.ts";
import { readByBytes, writeByBytes } from "./byte-lanes.ts";
import { loadTime, nextAlarm, storeTime, TimeByte } from "./cmos-time.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

/** Ports from the base. */
const indexPort = 0;
const Register = { A: 0x0a, B: 0x0b, C: 0x0c, D: 0x0d } as const;
/** Register A. */
const A = { updateInProgress: 0x80, rate: 0x0f, dividerReset: 0x60, powerOn: 0x26 } as const;
/** Register B; its interrupt enables lie where register C has the flags. */
const B = { SET: 0x80, UIE: 0x10, hours24: 0x02 } as const;
/** Register C: periodic, alarm, update-ended, and whether any of them interrupts. */
const C = { PF: 0x40, AF: 0x20, UF: 0x10, IRQF: 0x80, flags: 0x70 } as const;
/** Register D: the battery is good. */
const validRam = 0x80;
const updateMs = 999;
const secondsPerHalf = 0.5;

export const CmosState = struct("cmos-state", 168, {
  /** Guest's time minus the host's. */
  offsetMs: f64,
  /** The last second, since 1970 on the guest's clock, whose update the flags have seen. */
  second: f64,
  /** The same for the periodic ticks, counted from the monotonic clock's zero. */
  tick: f64,
  /** What the timer is armed for; 0 is nothing. */
  deadlineNs: f64,
  index: u8,
  /** What the interrupt line was last set to. */
  line: u8,
  /** By address, the time's bytes only while the clock stands still; C without IRQF. */
  ram: bytes(128),
});

/** Guest RAM in bytes, on both sides of the 32-bit hole. */
export interface RamSize {
  readonly below4GiB: number;
  readonly above4GiB: number;
}

export class Cmos implements BusDevice {
  private readonly ram: Uint8Array;

  constructor(
    readonly state: Of<typeof CmosState>,
    readonly line: InterruptLine,
    readonly clock: Clock,
    readonly timer: Timer,
    readonly ramSize: RamSize,
  ) {
    this.ram = state.ram;
  }

  /** The index port is write-only. */
  read(offset: number, size: AccessSize): number {
    if (size !== 1) return readByBytes(this, offset, size);
    return offset === indexPort ? 0xff : this.readData(this.state.index & 0x7f);
  }

  /** Bit 7 of the index is the NMI mask, which gates nothing here. */
  write(offset: number, size: AccessSize, value: number): void {
    if (size !== 1) writeByBytes(this, offset, size, value);
    else if (offset === indexPort) this.state.index = value;
    else this.writeData(this.state.index & 0x7f, value);
  }

  /** The timer is due. Under the device's lock. */
  timerExpired(): void {
    this.state.deadlineNs = 0;
    this.advance();
    this.update();
  }

  /** As after a machine reset: what a battery keeps, the time and the memory, stays. */
  reset(): void {
    const { ram, state } = this;
    state.index = 0;
    ram[Register.A] = A.powerOn;
    ram[Register.B] = B.hours24;
    ram[Register.C] = 0;
    storeMemorySizes(ram, this.ramSize);
    state.second = this.seconds();
    state.tick = this.ticks();
    this.update();
  }

  private readData(address: number): number {
    switch (address) {
      case Register.A:
        return this.ram[Register.A]! | (this.updating() ? A.updateInProgress : 0);
      case Register.C:
        return this.takeFlags();
      case Register.D:
        return validRam;
      default:
        if (isTime(address) && !this.halted()) storeTime(this.ram, this.nowMs(), this.b());
        return this.ram[address]!;
    }
  }

  private writeData(address: number, value: number): void {
    if (address === Register.C || address === Register.D) return;
    if (address === Register.A) this.control(address, value & ~A.updateInProgress);
    else if (address === Register.B) this.control(address, value & B.SET ? value & ~B.UIE : value);
    else if (isTime(address) && !this.halted()) this.setTimeByte(address, value);
    else {
      this.advance();
      this.ram[address] = value;
      this.update();
    }
  }

  /** A write of register A or B: may stop the clock, start it, and change what interrupts. */
  private control(register: number, value: number): void {
    this.advance();
    const wasHalted = this.halted();
    const wasReset = this.dividerReset();
    this.ram[register] = value;
    if (this.halted() && !wasHalted) storeTime(this.ram, this.nowMs(), this.b());
    if (wasHalted && !this.halted())
      this.setTime(wasReset ? secondsPerHalf * 1000 : this.phaseMs());
    this.state.tick = this.ticks();
    this.update();
  }

  private setTimeByte(address: number, value: number): void {
    this.advance();
    storeTime(this.ram, this.nowMs(), this.b());
    this.ram[address] = value;
    this.setTime(this.phaseMs());
    this.update();
  }

  /** Takes the time from its bytes, `phaseMs` into the second. */
  private setTime(phaseMs: number): void {
    this.state.offsetMs = loadTime(this.ram, this.b()) + phaseMs - this.clock.wallMs();
    this.state.second = this.seconds();
  }

  private takeFlags(): number {
    this.advance();
    const flags = this.ram[Register.C]!;
    this.ram[Register.C] = 0;
    this.update();
    return flags | (flags & this.b() & C.flags ? C.IRQF : 0);
  }

  /** Sets the flags of everything that has happened since the last call. */
  private advance(): void {
    const { ram, state } = this;
    const tick = this.ticks();
    if (tick !== state.tick) ram[Register.C]! |= C.PF;
    state.tick = tick;
    const second = this.seconds();
    if (second > state.second && !this.halted()) {
      ram[Register.C]! |= C.UF;
      if (nextAlarm(ram, state.second, this.b()) <= second) ram[Register.C]! |= C.AF;
    }
    state.second = second;
  }

  /** Brings the interrupt line and the timer in step with the registers. */
  private update(): void {
    const state = this.state;
    const level = this.ram[Register.C]! & this.b() & C.flags ? 1 : 0;
    if (level !== state.line) {
      state.line = level;
      this.line.set(level === 1);
    }
    const deadlineNs = level ? 0 : this.nextInterruptNs();
    if (deadlineNs === 0 && state.deadlineNs === 0) return;
    state.deadlineNs = deadlineNs;
    this.timer.arm(deadlineNs);
  }

  /** When the next enabled interrupt is due, on the monotonic clock; 0 for never. */
  private nextInterruptNs(): number {
    const b = this.b();
    let next = Number.POSITIVE_INFINITY;
    if (b & C.PF && this.periodNs() > 0) next = (this.state.tick + 1) * this.periodNs();
    if (b & (C.AF | C.UF) && !this.halted()) {
      const now = this.seconds();
      const second = b & C.UF ? now + 1 : nextAlarm(this.ram, now, b);
      const waitMs = second * 1000 - this.nowMs();
      next = Math.min(next, this.clock.monotonicNs() + waitMs * 1e6);
    }
    return Number.isFinite(next) ? Math.ceil(next) : 0;
  }

  private b(): number {
    return this.ram[Register.B]!;
  }

  private dividerReset(): boolean {
    return (this.ram[Register.A]! & A.dividerReset) === A.dividerReset;
  }

  private halted(): boolean {
    return (this.b() & B.SET) !== 0 || this.dividerReset();
  }

  private updating(): boolean {
    return !this.halted() && this.phaseMs() >= updateMs;
  }

  private nowMs(): number {
    return this.clock.wallMs() + this.state.offsetMs;
  }

  private seconds(): number {
    return Math.floor(this.nowMs() / 1000);
  }

  private phaseMs(): number {
    return this.nowMs() - this.seconds() * 1000;
  }

  /** Of the periodic interrupt (table 5, 32.768 kHz): 0 when it is off, else 122 µs to 500 ms. */
  private periodNs(): number {
    const rate = this.ram[Register.A]! & A.rate;
    if (rate === 0 || this.dividerReset()) return 0;
    return (2 ** (rate < 3 ? rate + 6 : rate - 1) * 1e9) / 32_768;
  }

  private ticks(): number {
    const periodNs = this.periodNs();
    return periodNs === 0 ? 0 : Math.floor(this.clock.monotonicNs() / periodNs);
  }
}

/** The alarm's bytes are plain memory. */
function isTime(address: number): boolean {
  if (address > TimeByte.year) return address === TimeByte.century;
  return address >= TimeByte.weekday || (address & 1) === 0;
}

function storeMemorySizes(ram: Uint8Array, { below4GiB, above4GiB }: RamSize): void {
  const extended = Math.min(Math.max(below4GiB - MiB, 0) / KiB, 0xffff);
  store(ram, 0x15, 2, Math.min(below4GiB / KiB, 640));
  store(ram, 0x17, 2, extended);
  store(ram, 0x30, 2, extended);
  store(ram, 0x34, 2, Math.min(Math.max(below4GiB - 16 * MiB, 0) / (64 * KiB), 0xffff));
  store(ram, 0x5b, 3, Math.min(above4GiB / (64 * KiB), 0xff_ffff));
}

/** A number of `length` bytes, lowest first. */
function store(ram: Uint8Array, address: number, length: number, value: number): void {
  for (let i = 0; i < length; i++) ram[address + i] = Math.trunc(value) >>> (8 * i);
}
