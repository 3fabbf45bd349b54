/*
 * The disk grows from `from=N` to `to=M` sectors while it is in use: its driver is told once the size is there. With
 * `reboot=1` the machine starts over then, and finds the disk as large.
 */
#include "../lib/boot.h"
#include "../lib/interrupts.h"
#include "../lib/power.h"
#include "../suite/cmos.h"
#include "disk.h"

#define GROWN 0x52
#define MAGIC 0xa5

static u64 capacity(void)
{
	return read64(disk.config + BLK_CAPACITY);
}

static void use(u64 sectors)
{
	expect("capacity", capacity(), sectors);
	paint(data, SECTOR, sectors);
	expect("the last sector", disk_do(BLK_OUT, sectors - 1, data, SECTOR), BLK_OK);
	paint(data, SECTOR, 0);
	expect("read back", disk_do(BLK_IN, sectors - 1, data, SECTOR), BLK_OK);
	expect("as written", painted(data, SECTOR, sectors), 1);
	expect("the one behind it", disk_do(BLK_IN, sectors, data, SECTOR), BLK_IOERR);
}

TEST(resize, "blk-resize")
{
	int grown = cmos_read(GROWN) == MAGIC;
	cmos_write(GROWN, 0);
	virtio_find(&disk, VIRTIO_BLOCK, 0);
	if (!disk_start_by(disk.vectors ? BY_MSIX : BY_PIN, VIRTIO_ANY, 1, 16))
		return;
	if (grown) {
		use(argument_number("to", 0));
		disk_stop();
		return;
	}
	interrupts_on();
	use(argument_number("from", 0));
	u32 generation = disk.transport->generation(&disk);
	print("note in-use 1\n");
	expect("told of it", WAIT(disk.calls[0] == 1), 1);
	expect("another generation", disk.transport->generation(&disk) != generation, 1);
	use(argument_number("to", 0));
	interrupts_off();
	disk_stop();
	expect("after a reset", capacity(), argument_number("to", 0));
	if (!argument_number("reboot", 0) || failing())
		return;
	cmos_write(GROWN, MAGIC);
	reset_acpi();
}
