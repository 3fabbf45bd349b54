#include "pci.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define ENABLE 0x80000000u
#define BAR_64 4

static u16 select(u32 slot, u32 offset)
{
	outl(CONFIG_ADDRESS, ENABLE | slot << 11 | (offset & 0xfc));
	return CONFIG_DATA + (offset & 3);
}

u8 pci_read8(u32 slot, u32 offset)
{
	return inb(select(slot, offset));
}

u16 pci_read16(u32 slot, u32 offset)
{
	return inw(select(slot, offset));
}

u32 pci_read32(u32 slot, u32 offset)
{
	return inl(select(slot, offset));
}

void pci_write8(u32 slot, u32 offset, u8 value)
{
	outb(select(slot, offset), value);
}

void pci_write16(u32 slot, u32 offset, u16 value)
{
	outw(select(slot, offset), value);
}

void pci_write32(u32 slot, u32 offset, u32 value)
{
	outl(select(slot, offset), value);
}

u32 pci_capability(u32 slot, u8 id, u32 after)
{
	u32 at = pci_read8(slot, after ? after + 1 : PCI_CAPABILITIES) & 0xfc;
	for (u32 steps = 0; at && steps < 48; steps++) {
		if (pci_read8(slot, at) == id)
			return at;
		at = pci_read8(slot, at + 1) & 0xfc;
	}
	return 0;
}

u64 pci_bar(u32 slot, u32 bar)
{
	u32 low = pci_read32(slot, PCI_BAR0 + bar * 4);
	u64 high = low & BAR_64 ? pci_read32(slot, PCI_BAR0 + bar * 4 + 4) : 0;
	return high << 32 | (low & ~0xfu);
}

void pci_move_bar(u32 slot, u32 bar, u64 address)
{
	u16 command = pci_read16(slot, PCI_COMMAND);
	u32 low = pci_read32(slot, PCI_BAR0 + bar * 4);
	pci_write16(slot, PCI_COMMAND, command & ~PCI_COMMAND_MEMORY);
	pci_write32(slot, PCI_BAR0 + bar * 4, (u32)address);
	if (low & BAR_64)
		pci_write32(slot, PCI_BAR0 + bar * 4 + 4, (u32)(address >> 32));
	pci_write16(slot, PCI_COMMAND, command);
}
