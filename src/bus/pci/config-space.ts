/**
 * The configuration space of one PCI function (PCI Local Bus 3.0, chapter 6): 256 bytes in shared memory, of which a
 * mask says what the guest may write. What the function is, is declared before its first reset and is the same in every
 * thread; constructing one writes nothing.
 */
import { bytes, type Of, struct } from "../../ffi/struct.ts";
import type { AccessSize, BusDevice } from "../device.ts";
import { configBytes, headerEnd, Pci, PciBar, PciCommand, PciStatus } from "./registers.ts";

export const PciConfigState = struct(
  "pci-config",
  configBytes,
  { data: bytes(configBytes) },
  { align: 4 },
);

/** A memory BAR: `size` bytes, a power of two of at least 16. A 64-bit one takes this index and the next. */
export interface BarSpec {
  readonly index: number;
  readonly size: number;
  readonly is64: boolean;
  readonly prefetchable: boolean;
}

const lastOf = (bar: BarSpec): number => bar.index + (bar.is64 ? 1 : 0);

/** No x86 processor has more than 52 bits of physical address (Intel SDM volume 3, 4.1.4). */
const physicalEnd = 2 ** 52;

export interface PciIdentity {
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor: number;
  readonly subsystem: number;
  /** 24 bits: class, subclass, programming interface. */
  readonly classCode: number;
  readonly revision: number;
}

export class PciConfigSpace implements BusDevice {
  /** What reset puts there. */
  private readonly initial = new Uint8Array(configBytes);
  /** Bits that the guest may write. */
  private readonly writable = new Uint8Array(configBytes);
  private readonly bars: BarSpec[] = [];
  private readonly capabilities: number[] = [];
  private readonly lengths: number[] = [];
  private readonly data: Uint8Array;
  private readonly view: DataView;

  constructor(
    readonly state: Of<typeof PciConfigState>,
    identity: PciIdentity,
  ) {
    this.data = state.data;
    this.view = new DataView(this.data.buffer, this.data.byteOffset, configBytes);
    const initial = new DataView(this.initial.buffer);
    initial.setUint16(Pci.VENDOR_ID, identity.vendor, true);
    initial.setUint16(Pci.DEVICE_ID, identity.device, true);
    initial.setUint32(Pci.CLASS_REVISION, identity.classCode * 256 + identity.revision, true);
    initial.setUint16(Pci.SUBSYSTEM_VENDOR_ID, identity.subsystemVendor, true);
    initial.setUint16(Pci.SUBSYSTEM_ID, identity.subsystem, true);
    this.allow(Pci.COMMAND, 2, PciCommand.MEMORY | PciCommand.MASTER | PciCommand.INTX_DISABLE);
    this.allow(Pci.INTERRUPT_LINE, 1, 0xff);
  }

  /** Gives the function an interrupt pin: 1 is INTA. */
  setInterruptPin(pin: number): void {
    this.initial[Pci.INTERRUPT_PIN] = pin;
  }

  addBar(bar: BarSpec): void {
    const { index, size, is64, prefetchable } = bar;
    const most = is64 ? 2 ** 51 : 2 ** 31;
    if (size < 16 || size > most || !Number.isInteger(Math.log2(size))) {
      throw new RangeError(`PCI: no BAR of ${size} bytes`);
    }
    const taken = this.bars.some(
      (other) => index < lastOf(other) + 1 && lastOf(bar) >= other.index,
    );
    if (taken || index < 0 || lastOf(bar) > 5)
      throw new RangeError(`PCI: no room for BAR ${index}`);
    const at = Pci.BASE_ADDRESS_0 + index * 4;
    this.initial[at] = (is64 ? PciBar.MEM_TYPE_64 : 0) | (prefetchable ? PciBar.MEM_PREFETCH : 0);
    const low = size > 0xffff_ffff ? 0 : ~(size - 1) >>> 0;
    this.allow(at, 4, (low & ~0xf) >>> 0);
    if (is64) {
      const high = ~(Math.max(1, Math.floor(size / 0x1_0000_0000)) - 1) >>> 0;
      this.allow(at + 4, 4, high);
    }
    this.bars.push(bar);
  }

  /**
   * Appends a capability; `body` is what follows its id and link, `mask` what of it the guest may write. Its offset
   * comes back.
   */
  addCapability(id: number, body: Uint8Array, mask?: Uint8Array): number {
    const last = this.capabilities[this.capabilities.length - 1];
    const at = last === undefined ? headerEnd : this.end;
    if (at + 2 + body.length > configBytes) throw new RangeError("PCI: no room for a capability");
    this.initial[last === undefined ? Pci.CAPABILITY_LIST : last + 1] = at;
    this.initial[at] = id;
    this.initial.set(body, at + 2);
    if (mask) this.writable.set(mask, at + 2);
    this.initial[Pci.STATUS] = PciStatus.CAP_LIST;
    this.capabilities.push(at);
    this.lengths.push(2 + body.length);
    return at;
  }

  /** The first free dword behind the last capability. */
  private get end(): number {
    const last = this.capabilities.length - 1;
    return (this.capabilities[last]! + this.lengths[last]! + 3) & ~3;
  }

  private allow(at: number, size: number, mask: number): void {
    for (let i = 0; i < size; i++) this.writable[at + i] = (mask >>> (8 * i)) & 0xff;
  }

  reset(): void {
    this.data.set(this.initial);
  }

  read(offset: number, size: AccessSize): number {
    if (offset + size > configBytes) return 0; // extended space without capabilities reads zero
    if (size === 4) return this.view.getUint32(offset, true);
    return size === 2 ? this.view.getUint16(offset, true) : this.view.getUint8(offset);
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (offset + size > configBytes) return;
    for (let i = 0; i < size; i++) {
      const mask = this.writable[offset + i]!;
      const byte = (value >>> (8 * i)) & 0xff;
      this.data[offset + i] = (this.data[offset + i]! & ~mask) | (byte & mask);
    }
  }

  /** Sets or clears a bit that the guest cannot write, such as the interrupt status. */
  setStatus(bit: number, on: boolean): void {
    const status = this.view.getUint16(Pci.STATUS, true);
    this.view.setUint16(Pci.STATUS, on ? status | bit : status & ~bit, true);
  }

  get decodesMemory(): boolean {
    return (this.view.getUint16(Pci.COMMAND, true) & PciCommand.MEMORY) !== 0;
  }

  get interruptsDisabled(): boolean {
    return (this.view.getUint16(Pci.COMMAND, true) & PciCommand.INTX_DISABLE) !== 0;
  }

  /** Where the function answers for a BAR; undefined while it does not, or where no processor reaches. */
  decodedAddress(index: number): number | undefined {
    if (!this.decodesMemory) return undefined;
    const bar = this.bars.find((spec) => spec.index === index);
    const address = this.barAddress(index);
    return bar && address + bar.size <= physicalEnd ? address : undefined;
  }

  /** The address that a BAR holds; whether the function answers there is `decodesMemory`. */
  barAddress(index: number): number {
    const at = Pci.BASE_ADDRESS_0 + index * 4;
    const low = (this.view.getUint32(at, true) & ~0xf) >>> 0;
    const is64 = (this.initial[at]! & PciBar.MEM_TYPE_64) !== 0;
    return is64 ? this.view.getUint32(at + 4, true) * 0x1_0000_0000 + low : low;
  }

  /** Turns memory decode on, as firmware would have. */
  decodeMemory(): void {
    const command = this.view.getUint16(Pci.COMMAND, true);
    this.view.setUint16(Pci.COMMAND, command | PciCommand.MEMORY, true);
  }

  /** Puts a BAR where firmware would have. */
  placeBar(index: number, address: number): void {
    const at = Pci.BASE_ADDRESS_0 + index * 4;
    const flags = this.initial[at]! & 0xf;
    this.view.setUint32(at, (address % 0x1_0000_0000) + flags, true);
    if (flags & PciBar.MEM_TYPE_64) {
      this.view.setUint32(at + 4, Math.floor(address / 0x1_0000_0000), true);
    }
  }

  get barSpecs(): readonly BarSpec[] {
    return this.bars;
  }
}
