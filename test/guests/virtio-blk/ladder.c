/* Bringing a device up and down: status, features, resets (virtio 1.2, chapters 2 and 3). */
#include "disk.h"
#include "../lib/boot.h"

static void set(u32 status)
{
	disk.transport->set_status(&disk, status);
}

static u32 status(void)
{
	return virtio_status(&disk);
}

static int fresh(void)
{
	int found = virtio_find(&disk, VIRTIO_BLOCK, 0);
	expect("a disk is there", found, 1);
	if (found)
		expect("the reset ends", virtio_reset(&disk), 1);
	return found;
}

TEST(ladder, "virtio-ladder")
{
	if (!fresh())
		return;
	expect("at rest", status(), 0);
	set(VIRTIO_ACKNOWLEDGE);
	expect("acknowledged", status(), 1);
	set(VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	expect("driven", status(), 3);
	disk.transport->set_features(&disk, VIRTIO_F_VERSION_1);
	set(11);
	expect("features accepted", status(), 11);
	disk.transport->set_features(&disk, disk.transport->features(&disk));
	set(15);
	expect("live", status(), 15);
	set(0);
	expect("the reset ends", WAIT(status() == 0), 1);
	expect("features are those of the device", disk.transport->features(&disk) != 0, 1);
}

/* The driver must look whether FEATURES_OK stays set. */
TEST(refusal, "virtio-features-refused")
{
	if (!fresh())
		return;
	u64 offered = disk.transport->features(&disk);
	expect("VERSION_1 is offered", (offered & VIRTIO_F_VERSION_1) != 0, 1);
	static const u64 unknown[] = { 1ul << 23, 1ul << 40, 1ul << 63 };
	set(3);
	for (u32 i = 0; i < 3; i++) {
		expect("not offered", offered & unknown[i], 0);
		disk.transport->set_features(&disk, VIRTIO_F_VERSION_1 | unknown[i]);
		set(11);
		expect("refused", status(), 3);
	}
	disk.transport->set_features(&disk, 0);
	set(11);
	expect("refused without VERSION_1", status(), 3);
	disk.transport->set_features(&disk, VIRTIO_F_VERSION_1);
	set(11);
	expect("then accepted", status(), 11);
	virtio_reset(&disk);
}

TEST(given_up, "virtio-failed")
{
	if (!fresh())
		return;
	set(3);
	set(3 | VIRTIO_FAILED);
	expect("given up", status(), 0x83);
	virtio_reset(&disk);
	expect("starts again", virtio_start(&disk, VIRTIO_ANY, queues, 1, 16), 1);
	expect("works", disk_do(BLK_IN, 1, data, SECTOR), BLK_OK);
	disk_stop();
}

/*
 * Requests are on their way when the reset comes: reads, and a flush of what was written, which
 * takes its time. When the status is 0 the device touches nothing any more, neither data nor rings;
 * and it can be started again. On mmio the status is 0 as soon as the write is over: Linux does not
 * look.
 */
TEST(in_flight, "virtio-reset-in-flight")
{
	static struct request requests[32];
	static u8 written[SECTOR];
	u32 rounds = argument_number("rounds", 30), mid_air = 0;
	int at_once = argument_is("transport", "mmio");
	for (u32 round = 0; round < rounds && !failing(); round++) {
		if (!disk_start(VIRTIO_ANY, 1, 32))
			return;
		paint(written, SECTOR, round);
		disk_offer(&queues[0], &requests[0], BLK_OUT, 1300, written, SECTOR);
		for (u32 i = 1; i < 31; i++)
			disk_offer(&queues[0], &requests[i], BLK_IN, i * 2, data + i * 1024, 1024);
		disk_offer(&queues[0], &requests[31], BLK_FLUSH, 0, 0, 0);
		virtqueue_force_kick(&queues[0]);
		for (u32 turn = 0; turn < round; turn++)
			pause();
		mid_air += queues[0].used.index < 32;
		set(0);
		if (at_once)
			expect("0 at once", status(), 0);
		expect("the reset ends", WAIT(status() == 0), 1);
		u16 used = queues[0].used.index;
		paint(data + 1024, 2048, round);
		paint(data + 30 * 1024, 1024, round);
		linger();
		expect("the used ring stands still", queues[0].used.index, used);
		expect("the first buffers stay", painted(data + 1024, 2048, round), 1);
		expect("the last stays", painted(data + 30 * 1024, 1024, round), 1);
	}
	print("note mid-air %u\n", (u64)mid_air);
	if (disk_start(VIRTIO_ANY, 1, 16))
		expect("works", disk_do(BLK_IN, 1, data, SECTOR), BLK_OK);
	disk_stop();
}

/* Queues are as after power-on: what the driver set is forgotten. */
TEST(forgets, "virtio-reset-forgets")
{
	if (!disk_start(VIRTIO_ANY, 1, 16))
		return;
	expect("works", disk_do(BLK_IN, 1, data, SECTOR), BLK_OK);
	virtio_reset(&disk);
	u32 most = disk.transport->queue_most(&disk, 0);
	expect("the size is the most again", most, argument_number("queue_size", 128));
	expect("there is no queue behind the last",
	       disk.transport->queue_most(&disk, argument_number("queues", 1)), 0);
	disk_stop();
}
