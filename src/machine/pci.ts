/** The machine's PCI segment: bus 0 with its host bridge and its virtio functions, in slot order. */
import type { BusDevice, EventSink } from "../bus/device.ts";
import type { Lock } from "../bus/lock.ts";
import { Mapping } from "../bus/mapping.ts";
import { PciBus, PciBusState, PciConfigPorts, PciMmconfig } from "../bus/pci/bus.ts";
import { PciConfigState } from "../bus/pci/config-space.ts";
import { SharedPin } from "../bus/pci/intx.ts";
import { MsixState } from "../bus/pci/msix.ts";
import type { SharedState } from "../bus/shared-state.ts";
import { times } from "../bus/times.ts";
import { HostBridge } from "../devices/host-bridge.ts";
import type { Ioapic } from "../devices/legacy/ioapic.ts";
import { IoapicPin } from "../devices/legacy/ioapic.ts";
import { Pvpanic, PvpanicState, pvpanicBarBytes } from "../devices/pvpanic.ts";
import { VirtioPciFunction, VirtioPciState } from "../devices/virtio/pci-function.ts";
import { BarLayout } from "../devices/virtio/pci-layout.ts";
import { Epoll } from "../ffi/epoll.ts";
import { drainEventfd, signalEventfd } from "../ffi/eventfd.ts";
import { setIoeventfd, setIrqfd } from "../ffi/kvm.ts";
import { pollEvents } from "../ffi/poll.ts";
import { Gsi, intxOf, MemoryMap } from "./memory-map.ts";
import type { RoutingTable } from "./routing.ts";
import type { MachineSpec } from "./spec.ts";
import { buildTransport } from "./virtio/registers.ts";
import { barStride, type PluggedVirtio, type VirtioSpec } from "./virtio/spec.ts";

/** Drivers write 16 bits to a notify register (virtio 1.2 section 4.1.5.2). */
const kickBytes = 2;

/** A virtio device that is plugged into PCI. */
export interface VirtioFunction extends PluggedVirtio {
  readonly spec: VirtioSpec;
  readonly device: VirtioPciFunction;
}

export interface PciSegment {
  readonly configPorts: BusDevice;
  readonly mmconfig: BusDevice;
  readonly functions: readonly VirtioFunction[];
  /** The IOAPIC's pins from `Gsi.intx` on, for others to share. */
  readonly pins: readonly SharedPin[];
  /** Registers that move: for the MMIO bus. */
  ranges(): Mapping[];
  /** As after power-on. No vCPU runs, and every backend stands still. */
  reset(): void;
}

/** `generation` is the topology's word; see MmioBus. */
export function buildPci(
  spec: MachineSpec,
  state: SharedState,
  ioapic: { readonly device: Ioapic; readonly lock: Lock },
  routing: RoutingTable,
  generation: Int32Array<SharedArrayBuffer>,
  events: EventSink,
): PciSegment {
  const busLock = state.lock();
  const bus = new PciBus(state.struct(PciBusState), busLock);
  const bridge = new HostBridge(state.struct(PciConfigState));
  bus.add(0, bridge);

  const pinLock = state.lock();
  const pins = times(Gsi.intxCount, (index) => {
    const pin = new IoapicPin(ioapic.device, Gsi.intx + index, ioapic.lock);
    return new SharedPin(state.words(1), pinLock, pin);
  });

  const functions = spec.virtio.map((virtio): VirtioFunction => {
    const lock = state.lock();
    const { transport, config, counters } = buildTransport(spec, state, virtio);
    const pin = pins[intxOf(virtio.slot)]!;
    const device = new VirtioPciFunction(
      transport,
      {
        config: state.struct(PciConfigState),
        msix: state.struct(MsixState),
        pci: state.struct(VirtioPciState),
      },
      {
        vectors: {
          connect(vector, low, high, data) {
            const gsi = virtio.gsiBase + vector;
            routing.set(gsi, low, high, data);
            setIrqfd(spec.vmFd, virtio.callFds[vector]!, gsi, true);
          },
          disconnect(vector) {
            setIrqfd(spec.vmFd, virtio.callFds[vector]!, virtio.gsiBase + vector, false);
          },
          isPending: (vector) => pollEvents(virtio.callFds[vector]!, Epoll.in) !== 0,
          forget: (vector) => void drainEventfd(virtio.callFds[vector]!),
        },
        setKick: (index, address, assign) =>
          setIoeventfd(spec.vmFd, virtio.kickFds[index]!, address, kickBytes, assign),
        kick: (index) => signalEventfd(virtio.kickFds[index]!),
        signal: (vector) => signalEventfd(virtio.callFds[vector]!),
        setPin: (asserted) => pin.set(virtio.slot, asserted),
        moved: () => Atomics.add(generation, 0, 1),
      },
      { device: lock, bus: busLock, msix: state.lock() },
      virtio.callFds.length,
    );
    bus.add(virtio.slot, device);
    return { spec: virtio, device, lock, config, counters };
  });

  const moved = () => Atomics.add(generation, 0, 1);
  const pvpanic = buildPvpanic(spec, state, busLock, events, moved);
  if (pvpanic) bus.add(pvpanic.slot, pvpanic.device);

  return {
    configPorts: new PciConfigPorts(bus),
    mmconfig: new PciMmconfig(bus),
    functions,
    pins,
    ranges() {
      const mappings = functions.flatMap(({ device, spec: { id }, lock }) => {
        const address = device.barAddress;
        return address === undefined
          ? []
          : [new Mapping(id, address, BarLayout.end, device.bar, lock)];
      });
      return pvpanic ? [...mappings, ...pvpanic.ranges()] : mappings;
    },
    reset() {
      bus.reset();
      bridge.config.reset();
      for (const { device, config, spec: virtio } of functions) {
        config.set(virtio.config);
        device.powerOn(MemoryMap.pciWindow32 + virtio.slot * barStride);
      }
      pvpanic?.device.powerOn(MemoryMap.pciWindow32 + pvpanic.slot * barStride);
      if (spec.barsAnswer) for (const { device } of functions) device.config.decodeMemory();
      Atomics.add(generation, 0, 1);
    },
  };
}

function buildPvpanic(
  spec: MachineSpec,
  state: SharedState,
  busLock: Lock,
  events: EventSink,
  moved: () => void,
) {
  const { pvpanicSlot: slot } = spec;
  if (slot === undefined) return undefined;
  const lock = state.lock();
  const states = { config: state.struct(PciConfigState), device: state.struct(PvpanicState) };
  const device = new Pvpanic(states, busLock, events, moved);
  const ranges = () => {
    const address = device.barAddress;
    if (address === undefined) return [];
    return [new Mapping("pvpanic", address, pvpanicBarBytes, device, lock)];
  };
  return { slot, device, ranges };
}
