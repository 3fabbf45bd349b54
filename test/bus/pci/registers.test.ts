/** The numbers of PCI configuration space against <linux/pci_regs.h>, through the C compiler. */
import { expect, test } from "bun:test";
import {
  configBytes,
  extendedConfigBytes,
  headerEnd,
  Pci,
  PciBar,
  PciCap,
  PciCommand,
  PciStatus,
} from "../../../src/bus/pci/registers.ts";
import { valuesInC } from "../../headers.ts";

test("offsets and bits are the header's", () => {
  const ours: Record<string, number> = {};
  const tables = { "": Pci, COMMAND_: PciCommand, STATUS_: PciStatus, CAP_: PciCap };
  for (const [prefix, table] of Object.entries(tables)) {
    for (const [name, value] of Object.entries(table)) ours[`PCI_${prefix}${name}`] = value;
  }
  for (const [name, value] of Object.entries(PciBar)) ours[`PCI_BASE_ADDRESS_${name}`] = value;
  ours.PCI_STD_HEADER_SIZEOF = headerEnd;
  ours.PCI_CFG_SPACE_SIZE = configBytes;
  ours.PCI_CFG_SPACE_EXP_SIZE = extendedConfigBytes;

  expect(ours).toEqual(valuesInC(["linux/pci_regs"], Object.keys(ours)));
  expect(Object.keys(ours).length).toBeGreaterThan(20);
});
