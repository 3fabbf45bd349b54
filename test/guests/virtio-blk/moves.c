/* BARs that move (PCI Local Bus 3.0, section 6.2.5): PCI alone. */
#include "disk.h"
#include "../lib/boot.h"
#include "../lib/interrupts.h"
#include "../lib/virtio-pci.h"

#define SIZE 16
#define BAR_SIZE 0x10000

TEST(sizing, "bar-sizing")
{
	if (!disk_start(VIRTIO_ANY, 1, SIZE))
		return;
	u32 at = PCI_BAR0 + disk.bar * 4;
	u64 home = pci_bar(disk.slot, disk.bar);
	u16 command = pci_read16(disk.slot, PCI_COMMAND);
	pci_write16(disk.slot, PCI_COMMAND, command & ~PCI_COMMAND_MEMORY);
	pci_write32(disk.slot, at, ~0u);
	pci_write32(disk.slot, at + 4, ~0u);
	expect("size, 64-bit memory", pci_read32(disk.slot, at), 0xffff0004);
	expect("the upper half", pci_read32(disk.slot, at + 4), ~0u);
	expect("nobody answers with decode off", read32(disk.common), ~0u);
	pci_write32(disk.slot, at, home);
	pci_write32(disk.slot, at + 4, home >> 32);
	pci_write16(disk.slot, PCI_COMMAND, command);
	expect("still live", virtio_status(&disk), VIRTIO_LIVE);
	expect("works", disk_do(BLK_IN, 4, data, SECTOR), BLK_OK);
	expect("as filled", as_filled(data, 4, 1), 1);
	disk_stop();
}

static void relocate(u64 address)
{
	pci_move_bar(disk.slot, disk.bar, address);
	virtio_pci_locate(&disk);
	queues[0].notify = disk.notify;
}

/* Requests are on their way when the BAR goes, and more are kicked where it comes to. */
TEST(load, "bar-moves-load")
{
	static struct request requests[SIZE];
	if (!disk_start_by(BY_MSIX, VIRTIO_ANY, 1, SIZE))
		return;
	u64 home = pci_bar(disk.slot, disk.bar);
	const u64 places[] = { 0xd0000000, 0xe7ff0000, home + BAR_SIZE * 40, home };
	u32 rounds = argument_number("rounds", 24);
	interrupts_on();
	for (u32 round = 0; round < rounds && !failing(); round++) {
		u32 before = disk.calls[1];
		u64 old = disk.common;
		virtqueue_want_call(&queues[0]);
		for (u32 i = 0; i < SIZE / 2; i++)
			disk_offer(&queues[0], &requests[i], BLK_IN, round + i, data + i * SECTOR, SECTOR);
		virtqueue_kick(&queues[0]);
		relocate(places[round % 4]);
		expect("nobody answers at the old place", read32(old), ~0u);
		expect("live at the new one", virtio_status(&disk), VIRTIO_LIVE);
		for (u32 i = SIZE / 2; i < SIZE; i++)
			disk_offer(&queues[0], &requests[i], BLK_IN, round + i, data + i * SECTOR, SECTOR);
		virtqueue_kick(&queues[0]);
		for (u32 i = 0; i < SIZE; i++)
			expect("an answer", virtqueue_wait(&queues[0], 0) >= 0, 1);
		expect("a call", WAIT(disk.calls[1] != before), 1);
		for (u32 i = 0; i < SIZE; i++)
			expect("data", as_filled(data + i * SECTOR, round + i, 1), 1);
	}
	interrupts_off();
	disk_stop();
	relocate(home);
}

/* Two disks change places, one after the other at the same address. */
TEST(exchange, "bar-exchange")
{
	static struct virtio other;
	static struct virtqueue queue;
	static struct request request;
	if (!disk_start(VIRTIO_ANY, 1, SIZE))
		return;
	int found = virtio_find(&other, VIRTIO_BLOCK, 1);
	expect("a second disk", found && virtio_start(&other, VIRTIO_ANY, &queue, 1, SIZE), 1);
	if (failing())
		return;
	u64 home = pci_bar(disk.slot, disk.bar), away = pci_bar(other.slot, other.bar);
	for (u32 round = 0; round < 6 && !failing(); round++) {
		relocate(0xd0000000);
		pci_move_bar(other.slot, other.bar, round & 1 ? away : home);
		relocate(round & 1 ? home : away);
		virtio_pci_locate(&other);
		queue.notify = other.notify;
		expect("the first", disk_do(BLK_IN, round, data, SECTOR), BLK_OK);
		expect("its data", as_filled(data, round, 1), 1);
		disk_offer(&queue, &request, BLK_IN, 1, data, SECTOR);
		virtqueue_kick(&queue);
		expect("the second", virtqueue_wait(&queue, 0) >= 0 && request.status == BLK_OK, 1);
		expect("its data", *(u64 *)data, 1);
	}
	virtio_stop(&other);
	disk_stop();
}

/* Above 4 GiB, seen through a window. */
TEST(high, "bar-above-4g")
{
	if (!disk_start(VIRTIO_ANY, 1, SIZE))
		return;
	u64 home = pci_bar(disk.slot, disk.bar), place = 0x1234500000;
	u8 *window = map_window(place);
	pci_move_bar(disk.slot, disk.bar, place);
	u64 shift = (u64)window - home;
	disk.common += shift;
	queues[0].notify += shift;
	expect("live", virtio_status(&disk), VIRTIO_LIVE);
	for (u32 i = 0; i < 5; i++)
		expect("works", disk_do(BLK_IN, i, data, SECTOR), BLK_OK);
	expect("as filled", as_filled(data, 4, 1), 1);
	relocate(home);
	disk_stop();
}

/* Memory-mapped configuration space, where the MCFG table says it is, shows what the ports show. */
TEST(mmconfig, "pci-mmconfig")
{
	u64 base = argument_number("mmconfig", 0);
	for (u32 slot = 0; slot < 3; slot++)
		for (u32 offset = 0; offset < 64; offset += 4)
			expect("the same", read32(base + slot * 0x8000 + offset), pci_read32(slot, offset));
	expect("no function 1", read32(base + 0x1000), ~0u);
	expect("no bus 1", read32(base + 0x100000), ~0u);
}

/* The registers through configuration space, with decode off (virtio 1.2, section 4.1.4.9). */
TEST(window, "pci-config-access")
{
	if (!disk_start(VIRTIO_ANY, 1, SIZE))
		return;
	u32 slot = disk.slot, at = 0;
	do
		at = pci_capability(slot, PCI_CAP_VENDOR, at);
	while (at && pci_read8(slot, at + 3) != 5);
	expect("the capability", at != 0, 1);
	u16 command = pci_read16(slot, PCI_COMMAND);
	u32 offset = disk.common - pci_bar(slot, disk.bar);
	pci_write16(slot, PCI_COMMAND, command & ~PCI_COMMAND_MEMORY);
	pci_write8(slot, at + 4, disk.bar);
	pci_write32(slot, at + 8, offset + COMMON_STATUS);
	pci_write32(slot, at + 12, 1);
	expect("the status", pci_read8(slot, at + 16), VIRTIO_LIVE);
	pci_write8(slot, at + 16, 0);
	expect("a reset", WAIT(pci_read8(slot, at + 16) == 0), 1);
	pci_write16(slot, PCI_COMMAND, command);
	expect("seen in the BAR, too", virtio_status(&disk), 0);
	disk_stop();
}
