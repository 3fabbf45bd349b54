/*
 * Configuration space of PCI bus 0 (PCI Local Bus 3.0, chapter 6), through ports 0xcf8 and 0xcfc.
 * `slot` is the device number; functions are 0.
 */
#ifndef PCI_H
#define PCI_H
#include "io.h"

#define PCI_ID 0x00
#define PCI_COMMAND 0x04
#define PCI_STATUS 0x06
#define PCI_BAR0 0x10
#define PCI_CAPABILITIES 0x34
#define PCI_INTERRUPT_LINE 0x3c

#define PCI_COMMAND_MEMORY 2
#define PCI_COMMAND_MASTER 4
#define PCI_COMMAND_NO_INTX 0x400
#define PCI_STATUS_INTERRUPT 8

#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_MSIX 0x11

u8 pci_read8(u32 slot, u32 offset);
u16 pci_read16(u32 slot, u32 offset);
u32 pci_read32(u32 slot, u32 offset);
void pci_write8(u32 slot, u32 offset, u8 value);
void pci_write16(u32 slot, u32 offset, u16 value);
void pci_write32(u32 slot, u32 offset, u32 value);

/* The next capability of this id behind `after` (0: the first one); 0 when there is none. */
u32 pci_capability(u32 slot, u8 id, u32 after);

/* Where a memory BAR points, 32 or 64 bits; and moving it, with decode off meanwhile. */
u64 pci_bar(u32 slot, u32 bar);
void pci_move_bar(u32 slot, u32 bar, u64 address);

#endif
