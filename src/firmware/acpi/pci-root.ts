/**
 * A PCI Express root bridge in the DSDT: ACPI 6.5 sections 6.1 to 6.5, PCI Firmware Specification
 * 3.3 section 4.
 */
import { device, eisaId, list, method, name, path, type Term, uuid } from "./aml.ts";
import * as aml from "./aml-code.ts";
import type { AcpiPciSegment } from "./platform.ts";
import * as res from "./resources.ts";

/**
 * `_PRT` (section 6.2.13): `{device << 16 | 0xffff, pin, 0, GSI}`; the source 0 says that the last
 * is a GSI.
 */
const routing = ({ interrupts }: AcpiPciSegment): Term =>
  list(
    ...interrupts.map(({ device: number, pin, gsi }) =>
      list(number * 0x1_0000 + 0xffff, pin, 0, gsi),
    ),
  );

const windows = (root: AcpiPciSegment): Term =>
  res.resources(
    res.wordBusNumber({ start: root.startBus, length: root.endBus - root.startBus + 1 }),
    ...(root.configPorts === undefined ? [] : [res.io(root.configPorts)]),
    ...root.ports.map((range) => res.wordIo(range)),
    ...root.memory32.map((range) => res.dwordMemory(range)),
    ...root.memory64.map((range) => res.qwordMemory(range)),
  );

/** What `_OSC` lets the OS control: of table 4-6 only the PCI Express capability structures. */
const grantedControl = 0x10;

/**
 * `_OSC` (section 6.2.11, PCI Firmware Specification 3.3 section 4.5.1): Arg0 UUID, Arg1 revision,
 * Arg2 count, Arg3 dwords: status, support, control. The OS gets the control that it asked for and
 * that can be granted.
 */
function operatingSystemCapabilities(): Term {
  const [status, control] = [path("CDW1"), path("CDW3")];
  const unknownUuid = 0x04;
  const unknownRevision = 0x08;
  const masked = 0x10;
  return method(
    "_OSC",
    { args: 4, serialized: true },
    aml.createDWordField(aml.arg(3), 0, "CDW1"),
    aml.when(
      aml.equal(aml.arg(0), uuid("33db4d5b-1ff7-401c-9657-7441c03dd766")),
      aml.createDWordField(aml.arg(3), 8, "CDW3"),
      aml.and(control, grantedControl, aml.local(0)),
      aml.when(aml.notEqual(aml.arg(1), 1), aml.or(status, unknownRevision, status)),
      aml.when(aml.notEqual(aml.local(0), control), aml.or(status, masked, status)),
      aml.store(aml.local(0), control),
    ),
    aml.otherwise(aml.or(status, unknownUuid, status)),
    aml.give(aml.arg(3)),
  );
}

/** `\_SB.PCI0` to `PCIF` and on to `PC10`: segments in hex. */
export const pciRootName = (index: number): string => {
  const digits = index.toString(16).toUpperCase();
  return `${digits.length === 1 ? "PCI" : digits.length === 2 ? "PC" : "P"}${digits}`;
};

export const pciRoot = (root: AcpiPciSegment, index: number): Term =>
  device(
    pciRootName(index),
    name("_HID", eisaId("PNP0A08")),
    name("_CID", eisaId("PNP0A03")),
    name("_UID", index),
    name("_SEG", root.segment),
    name("_BBN", root.startBus),
    name("_CRS", windows(root)),
    ...(root.interrupts.length === 0 ? [] : [name("_PRT", routing(root))]),
    operatingSystemCapabilities(),
  );
