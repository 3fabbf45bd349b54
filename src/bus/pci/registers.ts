/** Registers of a PCI function's configuration space: offsets and bits of <linux/pci_regs.h>, names verbatim. */
export const Pci = {
  VENDOR_ID: 0x00,
  DEVICE_ID: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  CLASS_REVISION: 0x08,
  HEADER_TYPE: 0x0e,
  BASE_ADDRESS_0: 0x10,
  SUBSYSTEM_VENDOR_ID: 0x2c,
  SUBSYSTEM_ID: 0x2e,
  CAPABILITY_LIST: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
} as const;

export const PciCommand = { MEMORY: 0x2, MASTER: 0x4, INTX_DISABLE: 0x400 } as const;
export const PciStatus = { INTERRUPT: 0x08, CAP_LIST: 0x10 } as const;
export const PciBar = { MEM_TYPE_64: 0x4, MEM_PREFETCH: 0x8 } as const;
export const PciCap = { ID_VNDR: 0x09, ID_MSIX: 0x11 } as const;

/** First byte behind the standard header: capabilities go from here. */
export const headerEnd = 0x40;
export const configBytes = 256;
/** What a function occupies in MMCONFIG. */
export const extendedConfigBytes = 4096;
