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
import { addr, type Of, struct, u32 } from "../../ffi/struct.ts";
import {
  BarLayout,
  msixCapability,
  notifyMultiplier,
  PciWindow,
  virtioBar,
  virtioCapabilities,
} from "./pci-layout.ts";
import { VirtioPciRegisters } from "./pci-registers.ts";
import { Isr, Status } from "./registers.ts";
import type { VirtioTransport } from "./transport.ts";

const vendorId = 0x1af4;
const deviceIdBase = 0x1040;
const subsystemId = 0x40;

/** Under the bus's lock. */
export const VirtioPciState = struct("virtio-pci", 16, {
  /** Where the ioeventfds are, or would be if they could be had. */
  kickBase: addr,
  /** Bit n: queue n's ioeventfd is assigned there. */
  kicks: u32,
  pad: u32,
});

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
      isrChanged: () => this.updatePin(),
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
    // those that are where the guest will want them stay: it takes KVM milliseconds to give one back
    if (this.state.kickBase !== barAddress + BarLayout.notify) this.withdrawKicks();
    this.updatePin();
  }

  /**
   * Tells the guest by vector, or by the ISR and the pin. `cause` is a bit of the ISR. Under the device's lock. A
   * driver that is not ready, or has reset the device since, is told nothing (virtio 1.2 section 2.1.2).
   */
  interrupt(cause: number, vector: number): void {
    const { state } = this.transport;
    if ((state.status & Status.DRIVER_OK) === 0) return;
    const byVector = this.msix.enabled;
    if (!byVector || cause === Isr.config) {
      state.isr |= cause; // with vectors, too, a change of configuration shows (section 4.1.4.5.1)
      this.updatePin();
    }
    if (byVector && vector < this.msix.vectors) this.host.signal(vector);
  }

  /** The device's configuration has changed. Under the device's lock. */
  configChanged(): void {
    const { state } = this.transport;
    state.configGeneration = (state.configGeneration + 1) & 0xff;
    this.interrupt(Isr.config, state.configVector);
  }

  private updatePin(): void {
    this.locks.bus.acquire();
    try {
      this.drivePin();
    } finally {
      this.locks.bus.release();
    }
  }

  /**
   * The interrupt status follows the ISR unless MSI-X is on (section 4.1.4.5.1); the pin follows that, unless it is
   * disabled. Under the bus's lock: whoever changes one of the three comes here after, so the last to come sees all.
   */
  private drivePin(): void {
    const pending = this.transport.state.isr !== 0 && !this.msix.enabled;
    this.config.setStatus(PciStatus.INTERRUPT, pending);
    this.host.setPin(pending && !this.config.interruptsDisabled);
  }

  configWritten(offset: number, size: AccessSize): void {
    const touches = (at: number, length: number) => offset < at + length && at < offset + size;
    if (touches(this.msixAt + 2, 2)) {
      this.msix.setMessageControl(this.config.read(this.msixAt + 2, 2));
      this.drivePin();
    }
    if (touches(Pci.COMMAND, 2)) this.drivePin();
    if (touches(Pci.COMMAND, 2) || touches(Pci.BASE_ADDRESS_0, 8)) this.relocate();
  }

  /** Where the BAR answers now; undefined when it does not. */
  get barAddress(): number | undefined {
    this.locks.bus.acquire();
    try {
      return this.config.decodedAddress(virtioBar);
    } finally {
      this.locks.bus.release();
    }
  }

  /**
   * Clearing decode leaves the ioeventfds where they are (taking them away is slow, and a guest does it when it sizes a
   * BAR); they move when decode is on at another address: the new ones first. One that cannot be had is tried again at
   * the next write; until then its kicks come as exits.
   */
  private relocate(): void {
    this.host.moved();
    const { state } = this;
    const address = this.config.decodedAddress(virtioBar);
    if (address === undefined) return;
    const base = address + BarLayout.notify;
    const [before, old] = base === state.kickBase ? [0, 0] : [state.kickBase, state.kicks];
    let kicks = base === state.kickBase ? state.kicks : 0;
    for (let index = 0; index < this.queueCount; index++) {
      if (kicks & (1 << index)) continue;
      if (this.host.setKick(index, base + index * notifyMultiplier, true)) kicks |= 1 << index;
    }
    state.kickBase = base;
    state.kicks = kicks;
    this.takeKicks(before, old);
  }

  /** Another function comes to where this one was: its notify registers must not be taken for this one's. */
  vacate(start: number, end: number): void {
    const { kickBase } = this.state;
    if (kickBase + this.queueCount * notifyMultiplier <= start || kickBase >= end) return;
    const address = this.config.decodedAddress(virtioBar);
    if (address === undefined || address + BarLayout.notify !== kickBase) this.dropKicks();
  }

  private withdrawKicks(): void {
    this.locks.bus.acquire();
    try {
      this.dropKicks();
    } finally {
      this.locks.bus.release();
    }
  }

  private dropKicks(): void {
    const { kickBase, kicks } = this.state;
    this.state.kickBase = 0;
    this.state.kicks = 0;
    this.takeKicks(kickBase, kicks);
  }

  private takeKicks(base: number, kicks: number): void {
    for (let index = 0; index < this.queueCount; index++) {
      if (kicks & (1 << index)) this.host.setKick(index, base + index * notifyMultiplier, false);
    }
  }

  private get queueCount(): number {
    return this.transport.identity.queueSizes.length;
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
