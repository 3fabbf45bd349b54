/**
 * What the ACPI tables say of a machine, as plain values. Nothing here is optional by default: what
 * a machine lacks is left out by its description, and then appears in no table.
 */
import type { Range } from "./resources.ts";

export interface AcpiCpu {
  readonly apicId: number;
  /** Present at boot. Otherwise it is a spare that can be brought in later. */
  readonly enabled: boolean;
}

export interface AcpiIoapic {
  readonly id: number;
  readonly address: number;
  /** The global system interrupt of pin 0. */
  readonly gsiBase: number;
  readonly pins: number;
}

/** A device at I/O ports with an edge-triggered interrupt. */
export interface AcpiPortDevice {
  readonly port: number;
  /** How many ports. */
  readonly length: number;
  readonly gsi: number;
}

/** A virtio-mmio device: a range of registers, and a level-triggered interrupt, active low as PCI's are. */
export interface AcpiVirtioMmio {
  readonly address: number;
  readonly length: number;
  readonly gsi: number;
}

/** One PCI interrupt pin of a device on the root bus: level-triggered, active low. */
export interface AcpiPciInterrupt {
  readonly device: number;
  /** 0 is INTA, 3 is INTD. */
  readonly pin: number;
  readonly gsi: number;
}

/** A PCI segment: one root bus and what lies behind it. */
export interface AcpiPciSegment {
  readonly segment: number;
  readonly startBus: number;
  readonly endBus: number;
  /** Where the configuration space of bus 0 of this segment is (also if `startBus` is not 0). */
  readonly mmconfig: number;
  /** The ports of configuration mechanism 1, if the segment answers there. */
  readonly configPorts?: Range;
  /** Windows that the devices' BARs lie in: ports, memory below 4 GiB, memory above. */
  readonly ports: readonly Range[];
  readonly memory32: readonly Range[];
  readonly memory64: readonly Range[];
  readonly interrupts: readonly AcpiPciInterrupt[];
}

/** One access that an action of the watchdog consists of, to the register at an I/O port. */
export interface AcpiWatchdogEntry {
  /** `value` is compared with, or written to, the register; "count" reads or writes a number. */
  readonly access: "read" | "write" | "read count" | "write count";
  readonly port: number;
  readonly size: 1 | 4;
  readonly value: number;
  readonly mask: number;
}

/** A watchdog that is driven by its table (see wdat.ts). */
export interface AcpiWatchdog {
  readonly periodMs: number;
  readonly leastCount: number;
  readonly mostCount: number;
  readonly actions: Readonly<Record<WatchdogAction, AcpiWatchdogEntry>>;
}
/** What a driver can ask of it, under the names of Linux's `enum acpi_wdat_actions`. */
export type WatchdogAction =
  | ("RESET" | "GET_CURRENT_COUNTDOWN" | "GET_COUNTDOWN" | "SET_COUNTDOWN")
  | ("GET_RUNNING_STATE" | "SET_RUNNING_STATE" | "GET_STOPPED_STATE" | "SET_STOPPED_STATE")
  | ("GET_STATUS" | "SET_STATUS");

/** A Generic Event Device: its byte of pending events, and what the bits of it mean. */
export interface AcpiEvents {
  readonly port: number;
  readonly gsi: number;
  readonly powerButton: number;
}

/** What the machines of one kind have in common. */
export interface AcpiBoard {
  readonly rtc?: AcpiPortDevice;
  readonly sleepControlPort: number;
  readonly sleepStatusPort: number;
  readonly reset: { readonly port: number; readonly value: number };
  readonly pmTimerPort?: number;
  readonly events?: AcpiEvents;
  /** Ports and memory that belong to the board, and that the OS must not give to any device. */
  readonly reservedPorts?: readonly Range[];
  readonly reservedMemory?: readonly Range[];
  readonly pci?: readonly AcpiPciSegment[];
}

export interface AcpiPlatform extends AcpiBoard {
  /** Where the tables go: from here, and no further than `tablesEnd`. */
  readonly tablesAddress: number;
  readonly tablesEnd: number;
  /** On a 16-byte boundary below `tablesEnd`; the tables are laid around it. */
  readonly rsdpAddress: number;
  /** In ascending order of APIC ids. */
  readonly cpus: readonly AcpiCpu[];
  readonly localApicAddress: number;
  readonly ioapic: AcpiIoapic;
  readonly serial?: AcpiPortDevice;
  readonly watchdog?: AcpiWatchdog;
  readonly virtioMmio?: readonly AcpiVirtioMmio[];
}
