/** The machine's virtio-mmio devices: pages in a row below 4 GiB, and the pins of the IOAPIC that PCI has for INTx. */
import type { SharedPin } from "../../bus/pci/intx.ts";
import type { SharedState } from "../../bus/shared-state.ts";
import { VirtioMmioDevice, VirtioMmioState } from "../../devices/virtio/mmio-device.ts";
import { Mmio, mmioBytes } from "../../devices/virtio/mmio-registers.ts";
import { ConfigError } from "../../exit-codes.ts";
import { signalEventfd } from "../../ffi/eventfd.ts";
import { setIoeventfd } from "../../ffi/kvm.ts";
import type { Hold } from "../hold.ts";
import { Gsi, MemoryMap } from "../memory-map.ts";
import type { Owned } from "../owned.ts";
import type { MachineSpec } from "../spec.ts";
import { buildTransport } from "./registers.ts";
import { type PluggedVirtio, type VirtioDevice, type VirtioMmioSpec, wire } from "./spec.ts";

/** A device that is plugged into a page. */
export interface VirtioMmioPage extends PluggedVirtio {
  readonly spec: VirtioMmioSpec;
  readonly device: VirtioMmioDevice;
}

export interface VirtioMmio {
  readonly pages: readonly VirtioMmioPage[];
  /** As after power-on. No vCPU runs, and every backend stands still. */
  reset(): void;
}

const pagesMax = MemoryMap.virtioMmioSize / mmioBytes;
/** A driver writes 32 bits to the notify register (section 4.2.2). */
const kickBytes = 4;

/** Gives devices their pages, pins and eventfds. Throws ConfigError when there are too many. */
export function plugMmio(devices: readonly VirtioDevice[], owned: Owned): VirtioMmioSpec[] {
  if (devices.length > pagesMax) {
    const why = `${devices.length} devices for ${pagesMax} pages of virtio=mmio; give fewer`;
    throw new ConfigError(why);
  }
  return wire(devices, owned).map((device, index) => ({
    ...device,
    address: MemoryMap.virtioMmio + index * mmioBytes,
    gsi: Gsi.intx + (index % Gsi.intxCount),
  }));
}

/** `pins` are those from `Gsi.intx` on; `hold` is this thread's. */
export function buildVirtioMmio(
  spec: MachineSpec,
  state: SharedState,
  pins: readonly SharedPin[],
  hold: Hold,
): VirtioMmio {
  const pages = (spec.virtioMmio ?? []).map((virtio, index): VirtioMmioPage => {
    const lock = state.lock();
    const { transport, config, counters } = buildTransport(spec, state, virtio);
    const pin = pins[virtio.gsi - Gsi.intx]!;
    // slots of PCI on a pin are equal to it modulo 8: this is no such bit
    const who = (index + 1) % 32;
    const device = new VirtioMmioDevice(
      transport,
      state.struct(VirtioMmioState),
      {
        setKick(queue) {
          const at = virtio.address + Mmio.QUEUE_NOTIFY;
          return setIoeventfd(spec.vmFd, virtio.kickFds[queue]!, at, kickBytes, true, queue);
        },
        kick: (queue) => signalEventfd(virtio.kickFds[queue]!),
        setPin: (asserted) => pin.set(who, asserted),
        resetting: () => hold.until(transport.handOver),
      },
      lock,
    );
    return { spec: virtio, device, lock, config, counters };
  });

  return {
    pages,
    reset() {
      for (const { device, config, spec: virtio } of pages) {
        config.set(virtio.config);
        device.powerOn();
      }
    },
  };
}
