/**
 * The registers of a virtio-pci function, as its BAR shows them (virtio 1.2 section 4.1.4.3 to 4.1.4.6). The notify
 * registers are served by KVM's ioeventfds; what comes here all the same writes the eventfd, so no kick is lost.
 */
import type { AccessSize, BusDevice } from "../../bus/device.ts";
import type { Msix } from "../../bus/pci/msix.ts";
import { BarLayout, notifyMultiplier } from "./pci-layout.ts";
import { noVector } from "./registers.ts";
import type { VirtioTransport } from "./transport.ts";

/** struct virtio_pci_common_cfg (linux/virtio_pci.h). */
export const Common = {
  DFSELECT: 0,
  DF: 4,
  GFSELECT: 8,
  GF: 12,
  MSIX: 16,
  NUMQ: 18,
  STATUS: 20,
  CFGGENERATION: 21,
  Q_SELECT: 22,
  Q_SIZE: 24,
  Q_MSIX: 26,
  Q_ENABLE: 28,
  Q_NOFF: 30,
  Q_DESCLO: 32,
  Q_DESCHI: 36,
  Q_AVAILLO: 40,
  Q_AVAILHI: 44,
  Q_USEDLO: 48,
  Q_USEDHI: 52,
} as const;

/**
 * The width each register must be read and written with (section 4.1.3.1); another width reads 0 and writes nothing.
 */
const widths: readonly number[] = (() => {
  const table = new Array<number>(56).fill(0);
  for (const at of [0, 4, 8, 12, 32, 36, 40, 44, 48, 52]) table[at] = 4;
  for (const at of [16, 18, 22, 24, 26, 28, 30]) table[at] = 2;
  for (const at of [20, 21]) table[at] = 1;
  return table;
})();

/** What the registers need of the function around them. */
export interface PciSide {
  /** The ISR status has changed, and the interrupt pin may have to follow. */
  isrChanged(): void;
  /** A notify register was written: queue `index` is kicked. */
  kick(index: number): void;
}

export class VirtioPciRegisters implements BusDevice {
  constructor(
    readonly transport: VirtioTransport,
    readonly msix: Msix,
    readonly side: PciSide,
  ) {}

  read(offset: number, size: AccessSize): number {
    if (offset >= BarLayout.msixTable) return this.msix.read(offset - BarLayout.msixTable, size);
    if (offset >= BarLayout.notify) return 0;
    if (offset >= BarLayout.device) return this.readDevice(offset - BarLayout.device, size);
    if (offset >= BarLayout.isr) return offset === BarLayout.isr ? this.takeIsr() : 0;
    return widths[offset] === size ? this.readCommon(offset) : 0;
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (offset >= BarLayout.msixTable) this.msix.write(offset - BarLayout.msixTable, size, value);
    else if (offset >= BarLayout.notify) this.notify(offset - BarLayout.notify);
    else if (offset >= BarLayout.device) this.writeDevice(offset - BarLayout.device, size, value);
    else if (offset < BarLayout.isr && widths[offset] === size) this.writeCommon(offset, value);
  }

  private readCommon(offset: number): number {
    const transport = this.transport;
    const { state, queue } = transport;
    switch (offset) {
      case Common.DFSELECT:
        return state.deviceFeatureSelect;
      case Common.DF:
        return transport.deviceFeatures(state.deviceFeatureSelect);
      case Common.GFSELECT:
        return state.driverFeatureSelect;
      case Common.GF:
        return transport.driverFeatures;
      case Common.MSIX:
        return state.configVector;
      case Common.NUMQ:
        return transport.identity.queueSizes.length;
      case Common.STATUS:
        return transport.readStatus();
      case Common.CFGGENERATION:
        return state.configGeneration;
      case Common.Q_SELECT:
        return state.queueSelect;
      case Common.Q_SIZE:
        return queue?.size ?? 0;
      case Common.Q_MSIX:
        return queue?.vector ?? noVector;
      case Common.Q_ENABLE:
        return queue?.enable ?? 0;
      case Common.Q_NOFF:
        return queue ? state.queueSelect : 0;
      case Common.Q_DESCLO:
        return queue?.descLow ?? 0;
      case Common.Q_DESCHI:
        return queue?.descHigh ?? 0;
      case Common.Q_AVAILLO:
        return queue?.driverLow ?? 0;
      case Common.Q_AVAILHI:
        return queue?.driverHigh ?? 0;
      case Common.Q_USEDLO:
        return queue?.deviceLow ?? 0;
      case Common.Q_USEDHI:
        return queue?.deviceHigh ?? 0;
      default:
        return 0;
    }
  }

  private writeCommon(offset: number, value: number): void {
    const transport = this.transport;
    const state = transport.state;
    switch (offset) {
      case Common.DFSELECT:
        state.deviceFeatureSelect = value;
        break;
      case Common.GFSELECT:
        state.driverFeatureSelect = value;
        break;
      case Common.GF:
        transport.driverFeatures = value;
        break;
      case Common.MSIX:
        state.configVector = this.vector(value);
        break;
      case Common.STATUS:
        transport.writeStatus(value);
        if (value === 0) this.side.isrChanged(); // a reset cleared it
        break;
      case Common.Q_SELECT:
        state.queueSelect = value;
        break;
      case Common.Q_SIZE:
        transport.setQueueSize(value);
        break;
      case Common.Q_ENABLE:
        transport.enableQueue(value);
        break;
      case Common.Q_MSIX:
        if (transport.queue) transport.queue.vector = this.vector(value);
        break;
      default:
        this.writeQueueAddress(offset, value);
    }
  }

  private writeQueueAddress(offset: number, value: number): void {
    const queue = this.transport.openQueue;
    if (!queue) return;
    if (offset === Common.Q_DESCLO) queue.descLow = value;
    else if (offset === Common.Q_DESCHI) queue.descHigh = value;
    else if (offset === Common.Q_AVAILLO) queue.driverLow = value;
    else if (offset === Common.Q_AVAILHI) queue.driverHigh = value;
    else if (offset === Common.Q_USEDLO) queue.deviceLow = value;
    else if (offset === Common.Q_USEDHI) queue.deviceHigh = value;
  }

  /** A vector that there is not reads back as none: the driver falls back (section 4.1.5.1.2). */
  private vector(value: number): number {
    return value < this.msix.vectors ? value : noVector;
  }

  /** Reading clears, and the pin falls (section 4.1.4.5). */
  private takeIsr(): number {
    const isr = this.transport.state.isr;
    this.transport.state.isr = 0;
    if (isr !== 0) this.side.isrChanged();
    return isr;
  }

  private notify(offset: number): void {
    const index = Math.floor(offset / notifyMultiplier);
    if (index < this.transport.identity.queueSizes.length) this.side.kick(index);
  }

  private readDevice(offset: number, size: AccessSize): number {
    let value = 0;
    for (let i = 0; i < size; i++) value += this.transport.readConfig(offset + i) * 2 ** (8 * i);
    return value;
  }

  private writeDevice(offset: number, size: AccessSize, value: number): void {
    for (let i = 0; i < size; i++) {
      this.transport.writeConfig(offset + i, (value >>> (8 * i)) & 0xff);
    }
  }
}
