/** What the ACPI tables say of every machine alike: the board, its PCI bus, its clock and its buttons. */
import { times } from "../bus/times.ts";
import { AcpiEvent } from "../devices/legacy/event-device.ts";
import type { AcpiBoard } from "../firmware/acpi/platform.ts";
import { Gsi, intxOf, MemoryMap, Port, resetValue } from "./memory-map.ts";

/**
 * There are no bridges. Linux looks for a device in each of 32 slots of every bus up to the last one that MCFG names
 * (pcibios_fixup_peer_bridges in its arch/x86/pci/legacy.c), by two exits each: 16,320 for 255 empty buses.
 */
const lastBus = 0;
const pciWindow32 = {
  start: MemoryMap.pciWindow32,
  length: MemoryMap.pciWindow32End - MemoryMap.pciWindow32,
};
/** Every slot but the host bridge's: a device may come later. */
export const slots = times(31, (index) => index + 1);

/** The serial port of those machines that have one. */
export const serial = { port: Port.serial, length: 8, gsi: Gsi.serial };

export const platform: AcpiBoard = {
  rtc: { port: Port.cmos, length: 2, gsi: Gsi.rtc },
  sleepControlPort: Port.sleepControl,
  sleepStatusPort: Port.sleepStatus,
  reset: { port: Port.reset, value: resetValue },
  pmTimerPort: Port.pmTimer,
  events: { port: Port.events, gsi: Gsi.events, powerButton: AcpiEvent.powerButton },
  pci: [
    {
      segment: 0,
      startBus: 0,
      endBus: lastBus,
      mmconfig: MemoryMap.mmconfig,
      configPorts: { start: Port.pciConfig, length: 8 },
      ports: [],
      memory32: [pciWindow32],
      memory64: [],
      interrupts: slots.map((device) => ({ device, pin: 0, gsi: Gsi.intx + intxOf(device) })),
    },
  ],
};
