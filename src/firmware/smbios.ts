/**
 * SMBIOS tables: who made the machine, and which one it is (DMTF DSP0134, System Management BIOS Reference
 * Specification 3.3). A 64-bit entry point (section 5.2.2), and the structures behind it: type 0 BIOS
 * information, type 1 system information, type 11 OEM strings where there are any, type 127 the end.
 *
 * An operating system that was not started through UEFI looks for the entry point on each 16-byte boundary from 0xf0000
 * to 0xfffff; edk2 for Cloud Hypervisor looks at 0xf0000 alone.
 *
 * Each start builds them, in code that has just been loaded: so bytes in a list, and no layouts (a tenth of the time).
 */
export interface SmbiosPlatform {
  /** Where the entry point goes, on a 16-byte boundary below 4 GiB; the table follows it. */
  readonly address: number;
  /** The table must end here at the latest. */
  readonly end: number;
  readonly serialNumber?: string | undefined;
  /** As it is written: 8-4-4-4-12 hexadecimal digits. */
  readonly uuid?: string | undefined;
  readonly oemStrings?: readonly string[] | undefined;
}

const entryPointLength = 24;
/** The entry point, rounded up to 16 bytes. */
const tableOffset = 32;
/** A structure numbers its strings with a byte, from 1. */
const maxStrings = 255;
/** What a field of a string holds that is not there. */
const none = 0;

/**
 * Entry point and table, as one blob for `address`. Throws a RangeError, whose message is for the
 * user, when they do not fit.
 */
export function buildSmbios(platform: SmbiosPlatform): { address: number; data: Uint8Array } {
  const { address, end, serialNumber, uuid, oemStrings } = platform;
  const table: number[] = [];
  table.push(0, 24, 0, 0); //           BIOS information (section 7.1): type, length, handle
  table.push(1, none, 0, 0, none, 0); // vendor, version, start segment, release date, ROM size
  table.push(8, 0, 0, 0, 0, 0, 0, 0); // "BIOS characteristics are not supported"
  table.push(0, 16); //                 extension: "the table describes a virtual machine"
  table.push(255, 255, 255, 255); //    releases of the BIOS and of the embedded controller: none
  pushStrings(table, ["chv"]);

  table.push(1, 27, 1, 0); //           system information (section 7.2)
  table.push(1, 1, none); //            manufacturer, product, version
  table.push(serialNumber === undefined ? none : 2);
  pushUuid(table, uuid);
  table.push(6, none, none); //         wake-up by the power switch; SKU, family
  pushStrings(table, serialNumber === undefined ? ["chv"] : ["chv", serialNumber]);

  if (oemStrings !== undefined && oemStrings.length > 0) {
    if (oemStrings.length > maxStrings) {
      throw new RangeError(`${oemStrings.length} OEM strings, and ${maxStrings} is the most`);
    }
    table.push(11, 5, 11, 0, oemStrings.length); // section 7.12
    pushStrings(table, oemStrings);
  }
  table.push(127, 4, 127, 0, 0, 0); //  end of table (section 7.45), which has no strings

  const size = table.length;
  const room = end - address - tableOffset;
  if (size > room) {
    throw new RangeError(`the SMBIOS table has ${size} bytes, and there is room for ${room}`);
  }
  const data = new Uint8Array(tableOffset + size);
  data.set([0x5f, 0x53, 0x4d, 0x33, 0x5f]); // "_SM3_"
  data.set([entryPointLength, 3, 3, 0, 1], 6); // version 3.3, revisions 0 and 1
  const view = new DataView(data.buffer);
  view.setUint32(12, size, true);
  view.setUint32(16, address + tableOffset, true); // of 64 bits
  let sum = 0;
  for (let at = 0; at < entryPointLength; at++) sum += data[at]!;
  data[5] = -sum;
  data.set(table, tableOffset);
  return { address, data };
}

/** The strings behind a structure, at least one: a NUL behind each, and one more at the end. */
function pushStrings(table: number[], strings: readonly string[]): void {
  for (const text of strings) {
    const start = table.length;
    for (let at = 0; at < text.length; at++) {
      const code = text.charCodeAt(at);
      if (code > 0x7f) {
        table.length = start;
        for (const byte of new TextEncoder().encode(text)) table.push(byte);
        break;
      }
      table.push(code);
    }
    table.push(0);
  }
  table.push(0);
}

/** The first three fields are little-endian, the others as they are written (section 7.2.1); all zeros are "none". */
function pushUuid(table: number[], uuid: string | undefined): void {
  if (uuid === undefined) {
    table.push(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    return;
  }
  const digits = uuid.replaceAll("-", "");
  for (const byte of [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]) {
    table.push(Number.parseInt(digits.slice(2 * byte, 2 * byte + 2), 16));
  }
}
