/*
 * Bytes by a port as quickly as a slow guest can: nothing is done for a buffer but to move the rings' indexes on, since
 * some KVMs emulate a guest's instructions, a million a second.
 */
#include "console.h"

#define OUT_PIECE 32768 /* what Linux puts out at a time, at most */
#define IN_PIECE 4096	/* what it has for input */
#define PIECES 32

static u8 pieces[PIECES * OUT_PIECE];

/* Every descriptor has its piece, and its place in the avail ring. Nothing of the queue may be on its way. */
static void lay_out(struct virtqueue *queue, u32 length, u16 flags)
{
	for (u32 i = 0; i < queue->size; i++) {
		queue->table[i].address = (u64)&pieces[(i % PIECES) * length];
		queue->table[i].length = length;
		queue->table[i].flags = flags;
		queue->avail.ring[(queue->next_avail + i) & (queue->size - 1)] = i;
	}
}

/* All descriptors are free again. */
static void tidy(struct virtqueue *queue)
{
	queue->next_used = queue->used.index;
	queue->free = 0;
	queue->free_count = queue->size;
	for (u32 i = 0; i < queue->size; i++)
		queue->table[i].next = i + 1;
}

static void offer_more(struct virtqueue *queue, u32 count)
{
	queue->next_avail += count;
	__asm__ volatile("" : : : "memory"); /* the processor keeps stores in order */
	queue->avail.index = queue->next_avail;
	virtqueue_kick(queue);
}

void flood(u32 port, u64 bytes)
{
	struct virtqueue *queue = &queues[receive_queue(port) + 1];
	u64 *words = (u64 *)pieces;
	for (u32 i = 0; i < OUT_PIECE / 8; i++)
		words[i] = i;
	lay_out(queue, OUT_PIECE, 0);
	for (u32 i = 0; i < queue->size; i++)
		queue->table[i].address = (u64)pieces;
	for (u64 left = bytes / OUT_PIECE; left && !failing();) {
		u16 busy = queue->next_avail - queue->used.index;
		u32 count = queue->size - busy;
		if (count > left)
			count = left;
		if (busy > queue->size / 2) {
			pause();
			continue;
		}
		offer_more(queue, count);
		left -= count;
	}
	expect("all is taken", WAIT(queue->used.index == queue->next_avail), 1);
	tidy(queue);
}

u64 drain(u32 port)
{
	struct virtqueue *queue = &queues[receive_queue(port)];
	u32 mask = queue->size - 1;
	u64 total = 0;
	lay_out(queue, IN_PIECE, DESC_WRITE);
	offer_more(queue, queue->size);
	for (;;) {
		int closed = times_closed(port);
		u16 used = queue->used.index;
		u32 count = 0;
		/* chains are used in order: their places in the avail ring are the right ones for the next round */
		for (; queue->next_used != used; queue->next_used++, count++)
			total += queue->used.ring[queue->next_used & mask].length;
		if (count)
			offer_more(queue, count);
		else if (closed)
			return total;
		else
			hear();
	}
}
