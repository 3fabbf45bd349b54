/**
 * The whole board on one page, in address order: every device of one machine, its registers in shared memory, its lock,
 * its pins, and where it answers. Every thread builds the same board from the same spec, so the order of the
 * declarations here is the layout of the machine's state. Nothing registers itself.
 */
import { ByteRing } from "../bus/byte-ring.ts";
import type { EventRing } from "../bus/event-ring.ts";
import { type Lock, locked } from "../bus/lock.ts";
import { MmioBus } from "../bus/mmio-bus.ts";
import { PortBus } from "../bus/port-bus.ts";
import { SharedState } from "../bus/shared-state.ts";
import { AcpiPower, AcpiPowerState } from "../devices/legacy/acpi-power.ts";
import { Cmos, CmosState, type RamSize } from "../devices/legacy/cmos.ts";
import { DebugPort, DebugPortState } from "../devices/legacy/debug-port.ts";
import { EventDevice, EventDeviceState } from "../devices/legacy/event-device.ts";
import { I8042, I8042State } from "../devices/legacy/i8042.ts";
import { Ioapic, IoapicPin, IoapicState } from "../devices/legacy/ioapic.ts";
import { PmTimer, PmTimerState } from "../devices/legacy/pm-timer.ts";
import { Serial, SerialState } from "../devices/legacy/serial.ts";
import { Watchdog, WatchdogState, watchdogPorts } from "../devices/legacy/watchdog.ts";
import { mmioBytes } from "../devices/virtio/mmio-registers.ts";
import { systemClock } from "../ffi/clock.ts";
import { armTimerfd } from "../ffi/epoll.ts";
import { signalEventfd } from "../ffi/eventfd.ts";
import { signalMsi } from "../ffi/kvm.ts";
import { Hold } from "./hold.ts";
import { Gsi, MemoryMap, Port } from "./memory-map.ts";
import { buildPci } from "./pci.ts";
import { RoutingTable } from "./routing.ts";
import type { MachineSpec } from "./spec.ts";
import { buildVirtioMmio } from "./virtio/mmio.ts";
import type { PluggedVirtio } from "./virtio/spec.ts";

export interface Board {
  readonly ports: PortBus;
  readonly mmio: MmioBus;
  readonly serial: { readonly device: Serial; readonly lock: Lock } | undefined;
  readonly cmos: { readonly device: Cmos; readonly lock: Lock };
  /** Absent without `--watchdog`. */
  readonly watchdog: { readonly device: Watchdog; readonly lock: Lock } | undefined;
  readonly acpiEvents: { readonly device: EventDevice; readonly lock: Lock };
  /** On whatever transport. */
  readonly virtio: readonly PluggedVirtio[];
  /** This thread's: what its vCPU waits for before it goes on. */
  readonly hold: Hold;
  /** Puts every device back to its power-on state. No vCPU may run, and every backend stands still. */
  reset(): void;
  /** A vCPU has ended a level interrupt of this vector. */
  endOfInterrupt(vector: number): void;
  /** The machine is about to be entered at power-on or after a reset. */
  expectFirstEntry(): void;
  /** True once after `expectFirstEntry`. */
  takeFirstEntry(): boolean;
}

/** Does not look at what `spec` says of the VM, which may still be on its way. */
export function buildBoard(spec: MachineSpec, events: EventRing): Board {
  const state = new SharedState(spec.state);
  const ports = new PortBus();
  const generation = state.words(1);
  const mmio = new MmioBus({ generation, ranges: () => pci.ranges() });
  const clock = systemClock;

  const routing = new RoutingTable(spec, state);
  const ioapicLock = state.lock();
  const ioapic = new Ioapic(
    state.struct(IoapicState),
    { send: (address, data) => signalMsi(spec.vmFd, address, data) },
    {
      changed: (pin) => {
        if (ioapic.masked(pin)) routing.clear(pin);
        else routing.set(pin, ioapic.messageAddress(pin), 0, ioapic.messageData(pin));
      },
    },
  );
  const pin = (gsi: number) => new IoapicPin(ioapic, gsi, ioapicLock);

  const i8042Lock = state.lock();
  const i8042 = new I8042(state.struct(I8042State), events);
  ports.map("i8042", Port.i8042, 5, i8042, i8042Lock);

  const cmosLock = state.lock();
  const rtcTimer = { arm: (deadlineNs: number) => armTimerfd(spec.rtcTimerFd, deadlineNs) };
  const cmos = new Cmos(state.struct(CmosState), pin(Gsi.rtc), clock, rtcTimer, ramSize(spec));
  ports.map("cmos", Port.cmos, 2, cmos, cmosLock);

  const debugLock = state.lock();
  const debug = new DebugPort(state.struct(DebugPortState), events, clock);
  ports.map("debug port", Port.debug, 1, debug, debugLock);

  const serialLock = state.lock();
  const serialState = state.struct(SerialState);
  const serial = spec.serial
    ? new Serial(
        serialState,
        pin(Gsi.serial),
        new ByteRing(spec.serial.output, () => signalEventfd(spec.ioWakeFd)),
        new ByteRing(spec.serial.input),
      )
    : undefined;
  if (serial) ports.map("serial", Port.serial, 8, serial, serialLock);

  const powerLock = state.lock();
  const power = new AcpiPower(state.struct(AcpiPowerState), events);
  ports.map("ACPI power", Port.sleepControl, 3, power, powerLock);

  const pmTimer = new PmTimer(state.struct(PmTimerState), clock);
  ports.map("PM timer", Port.pmTimer, 4, pmTimer);

  const watchdog = buildWatchdog(spec, state, events);
  if (watchdog) {
    ports.map("watchdog", Port.watchdog, watchdogPorts, watchdog.device, watchdog.lock);
  }

  const ioapicSide = { device: ioapic, lock: ioapicLock };
  const eventsLock = state.lock();
  const acpiEvents = new EventDevice(state.struct(EventDeviceState), pin(Gsi.events));
  ports.map("ACPI events", Port.events, 1, acpiEvents, eventsLock);

  const pci = buildPci(spec, state, ioapicSide, routing, generation, events);
  ports.map("PCI configuration", Port.pciConfig, 8, pci.configPorts);
  mmio.map("MMCONFIG", MemoryMap.mmconfig, MemoryMap.mmconfigSize, pci.mmconfig);

  const hold = new Hold();
  const virtioMmio = buildVirtioMmio(spec, state, pci.pins, hold);
  for (const { spec: page, device } of virtioMmio.pages) {
    mmio.map(page.id, page.address, mmioBytes, device);
  }

  mmio.map("IOAPIC", MemoryMap.ioapic, MemoryMap.ioapicSize, ioapic, ioapicLock);

  const firstEntry = state.words(1);
  const resettable: { device: { reset(): void }; lock: Lock }[] = [
    { device: i8042, lock: i8042Lock },
    { device: cmos, lock: cmosLock },
    { device: debug, lock: debugLock },
    { device: power, lock: powerLock },
    { device: pmTimer, lock: powerLock },
    { device: acpiEvents, lock: eventsLock },
    { device: ioapic, lock: ioapicLock },
  ];
  if (serial) resettable.unshift({ device: serial, lock: serialLock });
  if (watchdog) resettable.push(watchdog);

  return {
    ports,
    mmio,
    serial: serial && { device: serial, lock: serialLock },
    cmos: { device: cmos, lock: cmosLock },
    watchdog,
    acpiEvents: { device: acpiEvents, lock: eventsLock },
    virtio: [...pci.functions, ...virtioMmio.pages],
    hold,
    reset() {
      pci.reset();
      virtioMmio.reset();
      for (const { device, lock } of resettable) locked(lock, () => device.reset());
      for (let gsi = 0; gsi < Gsi.pins; gsi++) routing.clear(gsi);
    },
    endOfInterrupt(vector) {
      ioapicLock.acquire();
      try {
        ioapic.endOfInterrupt(vector);
      } finally {
        ioapicLock.release();
      }
    },
    expectFirstEntry: () => Atomics.store(firstEntry, 0, 1),
    takeFirstEntry: () => Atomics.exchange(firstEntry, 0, 0) === 1,
  };
}

/** It has a timer if it was asked for. */
function buildWatchdog(
  spec: MachineSpec,
  state: SharedState,
  events: EventRing,
): Board["watchdog"] {
  const { watchdogTimerFd: fd } = spec;
  if (fd === undefined) return undefined;
  const timer = { arm: (deadlineNs: number) => armTimerfd(fd, deadlineNs) };
  const lock = state.lock();
  const device = new Watchdog(state.struct(WatchdogState), events, systemClock, timer);
  return { device, lock };
}

/** What the CMOS tells of RAM, in bytes. */
function ramSize(spec: MachineSpec): RamSize {
  const size = { below4GiB: 0, above4GiB: 0 };
  for (const { start, length } of spec.ram) {
    size[start < MemoryMap.ramAbove4G ? "below4GiB" : "above4GiB"] += length;
  }
  return size;
}
