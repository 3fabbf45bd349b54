/*
 * The platform as a small firmware drives it, and what a firmware is for: a program is read from the
 * first disk, by virtio, and entered.
 */
#include "tables.h"
#include "../lib/pci.h"
#include "../lib/virtio.h"

#define SECTOR 512
#define READ_AT_ONCE 8

/* Sector 0, as the test wrote it. */
struct boot_sector {
	char magic[8];
	u64 first, count, address;
};

static struct virtio disk;
static struct virtqueue queue;

TEST(platform, "platform")
{
	expect("edk2's CLOUDHV_DEVICE_ID", pci_read32(0, PCI_ID), 0x0d578086);
	u32 before = inl(0x608);
	expect("the PM timer runs", WAIT(inl(0x608) != before), 1);
}

/* rust-hypervisor-firmware never writes a command register. */
TEST(bars, "bars-answer")
{
	u32 slot = 1;
	while (slot < 32 && pci_read32(slot, PCI_ID) != 0x10421af4)
		slot++;
	expect("a disk is there", slot < 32, 1);
	expect("decode is on", pci_read16(slot, PCI_COMMAND) & PCI_COMMAND_MEMORY, PCI_COMMAND_MEMORY);
	disk.slot = slot;
	virtio_pci_locate(&disk);
	expect("queues", read16(disk.common + 18) == 0xffff, 0);
	expect("status", read8(disk.common + 20), 0);
}

static int read_sectors(u64 sector, void *to, u32 count)
{
	static struct {
		u32 type, reserved;
		u64 sector;
	} header;
	static volatile u8 status;
	header.sector = sector;
	status = 0xff;
	struct buffer out = { &header, sizeof(header) };
	struct buffer in[2] = { { to, count * SECTOR }, { (void *)&status, 1 } };
	virtqueue_exchange(&queue, &out, 1, in, 2);
	return status == 0;
}

TEST(boot, "boot-from-disk")
{
	static union {
		struct boot_sector boot;
		u8 bytes[SECTOR];
	} sector;
	const struct boot_sector *boot = &sector.boot;
	int found = virtio_find(&disk, VIRTIO_BLOCK, 0);
	expect("a disk is there", found, 1);
	expect("it starts", found && virtio_start(&disk, 0, &queue, 1, 16), 1);
	expect("it reads", !failing() && read_sectors(0, &sector, 1), 1);
	expect("it can be booted", starts_with(boot->magic, "CHVBOOT"), 1);
	if (failing())
		return;
	for (u64 done = 0; done < boot->count; done += READ_AT_ONCE)
		expect("it reads on", read_sectors(boot->first + done, (u8 *)boot->address + done * SECTOR,
						   READ_AT_ONCE), 1);
	expect("the reset ends", virtio_stop(&disk), 1);
	if (failing())
		return;
	print("ok boot-from-disk\n");
	((void (*)(void))boot->address)();
}
