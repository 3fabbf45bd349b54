/**
 * PCI bus 0 of a segment: 32 devices of one function each, reached through configuration mechanism 1 (ports 0xcf8 and
 * 0xcfc, PCI Local Bus 3.0 section 3.2.2.3.2) and through MMCONFIG (PCI Express Base 4.0 section 7.2.2). The bus's lock
 * covers the configuration space of every function on it; the bus takes it itself, so its ports are mapped without one.
 */
import { type Of, struct, u32 } from "../../ffi/struct.ts";
import type { AccessSize, BusDevice } from "../device.ts";
import type { DeviceLock } from "../mapping.ts";
import type { PciConfigSpace } from "./config-space.ts";
import { extendedConfigBytes } from "./registers.ts";

export const deviceCount = 32;
const functionsPerDevice = 8;
const allOnes = { 1: 0xff, 2: 0xffff, 4: 0xffff_ffff } as const;

/** A function on the bus. */
export interface PciFunction {
  readonly config: PciConfigSpace;
  /** Configuration space has been written: `offset` and `size` say where. Called under the bus's lock. */
  configWritten(offset: number, size: AccessSize): void;
  readonly window?: PciWindow;
}

/** Four bytes of configuration space that are a window on a BAR's registers (virtio 1.2 section 4.1.4.9). */
export interface PciWindow {
  /** Offset of the four bytes. */
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
    if (this.functions[slot]) throw new RangeError(`PCI device ${slot} is taken`);
    this.functions[slot] = device;
  }

  reset(): void {
    this.state.address = 0;
  }

  /** `place` is bus, device and function as in MMCONFIG: device in bits 7:3, function in 2:0, bus above. */
  read(place: number, offset: number, size: AccessSize): number {
    const device = this.at(place);
    if (!device) return allOnes[size];
    if (device.window && inWindow(device.window, offset))
      return this.readWindow(device.window, size);
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
    if (device.window && inWindow(device.window, offset)) {
      this.writeWindow(device.window, size, value);
      return;
    }
    this.lock.acquire();
    try {
      device.config.write(offset, size, value);
      device.configWritten(offset, size);
    } finally {
      this.lock.release();
    }
  }

  private readWindow(window: PciWindow, size: AccessSize): number {
    const target = this.targetOf(window);
    if (target?.size !== size) return 0;
    window.lock.acquire();
    try {
      return window.registers.read(target.offset, size);
    } finally {
      window.lock.release();
    }
  }

  private writeWindow(window: PciWindow, size: AccessSize, value: number): void {
    const target = this.targetOf(window);
    if (target?.size !== size) return;
    window.lock.acquire();
    try {
      window.registers.write(target.offset, size, value);
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

const inWindow = (window: PciWindow, offset: number): boolean =>
  offset >= window.data && offset < window.data + 4;

const enable = 0x8000_0000;
const addressMask = 0x80ff_fffc;

/** Ports 0xcf8 to 0xcff: the address latch, and a window of four bytes on what it points at. */
export class PciConfigPorts implements BusDevice {
  constructor(readonly bus: PciBus) {}

  read(offset: number, size: AccessSize): number {
    const address = this.bus.state.address;
    if (offset < 4) {
      if (offset + size > 4) return allOnes[size];
      return ((address >>> (8 * offset)) & allOnes[size]) >>> 0;
    }
    if ((address & enable) === 0 || offset + size > 8) return allOnes[size];
    return this.bus.read((address >>> 8) & 0xffff, (address & 0xfc) + offset - 4, size);
  }

  /** Only a whole dword reaches the latch: anything smaller at 0xcf8 is another device's on a PC. */
  write(offset: number, size: AccessSize, value: number): void {
    if (offset < 4) {
      if (offset === 0 && size === 4) this.bus.state.address = (value & addressMask) >>> 0;
      return;
    }
    const address = this.bus.state.address;
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
