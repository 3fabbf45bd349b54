/**
 * A virtio device as a PCI function (virtio 1.2 section 4.1): its configuration space, its one BAR, its vectors, and
 * the ioeventfds that follow the BAR when the guest moves it.
 */
import type { AccessSize, BusDevice } from "../../bus/device.ts";
import type { DeviceLock } from "../../bus/mapping.ts";
import type { PciFunction, PciWindow as Window } from "../../bus/pci/bus.ts";
import { PciConfigSpace, type PciConfigState } from "../../bus/pci/config-space.ts";
import { Msix, type MsixState, type VectorSink } from "../../bus/pci/msix.ts";
import { Pci, PciCap, PciStatus } from "../../bus/pci/registers.ts";
import { addr, type Of, struct } from "../../ffi/struct.ts";
import {
  BarLayout,
  msixCapability,
  notifyMultiplier,
  PciWindow,
  virtioBar,
  virtioCapabilities,
} from "./pci-layout.ts";
import { VirtioPciRegisters } from "./pci-registers.ts";
import { Isr } from "./registers.ts";
import type { VirtioTransport } from "./transport.ts";

const vendorId = 0x1af4;
const deviceIdBase = 0x1040;
const subsystemId = 0x40;

/** Where the ioeventfds are now; 0 is nowhere. */
export const VirtioPciState = struct("virtio-pci", 8, { kickBase: addr });

/** What the function needs of the machine. */
export interface PciHost {
  readonly vectors: VectorSink;
  /** Assigns or takes away queue `index`'s ioeventfd; false when it cannot be had there. */
  setKick(index: number, address: number, assign: boolean): boolean;
  /** Serves a kick that came as an exit. */
  kick(index: number): void;
  /** Wakes vector `vector`: one write to its eventfd. */
  signal(vector: number): void;
  setPin(asserted: boolean): void;
  /** A BAR has moved, appeared or gone. */
  moved(): void;
}

/** Class codes of virtio devices, by type, as Linux and lspci show them; 0xff0000 is "unassigned". */
const classCodes: Readonly<Record<number, number>> = {
  1: 0x02_00_00,
  2: 0x01_80_00,
  3: 0x07_80_00,
};

export class VirtioPciFunction implements PciFunction {
  readonly config: PciConfigSpace;
  readonly msix: Msix;
  readonly bar: BusDevice;
  readonly window: Window;
  readonly state: Of<typeof VirtioPciState>;
  private readonly msixAt: number;
  private readonly windowAt: number;

  constructor(
    readonly transport: VirtioTransport,
    states: {
      readonly config: Of<typeof PciConfigState>;
      readonly msix: Of<typeof MsixState>;
      readonly pci: Of<typeof VirtioPciState>;
    },
    readonly host: PciHost,
    /** The device's, the bus's and the vectors' locks, in the order in which they are taken. */
    readonly locks: {
      readonly device: DeviceLock;
      readonly bus: DeviceLock;
      readonly msix: DeviceLock;
    },
    vectors: number,
  ) {
    const { type } = transport.identity;
    this.state = states.pci;
    this.config = new PciConfigSpace(states.config, {
      vendor: vendorId,
      device: deviceIdBase + type,
      subsystemVendor: vendorId,
      subsystem: subsystemId,
      classCode: classCodes[type] ?? 0xff_00_00,
      revision: 1,
    });
    this.config.setInterruptPin(1);
    this.config.addBar({
      ...{ index: virtioBar, size: BarLayout.end, is64: true, prefetchable: false },
    });
    const msix = msixCapability(vectors);
    this.msixAt = this.config.addCapability(PciCap.ID_MSIX, msix.body, msix.mask);
    let last = 0;
    for (const { body, mask } of virtioCapabilities) {
      last = this.config.addCapability(PciCap.ID_VNDR, body, mask);
    }
    this.windowAt = last;
    const pba = BarLayout.msixPending - BarLayout.msixTable;
    this.msix = new Msix(states.msix, vectors, host.vectors, pba, locks.msix);
    this.bar = new VirtioPciRegisters(transport, this.msix, {
      lowerPin: () => this.setPin(false),
      kick: (index) => host.kick(index),
    });
    this.window = {
      data: this.windowAt + PciWindow.data,
      target: () => this.target(),
      registers: this.bar,
      lock: locks.device,
    };
  }

  /** As after power-on, with the BAR where firmware would have put it. The backend stands still. */
  powerOn(barAddress: number): void {
    this.transport.powerOn();
    this.msix.reset();
    this.config.reset();
    this.config.placeBar(virtioBar, barAddress);
    this.host.setPin(false);
  }

  /** Tells the guest by vector, or by the ISR and the pin. `cause` is a bit of the ISR. Under the device's lock. */
  interrupt(cause: number, vector: number): void {
    if (this.msix.enabled) {
      if (vector < this.msix.vectors) this.host.signal(vector);
      return;
    }
    this.transport.state.isr |= cause;
    this.setPin(true);
  }

  /** The device's configuration has changed. Under the device's lock. */
  configChanged(): void {
    const { state } = this.transport;
    state.configGeneration = (state.configGeneration + 1) & 0xff;
    this.interrupt(Isr.config, state.configVector);
  }

  private setPin(asserted: boolean): void {
    this.locks.bus.acquire();
    try {
      this.config.setStatus(PciStatus.INTERRUPT, asserted);
      this.host.setPin(asserted && !this.config.interruptsDisabled);
    } finally {
      this.locks.bus.release();
    }
  }

  configWritten(offset: number, size: AccessSize): void {
    const touches = (at: number, length: number) => offset < at + length && at < offset + size;
    if (touches(this.msixAt + 2, 2)) {
      this.msix.setMessageControl(this.config.read(this.msixAt + 2, 2));
    }
    if (touches(Pci.COMMAND, 2) || touches(Pci.BASE_ADDRESS_0, 8)) this.relocate();
  }

  /** Where the BAR answers now; undefined when it does not. */
  get barAddress(): number | undefined {
    return this.config.decodesMemory ? this.config.barAddress(virtioBar) : undefined;
  }

  /**
   * Clearing decode leaves the ioeventfds where they are (taking them away is slow, and a guest does it when it sizes a
   * BAR); they move when decode is on at another address: the new ones first.
   */
  private relocate(): void {
    this.host.moved();
    const address = this.barAddress;
    const before = this.state.kickBase;
    if (address === undefined || address + BarLayout.notify === before) return;
    const base = address + BarLayout.notify;
    const queues = this.transport.identity.queueSizes.length;
    for (let index = 0; index < queues; index++) {
      this.host.setKick(index, base + index * notifyMultiplier, true);
    }
    if (before !== 0) {
      for (let index = 0; index < queues; index++) {
        this.host.setKick(index, before + index * notifyMultiplier, false);
      }
    }
    this.state.kickBase = base;
  }

  /** The part of the BAR that the configuration access capability points at; undefined when it points nowhere. */
  private target(): ReturnType<Window["target"]> {
    const offset = this.config.read(this.windowAt + PciWindow.offset, 4);
    const size = this.config.read(this.windowAt + PciWindow.length, 4);
    const bar = this.config.read(this.windowAt + PciWindow.bar, 1);
    if (bar !== virtioBar || (size !== 1 && size !== 2 && size !== 4)) return undefined;
    return offset % size === 0 && offset + size <= BarLayout.end ? { offset, size } : undefined;
  }
}
