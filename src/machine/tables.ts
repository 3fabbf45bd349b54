/**
 * What a machine tells its guest of itself, as a PC's firmware would: ACPI tables, or an MP table for kernels that are
 * to do without; SMBIOS tables; and what stands at the BIOS's entry.
 */

import { mmioBytes } from "../devices/virtio/mmio-registers.ts";
import { ConfigError } from "../exit-codes.ts";
import {
  type AcpiCommon,
  type AcpiTables,
  buildAcpi,
  encodeCommon,
} from "../firmware/acpi/acpi.ts";
import type * as MpTables from "../firmware/mp-table.ts";
import { buildSmbios } from "../firmware/smbios.ts";
import { type BootPlan, hasAcpi } from "./boot-plan.ts";
import { Gsi, intxOf, MemoryMap, Port, resetValue } from "./memory-map.ts";
import { platform, serial, slots } from "./platform.ts";
import { describeWatchdog } from "./watchdog.ts";

const IOAPIC_ID = 0;
/** In hex: build.ts has encoded it, which takes 3 ms of a start. Undefined when chv runs from its sources. */
declare const ACPI_COMMON: string | undefined;
const common =
  typeof ACPI_COMMON === "string"
    ? decodeCommon(ACPI_COMMON)
    : encodeCommon({ ...platform, serial });

function decodeCommon(encoded: string): AcpiCommon {
  const { board, serial, fadt, mcfg } = JSON.parse(encoded) as Record<keyof AcpiCommon, string>;
  const { fromHex } = Uint8Array;
  return {
    board: fromHex(board),
    serial: fromHex(serial),
    fadt: fromHex(fadt),
    mcfg: fromHex(mcfg),
  };
}

/**
 * What stands where a PC's BIOS is entered in real mode: a reset. Linux jumps there to restart a machine with
 * hardware-reduced ACPI and no EFI (reboot_init and machine_real_restart in its arch/x86/kernel/reboot.c).
 */
export const biosEntry = new Uint8Array([
  ...[0xba, Port.reset & 0xff, Port.reset >> 8], // mov dx, Port.reset
  ...[0xb0, resetValue, 0xee], //                   mov al, resetValue; out dx, al
  ...[0xf4, 0xeb, 0xfd], //                         hlt; jmp to the hlt
]);

/** Puts them into guest RAM. Throws ConfigError when they do not fit. */
export function writeTables(plan: BootPlan): void {
  const { memory } = plan;
  const blobs = hasAcpi(plan) ? acpiTables(plan).blobs : mpTables(plan);
  for (const { address, data } of blobs) memory.write(address, data);
  const smbios = smbiosTables(plan);
  memory.write(smbios.address, smbios.data);
  memory.write(MemoryMap.biosEntry, biosEntry);
}

function acpiTables(plan: BootPlan): AcpiTables {
  return buildAcpi(
    {
      ...platform,
      rsdpAddress: MemoryMap.acpiTables,
      tablesAddress: MemoryMap.acpiTables,
      tablesEnd: MemoryMap.acpiTablesEnd,
      cpus: [...plan.cpus].sort((a, b) => a.apicId - b.apicId),
      localApicAddress: MemoryMap.localApic,
      ioapic: { id: IOAPIC_ID, address: MemoryMap.ioapic, gsiBase: 0, pins: Gsi.pins },
      ...(plan.serial ? { serial } : {}),
      ...(plan.watchdog ? { watchdog: describeWatchdog(Port.watchdog) } : {}),
      virtioMmio: (plan.virtioMmio ?? []).map(({ address, gsi }) => ({
        address,
        length: mmioBytes,
        gsi,
      })),
    },
    common,
  );
}

function mpTables(plan: BootPlan): MpTables.MpTable["blobs"] {
  const { buildMpTable } = require("../firmware/mp-table.ts") as typeof MpTables;
  return buildMpTable({
    pointerAddress: MemoryMap.mpTable,
    tableEnd: MemoryMap.mpTableEnd,
    cpus: plan.cpus.filter(({ enabled }) => enabled),
    localApicAddress: MemoryMap.localApic,
    ioapic: { id: IOAPIC_ID, address: MemoryMap.ioapic },
    isaInterrupts: [Gsi.serial, Gsi.rtc],
    pciBuses: [0],
    // the pins of virtio-mmio devices, too, which Linux knows by number only if the table names them
    pciInterrupts: slots.map((device) => ({
      ...{ bus: 0, device, pin: 0, ioapicPin: Gsi.intx + intxOf(device) },
    })),
  }).blobs;
}

function smbiosTables({ platform }: BootPlan): ReturnType<typeof buildSmbios> {
  const serialNumber = platform?.serial_number;
  const uuid = platform?.uuid;
  const oemStrings = platform?.oem_strings;
  const { smbios: address, smbiosEnd: end } = MemoryMap;
  try {
    return buildSmbios({ address, end, serialNumber, uuid, oemStrings });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ConfigError(`--platform: ${error.message}; shorten oem_strings`, "--platform");
  }
}
