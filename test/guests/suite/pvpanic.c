/* pvpanic as a PCI function (QEMU's docs/specs/pvpanic): 1b36:0011, one byte in BAR 0. */
#include "../lib/pci.h"
#include "../lib/test.h"

#define PVPANIC_ID 0x00111b36
#define PANICKED 1
#define CRASH_LOADED 2

static u32 find(void)
{
	u32 slot = 1;
	while (slot < 32 && pci_read32(slot, PCI_ID) != PVPANIC_ID)
		slot++;
	expect("it is on bus 0", slot < 32, 1);
	return slot;
}

/* `what=N` is written as a panicking kernel would; nothing of chv ends for it. */
TEST(pvpanic, "pvpanic")
{
	u32 slot = find();
	u64 bar = pci_bar(slot, 0);
	expect("silent before memory decode is on", read8(bar), 0xff);
	pci_write16(slot, PCI_COMMAND, PCI_COMMAND_MEMORY);
	expect("events", read8(bar), PANICKED | CRASH_LOADED);
	print("Kernel panic - not syncing: the guest's own words\n");
	write8(bar, argument_number("what", PANICKED));
}

/* The range moves as a BAR does. */
TEST(moves, "pvpanic-moves")
{
	u32 slot = find();
	u64 old = pci_bar(slot, 0);
	pci_write16(slot, PCI_COMMAND, PCI_COMMAND_MEMORY);
	pci_move_bar(slot, 0, 0xd0000000);
	expect("where it is now", read8(0xd0000000), PANICKED | CRASH_LOADED);
	expect("where it was", read8(old), 0xff);
}
