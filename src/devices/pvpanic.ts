/**
 * pvpanic as a PCI function (1b36:0011; QEMU's docs/specs/pvpanic, linux/misc/pvpanic.h): a kernel that panics writes
 * what became of it to the one register, a byte at offset 0 of BAR 0. Reading it says which events are heard.
 *
 * Each event is told once until the machine is reset: a guest that writes on and on fills no ring.
 */
import type { AccessSize, BusDevice, EventSink } from "../bus/device.ts";
import { EventKind, PvpanicEvent } from "../bus/events.ts";
import type { DeviceLock } from "../bus/mapping.ts";
import type { PciFunction } from "../bus/pci/bus.ts";
import { PciConfigSpace, type PciConfigState } from "../bus/pci/config-space.ts";
import { Pci } from "../bus/pci/registers.ts";
import { type Of, struct, u8 } from "../ffi/struct.ts";

const heard = PvpanicEvent.panicked | PvpanicEvent.crashLoaded;

const identity = {
  vendor: 0x1b36,
  device: 0x0011,
  subsystemVendor: 0x1af4,
  subsystem: 0x1100,
  classCode: 0x08_80_00, // system peripheral, other
  revision: 1,
};
const bar = 0;
/** A page, so that nothing else of the guest's shares it. */
export const pvpanicBarBytes = 4096;

/** `told`: the events that were told of since the machine's last reset. */
export const PvpanicState = struct("pvpanic", 1, { told: u8 });

export class Pvpanic implements PciFunction, BusDevice {
  readonly config: PciConfigSpace;
  readonly state: Of<typeof PvpanicState>;

  constructor(
    states: {
      readonly config: Of<typeof PciConfigState>;
      readonly device: Of<typeof PvpanicState>;
    },
    /** Of the bus. */
    readonly lock: DeviceLock,
    readonly events: EventSink,
    /** The BAR may have moved, appeared or gone. */
    readonly moved: () => void,
  ) {
    this.state = states.device;
    this.config = new PciConfigSpace(states.config, identity);
    this.config.addBar({
      ...{ index: bar, size: pvpanicBarBytes, is64: false, prefetchable: false },
    });
  }

  /** As after power-on, with the BAR where firmware would have put it. */
  powerOn(barAddress: number): void {
    this.state.told = 0;
    this.config.reset();
    this.config.placeBar(bar, barAddress);
  }

  configWritten(offset: number, size: AccessSize): void {
    const touches = (at: number, length: number) => offset < at + length && at < offset + size;
    if (touches(Pci.COMMAND, 2) || touches(Pci.BASE_ADDRESS_0, 4)) this.moved();
  }

  /** Where the BAR answers now; undefined when it does not. */
  get barAddress(): number | undefined {
    this.lock.acquire();
    try {
      return this.config.decodedAddress(bar);
    } finally {
      this.lock.release();
    }
  }

  read(offset: number): number {
    return offset === 0 ? heard : 0;
  }

  /** Bits that nobody knows, and wider accesses' further bytes, mean nothing. */
  write(offset: number, _size: AccessSize, value: number): void {
    if (offset !== 0) return;
    const fresh = value & heard & ~this.state.told;
    this.state.told |= fresh;
    for (const event of [PvpanicEvent.crashLoaded, PvpanicEvent.panicked]) {
      if (fresh & event) this.events.emit(EventKind.guestPanic, event, 0);
    }
  }
}
