import { expect, test } from "bun:test";
import { buildMpTable, type MpPlatform } from "../../src/firmware/mp-table.ts";

const machine: MpPlatform = {
  pointerAddress: 0x9_fc00,
  cpus: [{ apicId: 0 }, { apicId: 1 }],
  localApicAddress: 0xfee0_0000,
  ioapic: { id: 2, address: 0xfec0_0000 },
  isaInterrupts: [4, 8],
};
const many = (count: number) => Array.from({ length: count }, (_, apicId) => ({ apicId }));

/** The two parts, and the configuration table's entries by the sizes of MP 1.4 table 4-3. */
function parse(platform: MpPlatform) {
  const { blobs, end } = buildMpTable(platform);
  const [pointer, table] = blobs.map(({ data }) => data) as [Uint8Array, Uint8Array];
  const entries: string[] = [];
  for (let at = 44; at < table.length; ) {
    const size = table[at] === 0 ? 20 : 8;
    entries.push(table.subarray(at, at + size).toHex());
    at += size;
  }
  return { blobs, end, pointer, table, entries };
}
const view = (data: Uint8Array) => new DataView(data.buffer, data.byteOffset, data.length);
const sum = (data: Uint8Array) => data.reduce((total, byte) => (total + byte) % 256, 0);
const text = (data: Uint8Array, from: number, to: number) =>
  new TextDecoder().decode(data.subarray(from, to));

// MP 1.4 table 4-1.
test("the floating pointer leads to the table behind it", () => {
  const { blobs, end, pointer, table } = parse(machine);

  expect(text(pointer, 0, 4)).toBe("_MP_");
  expect(view(pointer).getUint32(4, true)).toBe(0x9_fc10);
  expect([pointer[8], pointer[9]]).toEqual([1, 4]); // 16 bytes; 1.4
  expect(pointer.subarray(11).toHex()).toBe("0000000000"); // a table is present; no IMCR
  expect(sum(pointer)).toBe(0);
  expect(blobs.map(({ address }) => address)).toEqual([0x9_fc00, 0x9_fc10]);
  expect(end).toBe(0x9_fc10 + table.length);
});

// MP 1.4 table 4-2.
test("the header counts bytes and entries, and names the local APIC", () => {
  const { table, entries } = parse(machine);

  expect(text(table, 0, 4)).toBe("PCMP");
  expect(view(table).getUint16(4, true)).toBe(table.length);
  expect(table[6]).toBe(4);
  expect(sum(table)).toBe(0);
  expect(text(table, 8, 28)).toBe("CHV     CHV         ");
  expect(view(table).getUint16(34, true)).toBe(entries.length);
  expect(view(table).getUint32(36, true)).toBe(0xfee0_0000);
  expect(table.subarray(28, 34).toHex()).toBe("000000000000"); // no OEM table
  expect(table.subarray(40, 44).toHex()).toBe("00000000"); // no extended entries
});

// MP 1.4 tables 4-4 to 4-11.
test("entries: processors, bus, I/O APIC, ISA interrupts, local interrupts", () => {
  const { entries } = parse({ ...machine, cpuSignature: 0x80_0f12, cpuFeatures: 0x1783_fbff });

  expect(entries).toEqual([
    "00001403120f8000fffb83170000000000000000", // enabled, boot processor
    "00011401120f8000fffb83170000000000000000",
    "0100495341202020",
    "020211010000c0fe",
    "0300000000040204", // INT, as the bus has it, from ISA 4 to pin 4
    "0300000000080208",
    "040300000000ff00", // ExtINT to LINT0 of all
    "040100000000ff01", // NMI to LINT1 of all
  ]);
});

test("PCI interrupts are level, active low; the ISA bus is numbered behind the PCI buses", () => {
  const { entries } = parse({
    ...machine,
    isaInterrupts: [4],
    pciBuses: [0],
    pciInterrupts: [{ bus: 0, device: 3, pin: 1, ioapicPin: 17 }],
  });

  expect(entries.slice(2)).toEqual([
    "0100504349202020",
    "0101495341202020",
    "020211010000c0fe",
    "0300000001040204",
    "03000f00000d0211", // device 3, INTB: 3 << 2 | 1
    "040300000100ff00",
    "040100000100ff01",
  ]);
});

test("254 processors fit 64 KiB, away from the pointer", () => {
  const { blobs, end, table, entries } = parse({
    ...machine,
    tableAddress: 0xf_0000,
    tableEnd: 0x10_0000,
    cpus: many(254),
  });

  expect(entries.filter((entry) => entry.startsWith("00")).length).toBe(254);
  expect(table.length).toBe(44 + 254 * 20 + 6 * 8);
  expect(end).toBe(0xf_0000 + table.length);
  expect(view(blobs[0]!.data).getUint32(4, true)).toBe(0xf_0000);
  expect(sum(table)).toBe(0);
});

test("processors whose id needs more than a byte are left out", () => {
  const { entries } = parse({ ...machine, cpus: many(300) });

  expect(entries.filter((entry) => entry.startsWith("00")).length).toBe(255);
});

test.each<[string, Partial<MpPlatform>, string]>([
  ["a pointer between paragraphs", { pointerAddress: 0x9_fc08 }, "16-byte boundary"],
  ["no processor", { cpus: [] }, "no boot processor"],
  ["a boot processor beyond a byte", { cpus: [{ apicId: 255 }] }, "no boot processor"],
  ["254 processors in the last KiB", { cpus: many(254), tableEnd: 0xa_0000 }, "do not fit"],
  ["a PCI bus 255", { pciBuses: [255] }, "no number for the ISA bus"],
])("%s is refused", (_, wrong, message) => {
  expect(() => buildMpTable({ ...machine, ...wrong })).toThrow(message);
});
