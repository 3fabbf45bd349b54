/* The machine starts over while the disk is at work: `boots=N` times, counted in CMOS RAM. */
#include "../lib/boot.h"
#include "../lib/power.h"
#include "../suite/cmos.h"
#include "disk.h"

#define BOOT_COUNT 0x50
#define BOOT_MAGIC 0x51
#define MAGIC 0xa5

TEST(reboot, "blk-reboot")
{
	static struct request requests[31];
	u32 boot = cmos_read(BOOT_MAGIC) == MAGIC ? cmos_read(BOOT_COUNT) + 1 : 1;
	cmos_write(BOOT_MAGIC, MAGIC);
	cmos_write(BOOT_COUNT, boot);
	int found = virtio_find(&disk, VIRTIO_BLOCK, 0);
	expect("a disk is there", found, 1);
	if (!found)
		return;
	expect("at rest", virtio_status(&disk), 0);
	if (!disk_start(VIRTIO_ANY, 1, 32))
		return;
	expect("works", disk_do(BLK_IN, boot, data, SECTOR), BLK_OK);
	expect("as filled", as_filled(data, boot, 1), 1);
	if (failing() || boot == argument_number("boots", 2)) {
		cmos_write(BOOT_MAGIC, 0);
		disk_stop();
		return;
	}
	for (u32 i = 0; i < 31; i++)
		disk_offer(&queues[0], &requests[i], BLK_IN, i, data + i * 1024, 1024);
	virtqueue_force_kick(&queues[0]);
	reset_acpi();
}
