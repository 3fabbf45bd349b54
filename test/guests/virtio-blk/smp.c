/* Two processors and one disk: a queue each. */
#include "disk.h"
#include "../lib/apic.h"
#include "../lib/boot.h"
#include "../lib/interrupts.h"
#include "../lib/smp.h"

#define SIZE 16
#define HALF (sizeof(data) / 2)

static volatile u32 wrong, taken[2];
static u32 rounds;

/* Reads with its own queue into its own half of the data. */
static void drive(u32 cpu)
{
	static struct request requests[2][SIZE];
	struct virtqueue *queue = &queues[cpu];
	u8 *room = data + cpu * HALF;
	for (u32 round = 0; round < rounds; round++) {
		for (u32 i = 0; i < SIZE; i++)
			disk_offer(queue, &requests[cpu][i], BLK_IN, cpu * 500 + round + i, room + i * SECTOR,
				   SECTOR);
		virtqueue_kick(queue);
		for (u32 i = 0; i < SIZE; i++)
			if (virtqueue_wait(queue, 0) < 0)
				fetch_add(&wrong, 1);
		for (u32 i = 0; i < SIZE; i++)
			if (requests[cpu][i].status || !as_filled(room + i * SECTOR, cpu * 500 + round + i, 1))
				fetch_add(&wrong, 1);
	}
}

static void both(void (*function)(u32 cpu))
{
	expect("processors up", smp_start(2), 2);
	rounds = argument_number("rounds", 30);
	wrong = 0;
	smp_call(1, function);
	function(0);
	expect("the other finished", smp_wait(1), 1);
	expect("wrong", wrong, 0);
}

TEST(queue_each, "smp-queue-each")
{
	if (!disk_start(VIRTIO_ANY, 2, SIZE))
		return;
	both(drive);
	disk_stop();
}

/* Each with interrupts of its own queue, sent to itself. */
static void drive_by_interrupts(u32 cpu)
{
	static struct request requests[2];
	struct virtqueue *queue = &queues[cpu];
	u32 calls = disk.calls[1 + cpu];
	for (u32 i = 0; i < rounds; i++) {
		virtqueue_want_call(queue);
		disk_offer(queue, &requests[cpu], BLK_IN, cpu * 500 + i, data + cpu * HALF, SECTOR);
		virtqueue_kick(queue);
		while (disk.calls[1 + cpu] == calls)
			halt();
		calls = disk.calls[1 + cpu];
		if (virtqueue_take(queue, 0) < 0 || !as_filled(data + cpu * HALF, cpu * 500 + i, 1))
			fetch_add(&wrong, 1);
	}
}

TEST(vector_each, "smp-vector-each")
{
	expect("processors up", smp_start(2), 2);
	if (!disk_start_by(BY_MSIX, VIRTIO_ANY, 2, SIZE))
		return;
	u64 entry = disk.msix_table + 2 * 16;
	virtio_mask_vector(&disk, 2, 1);
	write32(entry, 0xfee00000 | smp_apic_id(1) << 12);
	virtio_mask_vector(&disk, 2, 0);
	both(drive_by_interrupts);
	disk_stop();
}

/* Reads with queue 0, whose interrupts this processor waits for in HLT. */
static volatile u32 finished;

static void read_by_interrupts(u32 cpu)
{
	(void)cpu;
	drive_by_interrupts(0);
	finished = 1;
}

/*
 * One processor waits for interrupts, the other masks and unmasks the vector without end: one that
 * is lost leaves the first asleep.
 */
TEST(mask_load, "smp-mask-load")
{
	expect("processors up", smp_start(2), 2);
	virtio_find(&disk, VIRTIO_BLOCK, 0);
	disk.cpu = smp_apic_id(1);
	disk.by = BY_MSIX;
	expect("starts", virtio_start(&disk, VIRTIO_ANY, queues, 1, SIZE), 1);
	if (failing())
		return;
	rounds = argument_number("rounds", 60);
	wrong = finished = 0;
	smp_call(1, read_by_interrupts);
	u64 start = rdtsc();
	for (u32 turn = 0; !finished && rdtsc() - start < PATIENCE; turn++) {
		if (turn & 1)
			virtio_mask_function(&disk, turn >> 1 & 1);
		else
			virtio_mask_vector(&disk, 1, turn >> 1 & 1);
	}
	virtio_mask_function(&disk, 0);
	virtio_mask_vector(&disk, 1, 0);
	expect("the other finished", smp_wait(1), 1);
	expect("wrong", wrong, 0);
	disk_stop();
}

static volatile u32 stop;

/* Reads registers without end, of any kind. */
static void read_registers(u32 cpu)
{
	(void)cpu;
	while (!stop) {
		virtio_status(&disk);
		disk.transport->generation(&disk);
		read32(disk.config);
		fetch_add(&taken[0], 1);
	}
}

/* One processor starts, uses and resets the device; the other reads its registers meanwhile. */
TEST(bystander, "smp-reset-bystander")
{
	expect("processors up", smp_start(2), 2);
	if (!disk_start(VIRTIO_ANY, 1, SIZE))
		return;
	stop = 0;
	smp_call(1, read_registers);
	u64 start = rdtsc();
	/* at least 20 times, and until the other has had its turn on a busy machine */
	for (u32 i = 0; (i < 20 || (!taken[0] && rdtsc() - start < PATIENCE)) && !failing(); i++) {
		expect("starts", virtio_start(&disk, VIRTIO_ANY, queues, 1, SIZE), 1);
		expect("works", disk_do(BLK_IN, i % 20, data, SECTOR), BLK_OK);
		static struct request request;
		disk_offer(&queues[0], &request, BLK_FLUSH, 0, 0, 0);
		virtqueue_force_kick(&queues[0]);
		expect("stops", virtio_reset(&disk), 1);
	}
	stop = 1;
	expect("the other finished", smp_wait(1), 1);
	expect("it read", taken[0] > 0, 1);
	disk_stop();
}
