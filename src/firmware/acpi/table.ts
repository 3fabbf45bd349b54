/**
 * What all ACPI tables share: the header with its checksum (ACPI 6.5 section 5.2.6), and the
 * generic address structure (section 5.2.3.2).
 */
import { addr, bytes, struct, u8, u32 } from "../../ffi/struct.ts";
import { ascii } from "./aml.ts";

export const Header = struct(
  "ACPI table header",
  36,
  {
    signature: bytes(4),
    length: u32,
    revision: u8,
    checksum: u8,
    oemId: bytes(6),
    oemTableId: bytes(8),
    oemRevision: u32,
    creatorId: bytes(4),
    creatorRevision: u32,
  },
  { packed: true },
);

export const GenericAddress = struct(
  "ACPI generic address structure",
  12,
  { addressSpace: u8, bitWidth: u8, bitOffset: u8, accessSize: u8, address: addr },
  { packed: true },
);

/** Six bytes, as in the header and the RSDP. */
export const oemId = ascii("CHV   ");

/**
 * The byte that makes the sum of all bytes 0 modulo 256; the checksum's own byte must be 0 in
 * `data`.
 */
export function checksum(data: Uint8Array): number {
  let sum = 0;
  let at = 0;
  if (data.byteOffset % 4 === 0) {
    // a word at a time: in code that has just started a step of the loop is what takes time
    const words = new Uint32Array(data.buffer, data.byteOffset, data.length >> 2);
    for (let i = 0; i < words.length; i++) {
      const word = words[i]!;
      sum += (word & 0xff) + ((word >> 8) & 0xff) + ((word >> 16) & 0xff) + (word >>> 24);
    }
    at = words.length * 4;
  }
  for (; at < data.length; at++) sum += data[at]!;
  return -sum & 0xff;
}

/** A whole table: a header in front of `body`, which starts at offset 36. */
export function table(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const data = new Uint8Array(Header.size + body.length);
  data.set(body, Header.size);
  const header = new Header(data.buffer);
  header.signature = ascii(signature);
  header.length = data.length;
  header.revision = revision;
  header.oemId = oemId;
  header.oemTableId = ascii(`CHV${signature} `);
  header.oemRevision = 1;
  header.creatorId = ascii("CHV ");
  header.creatorRevision = 1;
  header.checksum = checksum(data);
  return data;
}

/** Points a generic address at an I/O port that is read and written in units of `size` bytes. */
export function atPort(
  target: InstanceType<typeof GenericAddress>,
  port: number,
  size: 1 | 4,
): void {
  target.addressSpace = 1; // system I/O
  target.bitWidth = 8 * size;
  target.accessSize = size === 1 ? 1 : 3; // byte, dword
  target.address = port;
}
