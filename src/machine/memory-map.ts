/**
 * The machine's fixed addresses: guest-physical and I/O ports. One page, in address order; everything that places
 * something in the guest's view takes its number from here.
 */
const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

/** Guest-physical addresses. */
export const MemoryMap = {
  /** Boot-time tables of the firmware: GDT, page tables, boot parameters, command line. */
  bootTables: 0x500,
  /** Conventional memory ends here; the ACPI tables and the MP table lie above, reserved in the e820 map. */
  lowRamEnd: 0x9_fc00,
  /** MP floating pointer: the last KiB of conventional memory (MP 1.4 section 4). */
  mpTable: 0x9_fc00,
  /** The RSDP lies where the BIOS's would (ACPI 6.5 section 5.2.5.1), the other tables right behind it. */
  acpiTables: 0xe_0000,
  acpiTablesEnd: 0x10_0000,
  highRam: 0x10_0000,
  /** RAM below 4 GiB ends at most here; what does not fit goes to `ramAbove4G`. */
  holeStart: 3 * GiB,
  pciWindow32: 0xc000_0000,
  pciWindow32End: 0xe800_0000,
  mmconfig: 0xe800_0000,
  mmconfigSize: 256 * MiB,
  ioapic: 0xfec0_0000,
  localApic: 0xfee0_0000,
  /** KVM's own pages on Intel: identity map (1 page), then the TSS (3 pages). */
  kvmIdentityMap: 0xfeff_c000,
  kvmTss: 0xfeff_d000,
  ramAbove4G: 4 * GiB,
} as const;

/** I/O ports: first port. */
export const Port = {
  i8042: 0x61,
  cmos: 0x70,
  debug: 0x80,
  serial: 0x3f8,
  sleepControl: 0x600,
  sleepStatus: 0x601,
  /** ACPI RESET_REG; takes `resetValue`. */
  reset: 0x602,
  pmTimer: 0x608,
  pciConfig: 0xcf8,
} as const;

/** The value that, written to `Port.reset`, resets the machine. */
export const resetValue = 1;

/** Interrupt pins of the IOAPIC (GSIs). */
export const Gsi = { serial: 4, rtc: 8, pins: 24 } as const;
