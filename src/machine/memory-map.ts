/**
 * The machine's fixed addresses: guest-physical and I/O ports. One page, in address order; everything that places
 * something in the guest's view takes its number from here.
 */
const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

/** Guest-physical addresses. */
export const MemoryMap = {
  /** Conventional memory ends here (firmware's boot tables lie in it, see BootLayout); reserved from here to 1 MiB. */
  lowRamEnd: 0x9_fc00,
  /** The RSDP lies where the BIOS's would (ACPI 6.5 section 5.2.5.1), the other tables around it. */
  acpiTables: 0xe_0000,
  acpiTablesEnd: 0xf_0000,
  /** The SMBIOS entry point, where a PC's BIOS may have it and edk2 expects it, its table right behind it. */
  smbios: 0xf_0000,
  smbiosEnd: 0xf_4000,
  /** The MP floating pointer, in the BIOS's read-only memory (MP 1.4 section 4), its table right behind it. */
  mpTable: 0xf_4000,
  mpTableEnd: 0xf_fff0,
  /** Where a PC's BIOS is entered (F000:FFF0); see `biosEntry` in tables.ts. */
  biosEntry: 0xf_fff0,
  highRam: 0x10_0000,
  /** RAM below 4 GiB ends at most here; what does not fit goes to `ramAbove4G`. */
  holeStart: 3 * GiB,
  pciWindow32: 0xc000_0000,
  pciWindow32End: 0xe800_0000,
  mmconfig: 0xe800_0000,
  mmconfigSize: 256 * MiB,
  /** virtio-mmio devices, a page each. */
  virtioMmio: 0xf800_0000,
  virtioMmioSize: 0x2_0000,
  ioapic: 0xfec0_0000,
  ioapicSize: 0x1000,
  localApic: 0xfee0_0000,
  /** KVM's own pages on Intel: identity map (1 page), then the TSS (3 pages). */
  kvmIdentityMap: 0xfeff_c000,
  kvmTss: 0xfeff_d000,
  kvmPagesSize: 0x4000,
  ramAbove4G: 4 * GiB,
} as const;

/** KVM's memory slots: RAM has those from 0 on, persistent memory these. */
export const firstPersistentSlot = 64;

/** I/O ports: first port. */
export const Port = {
  /** Ports 0x60 to 0x64, the system control port 0x61 among them. */
  i8042: 0x60,
  cmos: 0x70,
  debug: 0x80,
  serial: 0x3f8,
  sleepControl: 0x600,
  sleepStatus: 0x601,
  /** ACPI RESET_REG; takes `resetValue`. */
  reset: 0x602,
  pmTimer: 0x608,
  /** The Generic Event Device's pending events. */
  events: 0x60c,
  watchdog: 0x610,
  pciConfig: 0xcf8,
} as const;

/** The value that, written to `Port.reset`, resets the machine. */
export const resetValue = 1;

/** Interrupt pins of the IOAPIC (GSIs). */
export const Gsi = { serial: 4, rtc: 8, events: 9, intx: 16, intxCount: 8, pins: 24 } as const;

/** Which of the INTx pins a slot's INTA goes to; ACPI's _PRT says the same. */
export const intxOf = (slot: number): number => slot % Gsi.intxCount;
