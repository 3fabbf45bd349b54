/** Virtio devices on virtio-mmio, and around them what the machine would be: a bus, KVM's ioeventfds, a shared pin. */
import type { AccessSize } from "../../../src/bus/device.ts";
import { MmioBus } from "../../../src/bus/mmio-bus.ts";
import { SharedPin } from "../../../src/bus/pci/intx.ts";
import { VirtioState } from "../../../src/devices/virtio/device-state.ts";
import { VirtioMmioDevice, VirtioMmioState } from "../../../src/devices/virtio/mmio-device.ts";
import { VirtioTransport } from "../../../src/devices/virtio/transport.ts";
import { LockOrder } from "../../bus/pci/parts.ts";

export const pageBytes = 0x1000;
/** VERSION_1 alone in the upper half; INDIRECT_DESC, EVENT_IDX and the device's bit 5 in the lower. */
export const offered = { low: 0x3000_0020, high: 1 };
const notifyAt = 0x50;

/** A device, and what became of it. */
export interface MmioRigDevice {
  readonly base: number;
  readonly device: VirtioMmioDevice;
  /** Kicks of each queue, however they came; and those that came as exits. */
  readonly kicks: number[];
  readonly exits: number[];
  readonly wakes: { count: number };
  /** Resets that a vCPU has to wait for, and the locks held when it was told. */
  readonly resets: string[][];
}

export class MmioRig {
  readonly locks = new LockOrder(["device", "pins", "ioapic"]);
  readonly mmio = new MmioBus();
  readonly devices: MmioRigDevice[] = [];
  /** Level of the one interrupt pin, and how often it rose. */
  pin = false;
  rises = 0;
  /** Ioeventfds are to be had. */
  kickable = true;
  private readonly shared: SharedPin;
  private readonly data = new DataView(new ArrayBuffer(8));
  /** KVM's: "address value", as four bytes are written there. */
  private readonly ioeventfds = new Map<string, () => void>();

  constructor() {
    const ioapic = this.locks.lock("ioapic");
    this.shared = new SharedPin(new Int32Array(new SharedArrayBuffer(4)), this.locks.lock("pins"), {
      set: (level) => {
        ioapic.acquire();
        if (level && !this.pin) this.rises++;
        this.pin = level;
        ioapic.release();
      },
    });
  }

  /** The next device, powered on. Its backend does at once what it is asked, unless `settles` is off. */
  add({ queues = [256, 64], settles = true } = {}): MmioRigDevice {
    const who = this.devices.length;
    const base = 0xf800_0000 + who * pageBytes;
    const wakes = { count: 0 };
    const transport = new VirtioTransport(
      new VirtioState(new SharedArrayBuffer(VirtioState.size)),
      { type: 2, featuresLow: offered.low, featuresHigh: offered.high, queueSizes: queues },
      {
        bytes: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
        writable: Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0),
        initial: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
      },
      () => {
        wakes.count++;
        if (settles) transport.handOver.reach(transport.handOver.wanted);
      },
    );
    const [kicks, exits]: number[][] = [queues.map(() => 0), queues.map(() => 0)];
    const resets: string[][] = [];
    const device = new VirtioMmioDevice(
      transport,
      new VirtioMmioState(),
      {
        setKick: (index) => {
          const key = `${base + notifyAt} ${index}`;
          if (!this.kickable || this.ioeventfds.has(key)) return false;
          this.ioeventfds.set(key, () => kicks![index]!++);
          return true;
        },
        kick: (index) => {
          kicks![index]!++;
          exits![index]!++;
        },
        setPin: (level) => this.shared.set(who, level),
        resetting: () => resets.push([...this.locks.held]),
      },
      this.locks.lock("device"),
    );
    device.powerOn();
    this.mmio.map(`${who}`, base, pageBytes, device);
    const added = { base, device, kicks: kicks!, exits: exits!, wakes, resets };
    this.devices.push(added);
    return added;
  }

  read(address: number, size: AccessSize = 4): number {
    this.data.setUint32(0, 0, true);
    this.mmio.read(address, size, this.data, 0);
    return this.data.getUint32(0, true);
  }

  write(address: number, value: number, size: AccessSize = 4): void {
    const kick = size === 4 ? this.ioeventfds.get(`${address} ${value}`) : undefined;
    if (kick) {
      kick();
      return;
    }
    this.data.setUint32(0, value, true);
    this.mmio.write(address, size, this.data, 0);
  }

  /** Runs as whoever holds a device's lock does. */
  underDevice(run: () => void): void {
    const lock = this.locks.lock("device");
    lock.acquire();
    run();
    lock.release();
  }
}
