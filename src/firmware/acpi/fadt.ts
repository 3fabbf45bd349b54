/**
 * FADT: the fixed ACPI description, ACPI 6.5 section 5.2.9, for hardware-reduced ACPI. There are no
 * PM1, PM2 or GPE blocks, no SCI, no FACS and no SMI command port; sleep and reset are registers of
 * their own.
 *
 * The PM timer is given although section 5.2.9 has the OS ignore offsets 46 to 108 and 148 to 232
 * with HW_REDUCED_ACPI: Linux reads X_PM_TMR_BLK all the same (`acpi_parse_fadt`) and gets its
 * `acpi_pm` clock source.
 */
import { addr, bytes, nested, struct, u8, u16, u32 } from "../../ffi/struct.ts";
import type { AcpiBoard } from "./platform.ts";
import { atPort, checksum, GenericAddress, Header, table } from "./table.ts";

export const Fadt = struct(
  "ACPI FADT",
  276,
  {
    header: nested(Header),
    firmwareCtrl: u32,
    dsdt: u32,
    reserved: u8,
    preferredPmProfile: u8,
    sciInt: u16,
    smiCmd: u32,
    acpiEnable: u8,
    acpiDisable: u8,
    s4BiosReq: u8,
    pstateCnt: u8,
    pm1aEvtBlk: u32,
    pm1bEvtBlk: u32,
    pm1aCntBlk: u32,
    pm1bCntBlk: u32,
    pm2CntBlk: u32,
    pmTmrBlk: u32,
    gpe0Blk: u32,
    gpe1Blk: u32,
    pm1EvtLen: u8,
    pm1CntLen: u8,
    pm2CntLen: u8,
    pmTmrLen: u8,
    gpe0BlkLen: u8,
    gpe1BlkLen: u8,
    gpe1Base: u8,
    cstCnt: u8,
    pLvl2Lat: u16,
    pLvl3Lat: u16,
    flushSize: u16,
    flushStride: u16,
    dutyOffset: u8,
    dutyWidth: u8,
    dayAlrm: u8,
    monAlrm: u8,
    century: u8,
    iapcBootArch: u16,
    reserved2: u8,
    flags: u32,
    resetReg: nested(GenericAddress),
    resetValue: u8,
    armBootArch: u16,
    minorVersion: u8,
    xFirmwareCtrl: addr,
    xDsdt: addr,
    xPm1aEvtBlk: nested(GenericAddress),
    xPm1bEvtBlk: nested(GenericAddress),
    xPm1aCntBlk: nested(GenericAddress),
    xPm1bCntBlk: nested(GenericAddress),
    xPm2CntBlk: nested(GenericAddress),
    xPmTmrBlk: nested(GenericAddress),
    xGpe0Blk: nested(GenericAddress),
    xGpe1Blk: nested(GenericAddress),
    sleepControlReg: nested(GenericAddress),
    sleepStatusReg: nested(GenericAddress),
    hypervisorVendorIdentity: bytes(8),
  },
  { packed: true },
);

/** Fixed feature flags (table 5.10). */
const Flag = {
  /** WBINVD flushes the caches and keeps memory coherent. */
  wbinvd: 1 << 0,
  /** Set: a power button, if any, is a device in the namespace, not a fixed register. */
  pwrButton: 1 << 4,
  slpButton: 1 << 5,
  /** Set: the RTC's wake status is not in a fixed register. */
  fixRtc: 1 << 6,
  /** The PM timer counts 32 bits, not 24. */
  tmrValExt: 1 << 8,
  resetRegSup: 1 << 10,
  hwReducedAcpi: 1 << 20,
} as const;

/**
 * IA-PC boot flags (table 5.11): no VGA. Clear are: legacy devices and 8042 (those present are in
 * the DSDT, or are for reset alone), "MSI not supported", "PCIe ASPM controls", and "CMOS RTC not
 * present".
 */
const bootArch = 1 << 2;

/** Of a board, without a DSDT yet. */
export function buildFadt(platform: AcpiBoard): Uint8Array {
  const fadt = new Fadt();
  fadt.minorVersion = 5;
  fadt.iapcBootArch = bootArch;
  fadt.flags =
    Flag.wbinvd |
    Flag.pwrButton |
    Flag.slpButton |
    Flag.fixRtc |
    Flag.resetRegSup |
    Flag.hwReducedAcpi;
  atPort(fadt.resetReg, platform.reset.port, 1);
  fadt.resetValue = platform.reset.value;
  atPort(fadt.sleepControlReg, platform.sleepControlPort, 1);
  atPort(fadt.sleepStatusReg, platform.sleepStatusPort, 1);
  if (platform.pmTimerPort !== undefined) {
    fadt.pmTmrBlk = platform.pmTimerPort;
    fadt.pmTmrLen = 4;
    fadt.flags |= Flag.tmrValExt;
    atPort(fadt.xPmTmrBlk, platform.pmTimerPort, 4);
  }
  return table("FACP", 6, new Uint8Array(fadt.view.buffer).subarray(Header.size));
}

/** Where the addresses of the DSDT are (table 5.9: DSDT, X_DSDT), and the checksum (section 5.2.6). */
const [checksumAt, dsdtAt, xDsdtAt] = [9, 40, 140] as const;

/** The same, of a machine whose DSDT lies there. By places: a layout of 56 fields takes 0.2 ms of a start. */
export function withDsdt(table: Uint8Array, address: number): Uint8Array {
  const data = table.slice();
  const view = new DataView(data.buffer);
  view.setUint32(dsdtAt, address, true);
  view.setUint32(xDsdtAt, address, true); // the tables end below 4 GiB
  data[checksumAt] = 0;
  data[checksumAt] = checksum(data);
  return data;
}
