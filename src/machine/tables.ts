/** What a machine tells its guest of itself: ACPI tables, or an MP table for kernels that are to do without. */

import { mmioBytes } from "../devices/virtio/mmio-registers.ts";
import { type AcpiTables, buildAcpi, encodeCommon } from "../firmware/acpi/acpi.ts";
import { encodeBoard } from "../firmware/acpi/dsdt.ts";
import type * as MpTables from "../firmware/mp-table.ts";
import type { BootPlan } from "./boot-plan.ts";
import { Gsi, intxOf, MemoryMap, Port } from "./memory-map.ts";
import { platform, slots } from "./platform.ts";
import { describeWatchdog } from "./watchdog.ts";

const IOAPIC_ID = 0;
/** In hex: build.ts has encoded it, which takes 2 ms of a start. Undefined when chv runs from its sources. */
declare const BOARD_AML: string | undefined;
const board = typeof BOARD_AML === "string" ? Uint8Array.fromHex(BOARD_AML) : encodeBoard(platform);
const serial = { port: Port.serial, length: 8, gsi: Gsi.serial };
/** Made before there is a plan: the first vCPU's thread waits for it anyway. */
const common = encodeCommon({ ...platform, serial }, board);

export function acpiTables(plan: BootPlan): AcpiTables {
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

export function mpTables(plan: BootPlan): MpTables.MpTable["blobs"] {
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
