import { expect, test } from "bun:test";
import { type AcpiTables, buildAcpi } from "../../../src/firmware/acpi/acpi.ts";
import type {
  AcpiPciSegment,
  AcpiPlatform,
  AcpiWatchdog,
  AcpiWatchdogEntry,
} from "../../../src/firmware/acpi/platform.ts";
import { interpret, roundTrip } from "./acpica.ts";

const cpus = (present: number, all = present) =>
  Array.from({ length: all }, (_, apicId) => ({ apicId, enabled: apicId < present }));

const machine: AcpiPlatform = {
  tablesAddress: 0xe_0000,
  tablesEnd: 0x10_0000,
  rsdpAddress: 0xe_0000,
  cpus: cpus(1),
  localApicAddress: 0xfee0_0000,
  ioapic: { id: 0, address: 0xfec0_0000, gsiBase: 0, pins: 24 },
  serial: { port: 0x3f8, length: 8, gsi: 4 },
  rtc: { port: 0x70, length: 2, gsi: 8 },
  sleepControlPort: 0x600,
  sleepStatusPort: 0x601,
  reset: { port: 0x602, value: 1 },
  pmTimerPort: 0x608,
};

const segment: AcpiPciSegment = {
  segment: 0,
  startBus: 0,
  endBus: 255,
  mmconfig: 0xe800_0000,
  configPorts: { start: 0xcf8, length: 8 },
  ports: [
    { start: 0, length: 0xcf8 },
    { start: 0xd00, length: 0xf300 },
  ],
  memory32: [{ start: 0xc000_0000, length: 0x2800_0000 }],
  memory64: [{ start: 0x1000_0000_0000, length: 0x100_0000_0000 }],
  interrupts: [
    { device: 1, pin: 0, gsi: 16 },
    { device: 31, pin: 3, gsi: 23 },
  ],
};
const second: AcpiPciSegment = {
  segment: 1,
  startBus: 0,
  endBus: 0,
  mmconfig: 0x20_0000_0000,
  ports: [],
  memory32: [],
  memory64: [{ start: 0x2000_0000_0000, length: 0x100_0000_0000 }],
  interrupts: [],
};

const atWatchdog = (access: AcpiWatchdogEntry["access"], port: number, value = 0) =>
  ({ access, port, size: port < 0x618 ? 4 : 1, value, mask: port < 0x618 ? 0xffff : 1 }) as const;
const watchdog: AcpiWatchdog = {
  ...{ periodMs: 100, leastCount: 1, mostCount: 0xffff },
  actions: {
    RESET: atWatchdog("write", 0x619, 1),
    GET_CURRENT_COUNTDOWN: atWatchdog("read count", 0x614),
    GET_COUNTDOWN: atWatchdog("read count", 0x610),
    SET_COUNTDOWN: atWatchdog("write count", 0x610),
    GET_RUNNING_STATE: atWatchdog("read", 0x618, 1),
    SET_RUNNING_STATE: atWatchdog("write", 0x618, 1),
    GET_STOPPED_STATE: atWatchdog("read", 0x618),
    SET_STOPPED_STATE: atWatchdog("write", 0x618),
    GET_STATUS: atWatchdog("read", 0x61a, 1),
    SET_STATUS: atWatchdog("write", 0x61a),
  },
};

const virtioMmio = [
  { address: 0xf800_0000, length: 0x1000, gsi: 16 },
  { address: 0xf801_f000, length: 0x1000, gsi: 23 },
];

const bare: AcpiPlatform = {
  ...machine,
  serial: undefined,
  rtc: undefined,
  pmTimerPort: undefined,
};

function named({ blobs }: AcpiTables, name: string): Uint8Array {
  const blob = blobs.find((one) => one.name === name);
  if (blob === undefined) throw new Error(`no ${name}`);
  return blob.data;
}
const view = (data: Uint8Array) => new DataView(data.buffer, data.byteOffset, data.length);
const text = (data: Uint8Array, from: number, to: number) =>
  new TextDecoder().decode(data.subarray(from, to));
const sum = (data: Uint8Array) => data.reduce((total, byte) => (total + byte) % 256, 0);

const machines: [string, AcpiPlatform, string[]][] = [
  ["1 CPU and no device", bare, []],
  ["1 CPU", machine, []],
  ["2 CPUs of 4", { ...machine, cpus: cpus(2, 4) }, []],
  ["254 CPUs", { ...machine, cpus: cpus(254) }, []],
  ["300 CPUs", { ...machine, cpus: cpus(300) }, []],
  ["1 CPU and a watchdog", { ...machine, watchdog }, ["WDAT"]],
  ["1 CPU and events", { ...machine, events: { port: 0x60c, gsi: 9, powerButton: 1 } }, []],
  ["1 CPU and PCI", { ...machine, pci: [segment] }, ["MCFG"]],
  ["1 CPU and devices on virtio-mmio", { ...machine, virtioMmio }, []],
  ["4 CPUs and PCI", { ...machine, cpus: cpus(4), pci: [segment] }, ["MCFG"]],
  ["300 CPUs, two PCI segments", { ...machine, cpus: cpus(300), pci: [segment, second] }, ["MCFG"]],
];

test.each(machines)(
  "%s: iasl takes every table apart and puts it together again",
  (_, platform) => {
    for (const { name, data } of buildAcpi(platform).blobs) {
      if (name === "RSDP") continue; // not a table: iasl does not read it
      const { disassembly, source, compilation, again } = roundTrip(data);

      expect(disassembly.code).toBe(0);
      expect(`${disassembly.output}${source}`).not.toMatch(/warning|error|unknown|invalid/i);
      expect(compilation.code).toBe(0);
      expect(compilation.output).toContain("0 Errors, 0 Warnings, 0 Remarks");
      // Behind the header: there, iasl names itself as the creator.
      expect(again.subarray(36).toHex()).toBe(data.subarray(36).toHex());
    }
  },
);

test.each(machines)("%s: headers, checksums and pointers hold", (_, platform, more) => {
  const tables = buildAcpi(platform);
  const at = new Map(tables.blobs.map(({ address, data }) => [address, data]));
  const rsdp = at.get(tables.rsdpAddress) ?? new Uint8Array();
  const xsdt = at.get(Number(view(rsdp).getBigUint64(24, true))) ?? new Uint8Array();
  const listed = Array.from({ length: (xsdt.length - 36) / 8 }, (_, entry) =>
    at.get(Number(view(xsdt).getBigUint64(36 + 8 * entry, true))),
  );

  expect(text(rsdp, 0, 8)).toBe("RSD PTR ");
  expect(rsdp[15]).toBe(2);
  expect(view(rsdp).getUint32(20, true)).toBe(36);
  expect(sum(rsdp.subarray(0, 20))).toBe(0);
  expect(sum(rsdp)).toBe(0);
  expect(text(xsdt, 0, 4)).toBe("XSDT");
  expect(listed.map((data) => text(data!, 0, 4))).toEqual(["FACP", "APIC", ...more]);
  const fadt = view(named(tables, "FACP"));
  const dsdt = at.get(Number(fadt.getBigUint64(140, true)))!;
  expect(fadt.getUint32(40, true)).toBe(Number(fadt.getBigUint64(140, true)));
  expect(text(dsdt, 0, 4)).toBe("DSDT");
  for (const { name, data } of tables.blobs) {
    if (name === "RSDP") continue;
    expect(text(data, 0, 4)).toBe(name);
    expect(view(data).getUint32(4, true)).toBe(data.length);
    expect(text(data, 10, 16)).toBe("CHV   ");
    expect(sum(data)).toBe(0);
  }
});

test.each(machines)("%s: tables lie apart, inside their bounds", (_, platform) => {
  const { blobs, end } = buildAcpi({ ...platform, rsdpAddress: 0xe_2000 });
  const sorted = blobs.toSorted((one, other) => one.address - other.address);

  let free = 0xe_0000;
  for (const { address, data } of sorted) {
    expect(address).toBeGreaterThanOrEqual(free);
    expect(address % 16).toBe(0);
    free = address + data.length;
  }
  expect(free).toBe(end);
  expect(end).toBeLessThanOrEqual(0x10_0000);
});

// Offsets of ACPI 6.5 table 5.9.
test("the FADT describes hardware-reduced ACPI", () => {
  const fadt = named(buildAcpi(machine), "FACP");
  const at = view(fadt);
  const generic = (offset: number) => fadt.subarray(offset, offset + 12).toHex();

  expect(fadt.length).toBe(276);
  expect([fadt[8], fadt[131]]).toEqual([6, 5]); // ACPI 6.5
  // WBINVD, power and sleep button not fixed, FIX_RTC, TMR_VAL_EXT, RESET_REG_SUP, HW_REDUCED_ACPI
  expect(at.getUint32(112, true)).toBe(
    (1 << 0) | (1 << 4) | (1 << 5) | (1 << 6) | (1 << 8) | (1 << 10) | (1 << 20),
  );
  expect(at.getUint16(109, true)).toBe(1 << 2); // VGA not present, and nothing else
  expect(generic(116)).toBe("010800010206000000000000"); // RESET_REG
  expect(fadt[128]).toBe(1); // RESET_VALUE
  expect(generic(208)).toBe("012000030806000000000000"); // X_PM_TMR_BLK
  expect(at.getUint32(76, true)).toBe(0x608); // PM_TMR_BLK
  expect(fadt[91]).toBe(4); // PM_TMR_LEN
  expect(generic(244)).toBe("010800010006000000000000"); // SLEEP_CONTROL_REG
  expect(generic(256)).toBe("010800010106000000000000"); // SLEEP_STATUS_REG
  expect(sum(fadt.subarray(46, 76))).toBe(0); // SCI_INT to PM2_CNT_BLK: none of that hardware
  expect(sum(fadt.subarray(148, 208))).toBe(0); // X_PM1a_EVT_BLK to X_PM2_CNT_BLK
  expect(sum(fadt.subarray(220, 244))).toBe(0); // X_GPE0_BLK, X_GPE1_BLK
});

test("without a PM timer the FADT names none", () => {
  const fadt = named(buildAcpi(bare), "FACP");

  expect([view(fadt).getUint32(76, true), fadt[91]]).toEqual([0, 0]);
  expect(view(fadt).getUint32(112, true) & (1 << 8)).toBe(0); // TMR_VAL_EXT
  expect(sum(fadt.subarray(208, 220))).toBe(0);
});

// Section 5.2.12: local APIC 0, I/O APIC 1, local APIC NMI 4.
test("the MADT lists processors, spares as online-capable, the I/O APIC and the NMI pin", () => {
  const ioapic = { id: 5, address: 0xfec0_0000, gsiBase: 0, pins: 24 };
  const madt = named(buildAcpi({ ...machine, cpus: cpus(2, 4), ioapic }), "APIC");

  expect(madt.subarray(36).toHex()).toBe(
    [
      "0000e0fe00000000",
      "0008000001000000",
      "0008010101000000",
      "0008020202000000",
      "0008030302000000",
      "010c05000000c0fe00000000",
      "0406ff000001",
    ].join(""),
  );
});

// Sections 5.2.12.12 and 5.2.12.13: local x2APIC 9, local x2APIC NMI 10.
test("APIC ids above 254 are x2APIC entries", () => {
  const some = [0, 254, 255, 300].map((apicId) => ({ apicId, enabled: apicId < 300 }));
  const madt = named(buildAcpi({ ...machine, cpus: some }), "APIC");

  expect(madt.subarray(36).toHex()).toBe(
    [
      "0000e0fe00000000",
      "0008000001000000",
      "000801fe01000000",
      "09100000ff0000000100000002000000",
      "091000002c0100000200000003000000",
      "010c00000000c0fe00000000",
      "0406ff000001",
      "0a0c0000ffffffff01000000",
    ].join(""),
  );
});

// PCI Firmware Specification 3.3, table 4-3.
test("the MCFG has 16 bytes for each segment", () => {
  const mcfg = named(buildAcpi({ ...machine, pci: [segment, second] }), "MCFG");

  expect(mcfg.subarray(36).toHex()).toBe(
    `${"00".repeat(8)}000000e800000000000000ff000000000000000020000000010000000000 0000`.replace(
      " ",
      "",
    ),
  );
});

// Numbers of ACPICA's actbl3.h; iasl -T WDAT shows the layout.
test("the WDAT has a head of 32 bytes and 24 bytes for each access", () => {
  const wdat = named(buildAcpi({ ...machine, watchdog }), "WDAT");
  const entry = (action: string, instruction: string, register: string, operands: string) =>
    `${action}${instruction}0000${register}${operands}`;
  const dword = (port: string) => `01200003${port}00000000`.padEnd(24, "0");
  const byte = (port: string) => `01080001${port}00000000`.padEnd(24, "0");
  const [count, bit] = ["ffff0000", "01000000"];

  expect(wdat.subarray(36).toHex()).toBe(
    [
      "20000000ff00ffffff000000", // no PCI device
      "64000000ffff00000100000001000000", // 100 ms, at most and at least so many, enabled
      "0a000000",
      entry("01", "02", byte("1906"), `01000000${bit}`),
      entry("04", "01", dword("1406"), `00000000${count}`),
      entry("05", "01", dword("1006"), `00000000${count}`),
      entry("06", "03", dword("1006"), `00000000${count}`),
      entry("08", "00", byte("1806"), `01000000${bit}`),
      entry("09", "02", byte("1806"), `01000000${bit}`),
      entry("0a", "00", byte("1806"), `00000000${bit}`),
      entry("0b", "02", byte("1806"), `00000000${bit}`),
      entry("20", "00", byte("1a06"), `01000000${bit}`),
      entry("21", "02", byte("1a06"), `00000000${bit}`),
    ].join(""),
  );
});

// Each run of ACPICA's interpreter sleeps for a second: these run side by side.
test.concurrent("the interpreter finds devices and sleep type in the namespace", async () => {
  const platform = { ...machine, cpus: cpus(2, 300), pci: [segment, second] };
  const dsdt = named(buildAcpi(platform), "DSDT");

  const output = await interpret(
    dsdt,
    "evaluate \\_SB.C001._STA",
    "evaluate \\_SB.C002._STA",
    "evaluate \\_SB.C12B._UID",
    "evaluate \\_SB.PCI0._SEG",
    "evaluate \\_SB.PCI1._SEG",
    "evaluate \\_S5",
  );

  const values = [...output.matchAll(/\[Integer\] = ([0-9A-F]+)/g)];
  expect(values.map(([, digits]) => Number.parseInt(digits ?? "", 16))).toEqual(
    [[0xf], [0], [299], [0], [1], [5, 0, 0, 0]].flat(),
  );
});

test.concurrent.each<[string, string[]]>([
  [
    "BORD",
    [
      "0600+01",
      "0601+01",
      "0602+01",
      "0608+04",
      "E8000000+10000000",
      "0000002000000000+0000000000100000",
      "FEC00000+00001000",
    ],
  ],
  ["COM1", ["03F8+08"]],
  ["RTC0", ["0070+02"]],
  ["VR01", ["F801F000+00001000"]],
  [
    "PCI0",
    [
      "0000+0100",
      "0CF8+08",
      "0000+0CF8",
      "0D00+F300",
      "C0000000+28000000",
      "0000100000000000+0000010000000000",
    ],
  ],
])("the interpreter finds the resources of %s", async (device, ranges) => {
  const reservedMemory = [{ start: 0xfec0_0000, length: 0x1000 }];
  const platform = { ...machine, reservedMemory, virtioMmio, pci: [segment, second] };

  const output = await interpret(named(buildAcpi(platform), "DSDT"), `resources \\_SB.${device}`);

  // Of each range the first address and the length; the second half of the output repeats the
  // first.
  const [listing = ""] = output.split("Resource Conversion Comparison");
  const found = listing.matchAll(
    /(?:Address Minimum|Address) : ([0-9A-F]+)[^[]*?Address Length : ([0-9A-F]+)/g,
  );
  expect([...found].map(([, start, length]) => `${start}+${length}`)).toEqual(ranges);
});

// The id that Linux's virtio_mmio driver matches; its interrupt is shared, level-triggered, active low as PCI's are.
test.concurrent("the interpreter finds virtio-mmio devices, and what their interrupts are", async () => {
  const dsdt = named(buildAcpi({ ...machine, virtioMmio }), "DSDT");

  const output = await interpret(
    dsdt,
    "evaluate \\_SB.VR00._HID",
    "evaluate \\_SB.VR01._UID",
    "resources \\_SB.VR00",
  );

  expect(output).toContain('"LNRO0005"');
  expect(output).toMatch(/\[Integer\] = 0+1\b/);
  const [, interrupt = ""] = output.split("Extended IRQ");
  const found = [...interrupt.matchAll(/(Triggering|Polarity|Sharing|Dword00) : (\w+)/g)];
  expect(found.map(([, , value]) => value)).toEqual(["Level", "ActiveLow", "Shared", "00000010"]);
});

// PCI Firmware Specification 3.3 section 4.5.1: dwords status, support, control.
test.concurrent.each([
  [
    "grants PCIe capability control and masks the rest",
    "33DB4D5B-1FF7-401C-9657-7441C03DD766",
    1,
    "1F 00 00 00",
    "10 00 00 00 01 00 00 00 10 00 00 00",
  ],
  [
    "grants what can be granted without a word",
    "33DB4D5B-1FF7-401C-9657-7441C03DD766",
    1,
    "10 00 00 00",
    "00 00 00 00 01 00 00 00 10 00 00 00",
  ],
  [
    "names a revision that it does not know",
    "33DB4D5B-1FF7-401C-9657-7441C03DD766",
    2,
    "10 00 00 00",
    "08 00 00 00 01 00 00 00 10 00 00 00",
  ],
  [
    "names a UUID that it does not know",
    "43DB4D5B-1FF7-401C-9657-7441C03DD766",
    1,
    "1F 00 00 00",
    "04 00 00 00 01 00 00 00 1F 00 00 00",
  ],
])("_OSC %s", async (_, uuid, revision, control, answer) => {
  const dsdt = named(buildAcpi({ ...machine, pci: [segment] }), "DSDT");
  const hex = uuid.replaceAll("-", "").match(/../g) ?? [];
  // The first three groups are little-endian in a buffer.
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  const bytes = order.map((at) => hex[at]).join(" ");

  const output = await interpret(
    dsdt,
    `evaluate \\_SB.PCI0._OSC (${bytes}) ${revision} 3 (00 00 00 00 01 00 00 00 ${control})`,
  );

  expect(output).toContain(`0000: ${answer}`);
});

test.each<[string, Partial<AcpiPlatform>, string]>([
  ["too little room", { tablesEnd: 0xe_0200 }, "ACPI tables: the "],
  ["no present processor", { cpus: cpus(0, 2) }, "no processor is enabled"],
  ["an APIC id twice", { cpus: [...cpus(1), ...cpus(1)] }, "APIC id 0 after 0"],
  ["an RSDP between paragraphs", { rsdpAddress: 0xe_0008 }, "16-byte boundary"],
  ["an interrupt without a pin", { rtc: { port: 0x70, length: 2, gsi: 24 } }, "GSI 24"],
  [
    "a PCI interrupt without a pin",
    { pci: [{ ...segment, interrupts: [{ device: 1, pin: 0, gsi: 99 }] }] },
    "GSI 99",
  ],
  [
    "a virtio-mmio interrupt without a pin",
    { virtioMmio: [{ address: 0xf800_0000, length: 0x1000, gsi: 24 }] },
    "GSI 24",
  ],
  ["tables above 4 GiB", { tablesEnd: 2 ** 32 + 1 }, "above 4 GiB"],
])("%s is refused", (_, wrong, message) => {
  expect(() => buildAcpi({ ...machine, cpus: cpus(4), ...wrong })).toThrow(message);
});
