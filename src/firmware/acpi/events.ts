/**
 * The Generic Event Device (ACPI 6.5 section 5.6.9) and the power button that it speaks for (section 4.8.2.2.1.2):
 * hardware-reduced ACPI has no fixed registers for either.
 */

import {
  device,
  eisaId,
  FieldAccess,
  field,
  method,
  name,
  operationRegion,
  path,
  RegionSpace,
  type Term,
  text,
} from "./aml.ts";
import { and, local, notify, store, when } from "./aml-code.ts";
import type { AcpiEvents } from "./platform.ts";
import { interrupt, resources } from "./resources.ts";

/** Notification of a button that was pressed (section 5.6.6, table 5.195). */
const pressed = 0x80;

export const eventDevices = ({ port, gsi, powerButton }: AcpiEvents): Term[] => [
  device("PWRB", name("_HID", eisaId("PNP0C0C")), name("_UID", 0)),
  device(
    "GED0",
    name("_HID", text("ACPI0013")),
    name("_UID", 0),
    name("_CRS", resources(interrupt([gsi]))),
    operationRegion("EVRG", RegionSpace.systemIo, port, 1),
    field("EVRG", { access: FieldAccess.byte }, { name: "PEND", bits: 8 }),
    method(
      "_EVT",
      { args: 1, serialized: true },
      store(path("PEND"), local(0)), // reading takes what is pending
      when(and(local(0), powerButton), notify(path("\\_SB.PWRB"), pressed)),
    ),
  ),
];
