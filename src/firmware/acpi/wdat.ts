/**
 * WDAT: which access to which register makes the watchdog do what. Microsoft, "Hardware Watchdog
 * Timers Design Specification", 2006. ACPI 6.5 table 5.6 lists its signature.
 */
import { array, nested, struct, u8, u16, u32 } from "../../ffi/struct.ts";
import type { AcpiWatchdog, AcpiWatchdogEntry, WatchdogAction } from "./platform.ts";
import { atPort, GenericAddress, table } from "./table.ts";

/** What follows the table header; the entries follow it. */
const WdatHead = struct(
  "ACPI WDAT",
  32,
  {
    headerLength: u32,
    pciSegment: u16,
    pciBus: u8,
    pciDevice: u8,
    pciFunction: u8,
    reserved: array(u8, 3),
    timerPeriod: u32,
    maxCount: u32,
    minCount: u32,
    flags: u8,
    reserved2: array(u8, 3),
    entries: u32,
  },
  { packed: true },
);

const WdatEntry = struct(
  "ACPI WDAT entry",
  24,
  {
    action: u8,
    instruction: u8,
    reserved: u16,
    register: nested(GenericAddress),
    value: u32,
    mask: u32,
  },
  { packed: true },
);

const enabled = 1;
/** The watchdog is no PCI device. */
const noPci = 0xff;

const actionNumbers: Readonly<Record<WatchdogAction, number>> = {
  RESET: 0x01,
  GET_CURRENT_COUNTDOWN: 0x04,
  GET_COUNTDOWN: 0x05,
  SET_COUNTDOWN: 0x06,
  GET_RUNNING_STATE: 0x08,
  SET_RUNNING_STATE: 0x09,
  GET_STOPPED_STATE: 0x0a,
  SET_STOPPED_STATE: 0x0b,
  GET_STATUS: 0x20,
  SET_STATUS: 0x21,
};
const instructions: Readonly<Record<AcpiWatchdogEntry["access"], number>> = {
  read: 0,
  "read count": 1,
  write: 2,
  "write count": 3,
};

export function buildWdat({ periodMs, leastCount, mostCount, actions }: AcpiWatchdog): Uint8Array {
  const names = Object.keys(actions) as WatchdogAction[];
  const body = new Uint8Array(WdatHead.size + names.length * WdatEntry.size);
  const head = new WdatHead(body.buffer);
  head.headerLength = WdatHead.size;
  head.pciSegment = noPci;
  head.pciBus = noPci;
  head.pciDevice = noPci;
  head.pciFunction = noPci;
  head.timerPeriod = periodMs;
  head.maxCount = mostCount;
  head.minCount = leastCount;
  head.flags = enabled;
  head.entries = names.length;
  for (const [index, name] of names.entries()) {
    const { access, port, size, value, mask } = actions[name];
    const entry = new WdatEntry(body.buffer, WdatHead.size + index * WdatEntry.size);
    entry.action = actionNumbers[name];
    entry.instruction = instructions[access];
    atPort(entry.register, port, size);
    entry.value = value;
    entry.mask = mask;
  }
  return table("WDAT", 1, body);
}
