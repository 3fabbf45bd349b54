/* Rings: every combination of features, wrapping around, kicks and calls that are not needed. */
#include "disk.h"
#include "../lib/interrupts.h"

#define SIZE 8

/* 40 batches of requests, several times around the ring; the device may answer in any order. */
static void wrap(u64 features)
{
	static struct request requests[SIZE];
	if (!disk_start(features, 1, SIZE))
		return;
	expect("what was wanted of the ring", disk.features & (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX),
	       features & (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX));
	u32 batch = features & VIRTIO_F_INDIRECT_DESC ? SIZE : SIZE / 3;
	for (u32 round = 0; round < 40 && !failing(); round++) {
		u32 count = 1 + round % batch;
		for (u32 i = 0; i < count; i++)
			disk_offer(&queues[0], &requests[i], BLK_IN, round + i, data + i * SECTOR, SECTOR);
		virtqueue_kick(&queues[0]);
		for (u32 i = 0; i < count; i++) {
			u32 written = 0;
			expect("an answer", virtqueue_wait(&queues[0], &written) >= 0, 1);
			expect("its length", written, SECTOR + 1);
		}
		for (u32 i = 0; i < count; i++) {
			expect("status", requests[i].status, BLK_OK);
			expect("data", as_filled(data + i * SECTOR, round + i, 1), 1);
		}
	}
	expect("every descriptor is back", queues[0].free_count, SIZE);
	disk_stop();
}

TEST(plain, "queue-plain")
{
	wrap(0);
}

TEST(indirect, "queue-indirect")
{
	wrap(VIRTIO_F_INDIRECT_DESC);
}

TEST(event_index, "queue-event-index")
{
	wrap(VIRTIO_F_EVENT_IDX);
}

TEST(both, "queue-indirect-event-index")
{
	wrap(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX);
}

/* A device that is idle asks for a kick; what is offered before it is ready is found all the same. */
TEST(early, "queue-offered-early")
{
	static struct request request;
	if (!disk_start(VIRTIO_ANY, 1, SIZE))
		return;
	virtio_reset(&disk);
	expect("features", virtio_negotiate(&disk, VIRTIO_ANY), 1);
	virtio_queue(&disk, 0, &queues[0], SIZE);
	disk_offer(&queues[0], &request, BLK_IN, 3, data, SECTOR);
	expect("ready", virtio_ready(&disk), 1);
	expect("answered without a kick", virtqueue_wait(&queues[0], 0) >= 0, 1);
	expect("status", request.status, BLK_OK);

	disk_offer(&queues[0], &request, BLK_IN, 4, data, SECTOR);
	expect("an idle device wants the kick", virtqueue_kick(&queues[0]), 1);
	expect("answered", virtqueue_wait(&queues[0], 0) >= 0, 1);
	disk_stop();
}

/* A queue that the driver did not enable does nothing, and harms nothing. */
TEST(not_enabled, "queue-not-enabled")
{
	if (!disk_start(VIRTIO_ANY, 1, SIZE))
		return;
	virtio_reset(&disk);
	expect("features", virtio_negotiate(&disk, VIRTIO_ANY), 1);
	expect("ready", virtio_ready(&disk), 1);
	virtqueue_force_kick(&queues[0]);
	linger();
	expect("still live", virtio_status(&disk), VIRTIO_LIVE);
	disk_stop();
	if (disk_start(VIRTIO_ANY, 1, SIZE))
		expect("works", disk_do(BLK_IN, 1, data, SECTOR), BLK_OK);
	disk_stop();
}

static void suppressed(u64 features, enum virtio_interrupts by)
{
	if (!disk_start_by(by, features, 1, SIZE))
		return;
	interrupts_on();
	for (u32 i = 0; i < 5; i++)
		expect("status", disk_do(BLK_IN, i, data, SECTOR), BLK_OK);
	linger();
	expect("no call that was not wanted", disk.calls[1], 0);
	for (u32 i = 0; i < 5; i++) {
		u32 before = disk.calls[1];
		expect("nothing came yet", virtqueue_want_call(&queues[0]), 1);
		expect("status", disk_do(BLK_IN, i, data, SECTOR), BLK_OK);
		expect("a call", WAIT(disk.calls[1] == before + 1), 1);
	}
	interrupts_off();
	disk_stop();
}

static enum virtio_interrupts best(void)
{
	virtio_find(&disk, VIRTIO_BLOCK, 0);
	return disk.vectors ? BY_MSIX : BY_PIN;
}

TEST(calls_by_flag, "queue-calls-flag")
{
	suppressed(0, best());
}

TEST(calls_by_index, "queue-calls-event-index")
{
	suppressed(VIRTIO_F_EVENT_IDX, best());
}
