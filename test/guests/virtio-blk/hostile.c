/*
 * Rings that break the rules: the device says DEVICE_NEEDS_RESET, and by a change of configuration,
 * stands still, and works again after a reset (virtio 1.2, section 2.1.2).
 */
#include "disk.h"
#include "../lib/boot.h"
#include "../lib/interrupts.h"

#define SIZE 16
/* Guest RAM ends far below, and nothing else answers here. */
#define NOWHERE 0xd0000000ul

static struct descriptor table[4] __attribute__((aligned(16)));

static void describe(struct descriptor *descriptor, u64 address, u32 length, u16 flags, u16 next)
{
	*descriptor = (struct descriptor){ address, length, flags, next };
}

static struct descriptor *ring(u32 index)
{
	return &queues[0].table[index];
}

/* A request of two descriptors, the start of many of the chains below. */
static struct request request;

static void header(u16 flags, u16 next)
{
	request.header = (struct blk_header){ BLK_IN, 0, 0 };
	describe(ring(0), (u64)&request.header, sizeof(request.header), flags, next);
}

static void loop(void)
{
	header(DESC_NEXT, 1);
	describe(ring(1), (u64)data, SECTOR, DESC_WRITE | DESC_NEXT, 1);
}

static void next_outside(void)
{
	header(DESC_NEXT, SIZE);
}

static void head_outside(void)
{
	virtqueue_offer(&queues[0], SIZE);
}

static void data_nowhere(void)
{
	header(DESC_NEXT, 1);
	describe(ring(1), NOWHERE, SECTOR, DESC_WRITE | DESC_NEXT, 2);
	describe(ring(2), (u64)&request.status, 1, DESC_WRITE, 0);
}

static void data_wraps(void)
{
	header(DESC_NEXT, 1);
	describe(ring(1), ~0xfful, SECTOR, DESC_WRITE | DESC_NEXT, 2);
	describe(ring(2), (u64)&request.status, 1, DESC_WRITE, 0);
}

static void too_long(void)
{
	header(DESC_NEXT, 1);
	describe(ring(1), (u64)data, ~0u, DESC_WRITE | DESC_NEXT, 2);
	describe(ring(2), (u64)&request.status, 1, DESC_WRITE, 0);
}

static void read_after_write(void)
{
	describe(ring(0), (u64)data, SECTOR, DESC_WRITE | DESC_NEXT, 1);
	describe(ring(1), (u64)&request.header, sizeof(request.header), 0, 0);
}

static void table_nowhere(void)
{
	describe(ring(0), NOWHERE, 64, DESC_INDIRECT, 0);
}

static void table_uneven(void)
{
	describe(ring(0), (u64)table, 20, DESC_INDIRECT, 0);
}

static void table_in_table(void)
{
	describe(ring(0), (u64)table, sizeof(table), DESC_INDIRECT, 0);
	describe(table, (u64)table, sizeof(table), DESC_INDIRECT, 0);
}

static void table_loops(void)
{
	describe(ring(0), (u64)table, sizeof(table), DESC_INDIRECT, 0);
	for (u32 i = 0; i < 4; i++)
		describe(&table[i], (u64)&request.header, 16, DESC_NEXT, (i + 1) & 3);
}

static void index_runs(void)
{
	queues[0].next_avail += SIZE + 1;
	queues[0].avail.index = queues[0].next_avail;
}

static const struct {
	const char *name;
	void (*make)(void);
	int offered; /* it offers by itself */
} faults[] = {
	{ "loop", loop, 0 },
	{ "next-outside", next_outside, 0 },
	{ "head-outside", head_outside, 1 },
	{ "data-nowhere", data_nowhere, 0 },
	{ "data-wraps", data_wraps, 0 },
	{ "too-long", too_long, 0 },
	{ "read-after-write", read_after_write, 0 },
	{ "table-nowhere", table_nowhere, 0 },
	{ "table-uneven", table_uneven, 0 },
	{ "table-in-table", table_in_table, 0 },
	{ "table-loops", table_loops, 0 },
	{ "index-runs", index_runs, 1 },
};

/* `fault=NAME`: one after the other, so that the host hears a warning for each. */
TEST(broken, "virtio-broken-ring")
{
	u32 broken = 0;
	virtio_find(&disk, VIRTIO_BLOCK, 0);
	enum virtio_interrupts by = disk.vectors ? BY_MSIX : BY_PIN;
	for (u32 i = 0; i < sizeof(faults) / sizeof(*faults) && !failing(); i++) {
		if (!disk_start_by(by, VIRTIO_ANY, 1, SIZE))
			return;
		interrupts_on();
		expect("works", disk_do(BLK_IN, 1, data, SECTOR), BLK_OK);
		u16 used = queues[0].used.index;
		faults[i].make();
		if (!faults[i].offered)
			virtqueue_offer(&queues[0], 0);
		virtqueue_force_kick(&queues[0]);
		int told = WAIT(virtio_status(&disk) & VIRTIO_NEEDS_RESET);
		broken += told;
		expect(faults[i].name, told, 1);
		expect("with a change of configuration", WAIT(disk.calls[0] == 1), 1);
		virtqueue_force_kick(&queues[0]);
		linger();
		expect("stands still", queues[0].used.index, used);
		expect("the status keeps the rest", virtio_status(&disk), 15 | VIRTIO_NEEDS_RESET);
		interrupts_off();
		disk_stop();
	}
	print("note broken %u\n", (u64)broken);
	if (disk_start(VIRTIO_ANY, 1, SIZE))
		expect("works again", disk_do(BLK_IN, 9, data, SECTOR), BLK_OK);
	disk_stop();
}

/* Rings that are not in RAM, or not aligned: the device finds out when it starts. */
TEST(misplaced, "virtio-misplaced-rings")
{
	for (u32 part = 0; part < 4 && !failing(); part++) {
		if (!disk_start(VIRTIO_ANY, 1, SIZE))
			return;
		virtio_reset(&disk);
		virtio_negotiate(&disk, VIRTIO_ANY);
		virtqueue_init(&queues[0], SIZE, 1, 1);
		if (part == 0)
			queues[0].table_at = NOWHERE;
		if (part == 1)
			queues[0].avail_at = NOWHERE;
		if (part == 2)
			queues[0].used_at = ~0xful;
		if (part == 3)
			queues[0].table_at += 8;
		disk.transport->set_queue(&disk, 0, &queues[0]);
		disk.transport->set_status(&disk, VIRTIO_LIVE);
		expect("needs a reset", WAIT(virtio_status(&disk) & VIRTIO_NEEDS_RESET), 1);
		disk_stop();
	}
	if (disk_start(VIRTIO_ANY, 1, SIZE))
		expect("works again", disk_do(BLK_IN, 9, data, SECTOR), BLK_OK);
	disk_stop();
}
