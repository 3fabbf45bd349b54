/** The host bridge at 00:00.0: it is there for the guest to see, and has no registers of its own. */
import type { PciFunction } from "../bus/pci/bus.ts";
import { PciConfigSpace, type PciConfigState } from "../bus/pci/config-space.ts";
import type { Of } from "../ffi/struct.ts";

const identity = {
  vendor: 0x8086,
  device: 0x0d57,
  subsystemVendor: 0,
  subsystem: 0,
  classCode: 0x06_00_00,
  revision: 0,
};

export class HostBridge implements PciFunction {
  readonly config: PciConfigSpace;

  constructor(state: Of<typeof PciConfigState>) {
    this.config = new PciConfigSpace(state, identity);
  }

  configWritten(): void {}
}
