/**
 * The registers of a virtio-mmio device, version 2 (virtio 1.2 section 4.2.2; linux/virtio_mmio.h). All but
 * configuration space are 32 bits wide: another width reads 0 and writes nothing. Kicks are KVM's ioeventfds; what
 * comes here all the same writes the eventfd, so no kick is lost.
 */
import type { AccessSize, BusDevice } from "../../bus/device.ts";
import type { VirtioTransport } from "./transport.ts";

/** VIRTIO_MMIO_…: offsets in the page. */
export const Mmio = {
  MAGIC_VALUE: 0x000,
  VERSION: 0x004,
  DEVICE_ID: 0x008,
  VENDOR_ID: 0x00c,
  DEVICE_FEATURES: 0x010,
  DEVICE_FEATURES_SEL: 0x014,
  DRIVER_FEATURES: 0x020,
  DRIVER_FEATURES_SEL: 0x024,
  QUEUE_SEL: 0x030,
  QUEUE_NUM_MAX: 0x034,
  QUEUE_NUM: 0x038,
  QUEUE_READY: 0x044,
  QUEUE_NOTIFY: 0x050,
  INTERRUPT_STATUS: 0x060,
  INTERRUPT_ACK: 0x064,
  STATUS: 0x070,
  QUEUE_DESC_LOW: 0x080,
  QUEUE_DESC_HIGH: 0x084,
  QUEUE_AVAIL_LOW: 0x090,
  QUEUE_AVAIL_HIGH: 0x094,
  QUEUE_USED_LOW: 0x0a0,
  QUEUE_USED_HIGH: 0x0a4,
  SHM_SEL: 0x0ac,
  SHM_LEN_LOW: 0x0b0,
  SHM_LEN_HIGH: 0x0b4,
  SHM_BASE_LOW: 0x0b8,
  SHM_BASE_HIGH: 0x0bc,
  CONFIG_GENERATION: 0x0fc,
  CONFIG: 0x100,
} as const;

export const mmioBytes = 0x1000;
const magic = 0x7472_6976; // "virt"
const version = 2;
const vendorId = 0x1af4;
/** What a shared memory region that there is not has in all four halves (section 4.2.2). */
const noRegion = 0xffff_ffff;
const highestSelect = 0xffff;

/** What the registers need of the device around them. */
export interface MmioSide {
  /** The interrupt status has changed, and the pin may have to follow. */
  isrChanged(): void;
  /** The notify register was written: queue `index` is kicked. */
  kick(index: number): void;
}

export class VirtioMmioRegisters implements BusDevice {
  constructor(
    readonly transport: VirtioTransport,
    readonly side: MmioSide,
  ) {}

  read(offset: number, size: AccessSize): number {
    if (offset >= Mmio.CONFIG) return this.readConfig(offset - Mmio.CONFIG, size);
    return size === 4 ? this.readRegister(offset) : 0;
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (offset >= Mmio.CONFIG) this.writeConfig(offset - Mmio.CONFIG, size, value);
    else if (size === 4) this.writeRegister(offset, value);
  }

  private readRegister(offset: number): number {
    const { transport } = this;
    const { state } = transport;
    switch (offset) {
      case Mmio.MAGIC_VALUE:
        return magic;
      case Mmio.VERSION:
        return version;
      case Mmio.DEVICE_ID:
        return transport.identity.type;
      case Mmio.VENDOR_ID:
        return vendorId;
      case Mmio.DEVICE_FEATURES:
        return transport.deviceFeatures(state.deviceFeatureSelect);
      case Mmio.QUEUE_NUM_MAX:
        return transport.identity.queueSizes[state.queueSelect] ?? 0;
      case Mmio.QUEUE_READY:
        return transport.queue?.enable ?? 0;
      case Mmio.INTERRUPT_STATUS:
        return state.isr;
      case Mmio.STATUS:
        return transport.readStatus();
      case Mmio.SHM_LEN_LOW:
      case Mmio.SHM_LEN_HIGH:
      case Mmio.SHM_BASE_LOW:
      case Mmio.SHM_BASE_HIGH:
        return noRegion;
      case Mmio.CONFIG_GENERATION:
        return state.configGeneration;
      default:
        return 0;
    }
  }

  private writeRegister(offset: number, value: number): void {
    const { transport } = this;
    const { state } = transport;
    switch (offset) {
      case Mmio.DEVICE_FEATURES_SEL:
        state.deviceFeatureSelect = value;
        break;
      case Mmio.DRIVER_FEATURES:
        transport.driverFeatures = value;
        break;
      case Mmio.DRIVER_FEATURES_SEL:
        state.driverFeatureSelect = value;
        break;
      case Mmio.QUEUE_SEL:
        state.queueSelect = Math.min(value, highestSelect);
        break;
      case Mmio.QUEUE_NUM:
        transport.setQueueSize(value);
        break;
      case Mmio.QUEUE_READY:
        if (value === 0) transport.disableQueue();
        else transport.enableQueue(value);
        break;
      case Mmio.QUEUE_NOTIFY:
        if (value < transport.identity.queueSizes.length) this.side.kick(value);
        break;
      case Mmio.INTERRUPT_ACK:
        this.acknowledge(value);
        break;
      case Mmio.STATUS:
        transport.writeStatus(value);
        if (value === 0) this.side.isrChanged(); // a reset cleared it
        break;
      default:
        this.writeQueueAddress(offset, value);
    }
  }

  private writeQueueAddress(offset: number, value: number): void {
    const queue = this.transport.openQueue;
    if (!queue) return;
    if (offset === Mmio.QUEUE_DESC_LOW) queue.descLow = value;
    else if (offset === Mmio.QUEUE_DESC_HIGH) queue.descHigh = value;
    else if (offset === Mmio.QUEUE_AVAIL_LOW) queue.driverLow = value;
    else if (offset === Mmio.QUEUE_AVAIL_HIGH) queue.driverHigh = value;
    else if (offset === Mmio.QUEUE_USED_LOW) queue.deviceLow = value;
    else if (offset === Mmio.QUEUE_USED_HIGH) queue.deviceHigh = value;
  }

  /** Takes back what the driver has handled; the pin falls when nothing is left. */
  private acknowledge(handled: number): void {
    const { state } = this.transport;
    const before = state.isr;
    state.isr = before & ~handled;
    if (state.isr !== before) this.side.isrChanged();
  }

  private readConfig(offset: number, size: AccessSize): number {
    let value = 0;
    for (let i = 0; i < size; i++) value += this.transport.readConfig(offset + i) * 2 ** (8 * i);
    return value;
  }

  private writeConfig(offset: number, size: AccessSize, value: number): void {
    for (let i = 0; i < size; i++) {
      this.transport.writeConfig(offset + i, (value >>> (8 * i)) & 0xff);
    }
  }
}
