/**
 * A virtio device on virtio-mmio (virtio 1.2 section 4.2): a page of registers, one level-triggered pin, an ioeventfd a
 * queue. Unlike on PCI nothing moves, and a driver does not look whether its reset is over (Linux's vm_reset): the
 * write itself must not end before the backend stands still.
 */
import type { AccessSize, BusDevice } from "../../bus/device.ts";
import type { DeviceLock } from "../../bus/mapping.ts";
import { type Of, struct, u32 } from "../../ffi/struct.ts";
import { Mmio, VirtioMmioRegisters } from "./mmio-registers.ts";
import { Isr, Status } from "./registers.ts";
import type { VirtioTransport } from "./transport.ts";

export const VirtioMmioState = struct("virtio-mmio", 8, {
  /** Bit n: queue n's ioeventfd is assigned. */
  kicks: u32,
  pad: u32,
});

/** What the device needs of the machine. */
export interface MmioHost {
  /** Assigns queue `index`'s ioeventfd: its number, written to the notify register. False when KVM refuses. */
  setKick(index: number): boolean;
  /** Serves a kick that came as an exit. */
  kick(index: number): void;
  setPin(asserted: boolean): void;
  /** A reset was written, by a vCPU of this thread: it must not go on before the backend stands still. */
  resetting(): void;
}

export class VirtioMmioDevice implements BusDevice {
  readonly registers: VirtioMmioRegisters;

  constructor(
    readonly transport: VirtioTransport,
    readonly state: Of<typeof VirtioMmioState>,
    readonly host: MmioHost,
    /** The registers' lock, which the device takes itself. */
    readonly lock: DeviceLock,
  ) {
    this.registers = new VirtioMmioRegisters(transport, {
      isrChanged: () => this.updatePin(),
      kick: (index) => host.kick(index),
    });
  }

  /** As after power-on. The backend stands still. Ioeventfds that could not be had are tried again. */
  powerOn(): void {
    this.transport.powerOn();
    for (const index of this.transport.identity.queueSizes.keys()) {
      const bit = 1 << index;
      if ((this.state.kicks & bit) === 0 && this.host.setKick(index)) this.state.kicks |= bit;
    }
    this.updatePin();
  }

  read(offset: number, size: AccessSize): number {
    this.lock.acquire();
    try {
      return this.registers.read(offset, size);
    } finally {
      this.lock.release();
    }
  }

  write(offset: number, size: AccessSize, value: number): void {
    this.lock.acquire();
    try {
      this.registers.write(offset, size, value);
    } finally {
      this.lock.release();
    }
    if (offset === Mmio.STATUS && size === 4 && value === 0) this.host.resetting();
  }

  /**
   * Tells the guest: `cause` is a bit of the interrupt status. Under the device's lock. A driver that is not ready, or
   * has reset the device since, is told nothing (virtio 1.2 section 2.1.2).
   */
  interrupt(cause: number): void {
    const { state } = this.transport;
    if ((state.status & Status.DRIVER_OK) === 0 || (state.isr & cause) !== 0) return;
    state.isr |= cause;
    this.updatePin();
  }

  /** The device's configuration has changed. Under the device's lock. */
  configChanged(): void {
    const { state } = this.transport;
    state.configGeneration = (state.configGeneration + 1) & 0xff;
    this.interrupt(Isr.config);
  }

  private updatePin(): void {
    this.host.setPin(this.transport.state.isr !== 0);
  }
}
