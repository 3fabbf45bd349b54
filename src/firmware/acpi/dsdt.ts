/**
 * DSDT: the devices of the machine and its sleep states, as AML. ACPI 6.5 sections 5.2.11.1, 6 and
 * 7.
 *
 * Interrupts are in extended descriptors: hardware-reduced ACPI has no ISA interrupt model to fall
 * back on, and Linux takes trigger and polarity from these as they stand.
 */
import { device, eisaId, join, list, littleEndian, name, scope, type Term, text } from "./aml.ts";
import { eventDevices } from "./events.ts";
import { pciRoot } from "./pci-root.ts";
import type {
  AcpiBoard,
  AcpiCpu,
  AcpiPlatform,
  AcpiPortDevice,
  AcpiVirtioMmio,
} from "./platform.ts";
import * as res from "./resources.ts";
import { table } from "./table.ts";

/**
 * SLP_TYP of S5, which the OS writes to the sleep control register: `s5SleepType << 2 | 1 << 5`.
 */
export const s5SleepType = 5;

/** `_STA` of a device that is present, enabled, shown and working (section 6.3.7). */
const working = 0x0f;

/** `\_SB.C000`, `C001`, …: a processor (section 8.4), tied by its UID to its MADT entry. */
const processor = (cpu: AcpiCpu, uid: number): Term =>
  device(
    `C${uid.toString(16).toUpperCase().padStart(3, "0")}`,
    name("_HID", text("ACPI0007")),
    name("_UID", uid),
    name("_STA", cpu.enabled ? working : 0),
  );

export const portDevice = (
  label: string,
  id: string,
  { port, length, gsi }: AcpiPortDevice,
): Term =>
  device(
    label,
    name("_HID", eisaId(id)),
    name("_UID", 0),
    name("_CRS", res.resources(res.io({ start: port, length }), res.interrupt([gsi]))),
  );

/** `\_SB.VR00`, `VR01`, …: in hex. Linux's virtio_mmio driver knows the id, which Arm gave out for it. */
const virtioMmioDevice = ({ address, length, gsi }: AcpiVirtioMmio, index: number): Term =>
  device(
    `VR${index.toString(16).toUpperCase().padStart(2, "0")}`,
    name("_HID", text("LNRO0005")),
    name("_UID", index),
    name(
      "_CRS",
      res.resources(
        res.memory32Fixed({ start: address, length }),
        res.interrupt([gsi], { level: true, low: true, shared: true }),
      ),
    ),
  );

const memory = (range: res.Range): Term =>
  range.start + range.length <= 0x1_0000_0000
    ? res.memory32Fixed(range)
    : res.qwordMemory(range, { consumer: true });

/**
 * What the board itself decodes: the fixed ACPI registers, PCI configuration space, and what else
 * it is told.
 */
function boardDevice(platform: AcpiBoard): Term {
  const bytes = [platform.sleepControlPort, platform.sleepStatusPort, platform.reset.port];
  const ports = bytes.map((start) => ({ start, length: 1 }));
  if (platform.pmTimerPort !== undefined) ports.push({ start: platform.pmTimerPort, length: 4 });
  const mmconfig = (platform.pci ?? []).map(({ mmconfig: base, startBus, endBus }) => ({
    start: base + startBus * 0x10_0000, // 1 MiB of configuration space for a bus
    length: (endBus - startBus + 1) * 0x10_0000,
  }));
  return device(
    "BORD",
    name("_HID", eisaId("PNP0C02")),
    name("_UID", 0),
    name(
      "_CRS",
      res.resources(
        ...[...ports, ...(platform.reservedPorts ?? [])].map(res.io),
        ...[...mmconfig, ...(platform.reservedMemory ?? [])].map(memory),
      ),
    ),
  );
}

/** The devices that machines of one kind have in common. */
export function encodeBoard(platform: AcpiBoard): Term {
  const { rtc, events, pci = [] } = platform;
  return join(
    boardDevice(platform),
    ...(rtc === undefined ? [] : [portDevice("RTC0", "PNP0B00", rtc)]),
    ...(events === undefined ? [] : eventDevices(events)),
    ...pci.map(pciRoot),
  );
}

/** `board`: what `encodeBoard` has made of the platform; `serial`: its serial port, if it has one. */
export function buildDsdt(
  { cpus, virtioMmio = [] }: AcpiPlatform,
  board: Term,
  serial: Term | undefined,
): Uint8Array {
  const devices = [
    ...cpus.map(processor),
    board,
    ...(serial === undefined ? [] : [serial]),
    ...virtioMmio.map(virtioMmioDevice),
  ];
  // Section 7.4.2: the sleep type for the control register, and three elements without meaning
  // here.
  const s5 = name("\\_S5", list(s5SleepType, 0, 0, 0));
  return table("DSDT", 2, join(scope("\\_SB", ...devices), s5));
}

/** XSDT (section 5.2.8): the physical addresses of the other tables. */
export const buildXsdt = (addresses: readonly number[]): Uint8Array =>
  table("XSDT", 1, join(...addresses.map((address) => littleEndian(address, 8))));
