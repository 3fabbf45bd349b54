/**
 * Virtio functions on a PCI bus, and around them what the machine would be: KVM's ioeventfds, irqfds and pins as Linux
 * has them. A driver's accesses go by `configRead`, `read` and their like, as they would by way of KVM.
 */
import type { AccessSize } from "../../../src/bus/device.ts";
import { Mapping } from "../../../src/bus/mapping.ts";
import { MmioBus } from "../../../src/bus/mmio-bus.ts";
import { PciBus, PciBusState, PciMmconfig } from "../../../src/bus/pci/bus.ts";
import { PciConfigState } from "../../../src/bus/pci/config-space.ts";
import { SharedPin } from "../../../src/bus/pci/intx.ts";
import { MsixState } from "../../../src/bus/pci/msix.ts";
import { VirtioState } from "../../../src/devices/virtio/device-state.ts";
import { VirtioPciFunction, VirtioPciState } from "../../../src/devices/virtio/pci-function.ts";
import { VirtioTransport } from "../../../src/devices/virtio/transport.ts";
import { FakeVectors, LockOrder } from "../../bus/pci/parts.ts";

export const mmconfigBase = 0xe800_0000;
/** Where a slot's BAR is out of power-on. */
export const barOf = (slot: number): number => 0xc000_0000 + slot * 0x1_0000;
/** VERSION_1 alone in the upper half; INDIRECT_DESC, EVENT_IDX and the device's bit 5 in the lower. */
export const offered = { low: 0x3000_0020, high: 1 };
const barBytes = 0x1_0000;

/** A function, and what became of it. */
export interface RigFunction {
  readonly slot: number;
  readonly device: VirtioPciFunction;
  readonly vectors: FakeVectors;
  /** Kicks of each queue, however they came. */
  readonly kicks: number[];
  /** Kicks that came as exits. */
  readonly exits: number[];
  readonly wakes: { count: number };
}

export class Rig {
  readonly locks = new LockOrder(["device", "bus", "msix", "pins", "ioapic"]);
  readonly mmio: MmioBus;
  readonly functions: RigFunction[] = [];
  /** Level of the one interrupt pin. */
  pin = false;
  /** KVM's: address → whose queue. Writes of two bytes there are kicks. */
  readonly ioeventfds = new Map<number, { slot: number; index: number }>();
  /** Every call for one, in order. */
  readonly kickCalls: string[] = [];
  private readonly bus: PciBus;
  private readonly generation = new Int32Array(new SharedArrayBuffer(4));
  private readonly shared: SharedPin;
  private readonly data = new DataView(new ArrayBuffer(8));

  constructor() {
    this.bus = new PciBus(new PciBusState(), this.locks.lock("bus"));
    const ioapic = this.locks.lock("ioapic");
    this.shared = new SharedPin(new Int32Array(new SharedArrayBuffer(4)), this.locks.lock("pins"), {
      set: (level) => {
        ioapic.acquire();
        this.pin = level;
        ioapic.release();
      },
    });
    this.mmio = new MmioBus({
      generation: this.generation,
      ranges: () =>
        this.functions.flatMap(({ slot, device }) => {
          const base = device.barAddress;
          if (base === undefined) return [];
          return [new Mapping(`${slot}`, base, barBytes, device.bar, this.locks.lock("device"))];
        }),
    });
    this.mmio.map("MMCONFIG", mmconfigBase, 1 << 28, new PciMmconfig(this.bus));
  }

  /** A function at `slot`, powered on. Its backend does at once what it is asked, unless `settles` is off. */
  add(slot: number, options: Partial<FunctionOptions> = {}): RigFunction {
    const { type, queues, vectors, config, writable, settles, shares } = {
      ...defaults,
      ...options,
    };
    const state = new VirtioState(new SharedArrayBuffer(VirtioState.size));
    const wakes = { count: 0 };
    const transport = new VirtioTransport(
      state,
      { type, featuresLow: offered.low, featuresHigh: offered.high, queueSizes: queues },
      {
        bytes: Uint8Array.from(config),
        writable: Uint8Array.from(writable),
        initial: Uint8Array.from(config),
      },
      () => {
        wakes.count++;
        if (settles) transport.handOver.reach(transport.handOver.wanted);
      },
      shares,
    );
    const sink = new FakeVectors();
    const kicks: number[] = queues.map(() => 0);
    const exits: number[] = queues.map(() => 0);
    const device = new VirtioPciFunction(
      transport,
      { config: new PciConfigState(), msix: new MsixState(), pci: new VirtioPciState() },
      {
        vectors: sink,
        setKick: (index, address, assign) => this.setKick(slot, index, address, assign),
        kick: (index) => {
          kicks[index]!++;
          exits[index]!++;
        },
        signal: (vector) => {
          if (vector >= vectors) throw new RangeError(`test: vector ${vector} has no eventfd`);
          sink.signal(vector);
        },
        setPin: (level) => this.shared.set(slot, level),
        moved: () => Atomics.add(this.generation, 0, 1),
      },
      {
        device: this.locks.lock("device"),
        bus: this.locks.lock("bus"),
        msix: this.locks.lock("msix"),
      },
      vectors,
    );
    device.powerOn(barOf(slot));
    this.bus.add(slot, device);
    const added = { slot, device, vectors: sink, kicks, exits, wakes };
    this.functions.push(added);
    return added;
  }

  configRead(slot: number, offset: number, size: AccessSize): number {
    return this.read(mmconfigBase + slot * 0x8000 + offset, size);
  }

  configWrite(slot: number, offset: number, size: AccessSize, value: number): void {
    this.write(mmconfigBase + slot * 0x8000 + offset, size, value);
  }

  read(address: number, size: AccessSize): number {
    this.data.setUint32(0, 0, true);
    this.mmio.read(address, size, this.data, 0);
    return this.data.getUint32(0, true);
  }

  write(address: number, size: AccessSize, value: number): void {
    const kick = size === 2 ? this.ioeventfds.get(address) : undefined;
    if (kick) {
      this.functions.find(({ slot }) => slot === kick.slot)!.kicks[kick.index]!++;
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

  /** KVM_IOEVENTFD: EEXIST for an address that is taken, ENOENT for another's. */
  private setKick(slot: number, index: number, address: number, assign: boolean): boolean {
    const owner = this.ioeventfds.get(address);
    const done = assign ? !owner : owner?.slot === slot && owner.index === index;
    if (done && assign) this.ioeventfds.set(address, { slot, index });
    else if (done) this.ioeventfds.delete(address);
    const what = `${assign ? "+" : "-"}${slot}.${index}@${address.toString(16)}`;
    this.kickCalls.push(done ? what : `${what} refused`);
    return done;
  }
}

interface FunctionOptions {
  readonly type: number;
  readonly queues: readonly number[];
  readonly vectors: number;
  readonly config: readonly number[];
  readonly writable: readonly number[];
  /** Whether the backend is where it is asked to be at once. */
  readonly settles: boolean;
  /** How many backends share the queues. */
  readonly shares: number;
}

const defaults: FunctionOptions = {
  type: 2,
  queues: [256, 64],
  vectors: 3,
  config: [1, 2, 3, 4, 5, 6, 7, 8],
  writable: [0, 0, 0, 0, 1, 0, 0, 0],
  settles: true,
  shares: 1,
};
