#include "disk.h"

struct virtio disk;
struct virtqueue queues[2];
u8 data[64 * SECTOR] __attribute__((aligned(4096)));

int disk_start_by(enum virtio_interrupts by, u64 wanted, u32 count, u32 size)
{
	int found = virtio_find(&disk, VIRTIO_BLOCK, 0);
	expect("a disk is there", found, 1);
	if (!found)
		return 0;
	disk.by = by;
	int started = virtio_start(&disk, wanted, queues, count, size);
	expect("it starts", started, 1);
	return started;
}

int disk_start(u64 wanted, u32 count, u32 size)
{
	return disk_start_by(BY_POLLING, wanted, count, size);
}

void disk_stop(void)
{
	expect("the reset ends", virtio_stop(&disk), 1);
}

int disk_offer(struct virtqueue *queue, struct request *request, u32 type, u64 sector,
	       const void *at, u32 length)
{
	request->header = (struct blk_header){ type, 0, sector };
	request->status = BLK_NO_ANSWER;
	int reads = type == BLK_IN || type == BLK_GET_ID;
	struct buffer out[2] = { { &request->header, sizeof(request->header) }, { at, length } };
	struct buffer in[2] = { { at, length }, { (void *)&request->status, 1 } };
	if (!length)
		return virtqueue_add(queue, out, 1, in + 1, 1);
	return reads ? virtqueue_add(queue, out, 1, in, 2)
		     : virtqueue_add(queue, out, 2, in + 1, 1);
}

u8 disk_do(u32 type, u64 sector, const void *at, u32 length)
{
	static struct request request;
	if (disk_offer(&queues[0], &request, type, sector, at, length) < 0)
		return BLK_NO_ANSWER;
	virtqueue_kick(&queues[0]);
	virtqueue_wait(&queues[0], 0);
	return request.status;
}

int as_filled(const u8 *at, u64 sector, u32 count)
{
	for (u32 i = 0; i < count; i++, at += SECTOR)
		if (*(const u64 *)at != sector + i || at[8] != MARK || at[SECTOR - 1] != MARK)
			return 0;
	return 1;
}

void paint(u8 *at, u32 length, u64 value)
{
	for (u32 i = 0; i < length / 8; i++)
		((u64 *)at)[i] = value;
}

int painted(const u8 *at, u32 length, u64 value)
{
	for (u32 i = 0; i < length / 8; i++)
		if (((const u64 *)at)[i] != value)
			return 0;
	return 1;
}
