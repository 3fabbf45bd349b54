/** The event device's AML against what iasl makes of the same in its own language. */
import { expect, test } from "bun:test";
import { scope } from "../../../src/firmware/acpi/aml.ts";
import { eventDevices } from "../../../src/firmware/acpi/events.ts";
import { compile } from "./acpica.ts";

test("a pressed power button notifies the button's device", () => {
  const asl = `
    Device (PWRB) { Name (_HID, EisaId ("PNP0C0C")) Name (_UID, Zero) }
    Device (GED0)
    {
      Name (_HID, "ACPI0013")
      Name (_UID, Zero)
      Name (_CRS, ResourceTemplate () {
        Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 0x00000009 }
      })
      OperationRegion (EVRG, SystemIO, 0x060C, One)
      Field (EVRG, ByteAcc, NoLock, Preserve) { PEND, 8 }
      Method (_EVT, 1, Serialized)
      {
        Store (PEND, Local0)
        If (And (Local0, One)) { Notify (\\_SB.PWRB, 0x80) }
      }
    }`;
  const made = scope("\\_SB", ...eventDevices({ port: 0x60c, gsi: 9, powerButton: 1 }));

  expect(made.toHex()).toBe(compile(`Scope (\\_SB) {\n${asl}\n}`).toHex());
});
