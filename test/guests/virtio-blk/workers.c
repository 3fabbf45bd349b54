/* A disk whose queues are dealt to I/O threads of their own: all at work at once, and reset meanwhile. */
#include "disk.h"
#include "../lib/boot.h"

#define COUNT 4
#define SIZE 16
#define READS 12
/* So many rounds read other sectors, each of the queue's own. */
#define TURNS 200

static struct virtqueue four[COUNT];
static struct request requests[COUNT][SIZE];
static u8 written[COUNT][SECTOR];

/* Each queue's own sectors, its own part of `data`, and a sector of its own that it writes. */
static void offer_all(u32 round)
{
	for (u32 q = 0; q < COUNT; q++) {
		paint(written[q], SECTOR, round * COUNT + q);
		disk_offer(&four[q], &requests[q][0], BLK_OUT, 1400 + q, written[q], SECTOR);
		for (u32 i = 1; i <= READS; i++)
			disk_offer(&four[q], &requests[q][i], BLK_IN, q * 300 + i + round,
				   data + (q * 16 + i) * SECTOR, SECTOR);
		disk_offer(&four[q], &requests[q][READS + 1], BLK_FLUSH, 0, 0, 0);
	}
	for (u32 q = 0; q < COUNT; q++)
		virtqueue_force_kick(&four[q]);
}

static int right(u32 round)
{
	int good = 1;
	for (u32 q = 0; q < COUNT; q++) {
		for (u32 i = 0; i < READS + 2; i++)
			good &= virtqueue_wait(&four[q], 0) >= 0;
		for (u32 i = 0; i < READS + 2; i++)
			good &= requests[q][i].status == BLK_OK;
		for (u32 i = 1; i <= READS; i++)
			good &= as_filled(data + (q * 16 + i) * SECTOR, q * 300 + i + round, 1);
	}
	return good;
}

static int start(void)
{
	int found = virtio_find(&disk, VIRTIO_BLOCK, 0);
	expect("a disk is there", found, 1);
	if (!found)
		return 0;
	disk.by = BY_POLLING;
	int started = virtio_start(&disk, VIRTIO_ANY, four, COUNT, SIZE * 4);
	expect("it starts", started, 1);
	return started;
}

TEST(all_at_once, "workers-all-at-once")
{
	u32 rounds = argument_number("rounds", 30);
	if (!start())
		return;
	for (u32 round = 0; (round < rounds || !told()) && !failing(); round++) {
		u32 turn = round % TURNS;
		offer_all(turn);
		expect("every queue is served", right(turn), 1);
	}
	disk_stop();
}

/* What one thread wrote and flushed, the others read. */
TEST(coherent, "workers-one-disk")
{
	if (!start())
		return;
	offer_all(7);
	expect("every queue is served", right(7), 1);
	for (u32 q = 0; q < COUNT; q++) {
		u32 other = (q + 1) % COUNT;
		disk_offer(&four[other], &requests[other][0], BLK_IN, 1400 + q, data, SECTOR);
		virtqueue_force_kick(&four[other]);
		virtqueue_wait(&four[other], 0);
		expect("another's write", painted(data, SECTOR, 7 * COUNT + q), 1);
	}
	disk_stop();
}

/* The status is 0 when every thread has let go. */
TEST(reset, "workers-reset-in-flight")
{
	u32 rounds = argument_number("rounds", 30), mid_air = 0;
	for (u32 round = 0; round < rounds && !failing(); round++) {
		u16 used[COUNT];
		if (!start())
			return;
		offer_all(round);
		for (u32 turn = 0; turn < round * 8; turn++)
			pause();
		disk.transport->set_status(&disk, 0);
		expect("the reset ends", WAIT(virtio_status(&disk) == 0), 1);
		for (u32 q = 0; q < COUNT; q++) {
			used[q] = four[q].used.index;
			mid_air += used[q] < READS + 2;
			paint(data + q * 16 * SECTOR, 16 * SECTOR, round);
		}
		linger();
		for (u32 q = 0; q < COUNT; q++) {
			expect("the used ring stands still", four[q].used.index, used[q]);
			expect("the buffers stay", painted(data + q * 16 * SECTOR, 16 * SECTOR, round), 1);
		}
	}
	print("note mid-air %u\n", (u64)mid_air);
	if (start()) {
		offer_all(1);
		expect("all work again", right(1), 1);
	}
	disk_stop();
}
