/**
 * PCI bus 0 of a segment: 32 devices of one function each, reached through configuration mechanism 1 (ports 0xcf8 and
 * 0xcfc, PCI Local Bus 3.0 section 3.2.2.3.2) and through MMCONFIG (PCI Express Base 4.0 section 7.2.2). The bus's lock
 * covers the configuration space of every function on it; the bus takes it itself, so its ports are mapped without one.
 */
import { type Of, struct, u32 } from "../../ffi/struct.ts";
import type { AccessSize, BusDevice } from "../device.ts";
import type { DeviceLock } from "../mapping.ts";
import type { PciConfigSpace } from "./config-space.ts";
import { extendedConfigBytes, Pci } from "./registers.ts";

export const deviceCount = 32;
const functionsPerDevice = 8;
const allOnes = { 1: 0xff, 2: 0xffff, 4: 0xffff_ffff } as const;

/** A function on the bus. */
export interface PciFunction {
  readonly config: PciConfigSpace;
  /** Configuration space has been written: `offset` and `size` say where. Called under the bus's lock. */
  configWritten(offset: number, size: AccessSize): void;
  /**
   * Another function answers in [start, end): what this one has there without answering there itself, such as
   * ioeventfds from where its BAR was, goes. Called under the bus's lock.
   */
  vacate?(start: number, end: number): void;
  readonly window?: PciWindow;
}

/**
 * Four bytes of configuration space that are a window on a BAR's registers (virtio 1.2 section 4.1.4.9). The bytes are
 * kept in configuration space, which takes writes to them: an access that touches any of them first moves the register
 * into the first ones, or the first ones into the register.
 */
export interface PciWindow {
  /** Offset of the four bytes, a multiple of 4. */
  readonly data: number;
  /** Where in the registers it points now; undefined when that is nowhere. Called under the bus's lock. */
  target(): { readonly offset: number; readonly size: AccessSize } | undefined;
  readonly registers: BusDevice;
  /** The lock of the registers: taken with the bus's lock released, for it comes before it. */
  readonly lock: DeviceLock;
}

export const PciBusState = struct("pci-bus", 4, { address: u32 });

export class PciBus {
  private readonly functions: (PciFunction | undefined)[] = new Array(deviceCount).fill(undefined);

  constructor(
    readonly state: Of<typeof PciBusState>,
    readonly lock: DeviceLock,
  ) {}

  /** Puts a function at device `slot`, function 0. */
  add(slot: number, device: PciFunction): void {
    if (!(slot in this.functions)) throw new RangeError(`PCI: no device ${slot} on a bus`);
    if (this.functions[slot]) throw new RangeError(`PCI device ${slot} is taken`);
    this.functions[slot] = device;
  }

  reset(): void {
    this.address = 0;
  }

  /** What was last written to port 0xcf8. */
  get address(): number {
    this.lock.acquire();
    try {
      return this.state.address;
    } finally {
      this.lock.release();
    }
  }
  set address(value: number) {
    this.lock.acquire();
    try {
      this.state.address = value;
    } finally {
      this.lock.release();
    }
  }

  /** `place` is bus, device and function as in MMCONFIG: device in bits 7:3, function in 2:0, bus above. */
  read(place: number, offset: number, size: AccessSize): number {
    const device = this.at(place);
    if (!device) return allOnes[size];
    if (device.window && inWindow(device.window, offset)) this.fillWindow(device, device.window);
    this.lock.acquire();
    try {
      return device.config.read(offset, size);
    } finally {
      this.lock.release();
    }
  }

  write(place: number, offset: number, size: AccessSize, value: number): void {
    const device = this.at(place);
    if (!device) return;
    this.lock.acquire();
    try {
      device.config.write(offset, size, value);
      if (touchesDecode(offset, size)) this.clearPast(device);
      device.configWritten(offset, size);
    } finally {
      this.lock.release();
    }
    if (device.window && inWindow(device.window, offset)) this.passOn(device, device.window);
  }

  /** Where a function answers now, nothing of another's past is left; nor of its own where another answers. */
  private clearPast(device: PciFunction): void {
    for (const other of this.functions) {
      if (!other || other === device) continue;
      vacate(other, device);
      vacate(device, other);
    }
  }

  private fillWindow(device: PciFunction, window: PciWindow): void {
    const target = this.targetOf(window);
    if (!target) return;
    window.lock.acquire();
    let value: number;
    try {
      value = window.registers.read(target.offset, target.size);
    } finally {
      window.lock.release();
    }
    this.lock.acquire();
    try {
      device.config.write(window.data, target.size, value);
    } finally {
      this.lock.release();
    }
  }

  private passOn(device: PciFunction, window: PciWindow): void {
    const target = this.targetOf(window);
    if (!target) return;
    this.lock.acquire();
    let value: number;
    try {
      value = device.config.read(window.data, target.size);
    } finally {
      this.lock.release();
    }
    window.lock.acquire();
    try {
      window.registers.write(target.offset, target.size, value);
    } finally {
      window.lock.release();
    }
  }

  private targetOf(window: PciWindow): ReturnType<PciWindow["target"]> {
    this.lock.acquire();
    try {
      return window.target();
    } finally {
      this.lock.release();
    }
  }

  private at(place: number): PciFunction | undefined {
    if (place % functionsPerDevice !== 0) return undefined;
    return this.functions[place / functionsPerDevice];
  }
}

/** One function leaves the ranges of another. */
function vacate(leaving: PciFunction, owner: PciFunction): void {
  for (const { index, size } of owner.config.barSpecs) {
    const start = owner.config.decodedAddress(index);
    if (start !== undefined) leaving.vacate?.(start, start + size);
  }
}

/** Whether a write may change where a function answers: its command register, or a BAR. */
const touchesDecode = (offset: number, size: AccessSize): boolean =>
  (offset < Pci.COMMAND + 2 && offset + size > Pci.COMMAND) ||
  (offset < Pci.BASE_ADDRESS_0 + 6 * 4 && offset + size > Pci.BASE_ADDRESS_0);

const inWindow = (window: PciWindow, offset: number): boolean =>
  offset >= window.data && offset < window.data + 4;

const enable = 0x8000_0000;
const addressMask = 0x80ff_fffc;

/**
 * Ports 0xcf8 to 0xcff: the address latch, and a window of four bytes on what it points at. Only whole dwords reach the
 * latch: of anything smaller the ports are another device's (section 3.2.2.3.2), and here there is none.
 */
export class PciConfigPorts implements BusDevice {
  constructor(readonly bus: PciBus) {}

  read(offset: number, size: AccessSize): number {
    const { address } = this.bus;
    if (offset < 4) return offset === 0 && size === 4 ? address : allOnes[size];
    if ((address & enable) === 0 || offset + size > 8) return allOnes[size];
    return this.bus.read((address >>> 8) & 0xffff, (address & 0xfc) + offset - 4, size);
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (offset < 4) {
      if (offset === 0 && size === 4) this.bus.address = (value & addressMask) >>> 0;
      return;
    }
    const { address } = this.bus;
    if ((address & enable) === 0 || offset + size > 8) return;
    this.bus.write((address >>> 8) & 0xffff, (address & 0xfc) + offset - 4, size, value);
  }
}

/** MMCONFIG: 4 KiB a function, 1 MiB a bus. An access that is not naturally aligned is nobody's. */
export class PciMmconfig implements BusDevice {
  constructor(readonly bus: PciBus) {}

  read(offset: number, size: AccessSize): number {
    if (offset % size !== 0) return allOnes[size];
    const place = Math.floor(offset / extendedConfigBytes);
    return this.bus.read(place, offset % extendedConfigBytes, size);
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (offset % size !== 0) return;
    const place = Math.floor(offset / extendedConfigBytes);
    this.bus.write(place, offset % extendedConfigBytes, size, value);
  }
}
