/* The driver's half of a split virtqueue (virtio 1.2, section 2.7). */
#ifndef VIRTQUEUE_H
#define VIRTQUEUE_H
#include "io.h"

#define QUEUE_MOST 256
/* Entries of an indirect table; a longer chain goes without. */
#define TABLE_MOST 8

#define DESC_NEXT 1
#define DESC_WRITE 2
#define DESC_INDIRECT 4

struct descriptor {
	u64 address;
	u32 length;
	u16 flags, next;
};

struct virtqueue {
	struct descriptor table[QUEUE_MOST] __attribute__((aligned(16)));
	struct descriptor indirect_tables[QUEUE_MOST][TABLE_MOST];
	struct {
		volatile u16 flags, index, ring[QUEUE_MOST + 1]; /* used_event behind the last */
	} avail;
	struct {
		volatile u16 flags, index;
		volatile struct {
			u32 id, length;
		} ring[QUEUE_MOST];
		volatile u16 avail_event[2]; /* for a queue of QUEUE_MOST */
	} used __attribute__((aligned(4)));
	u32 size;
	int indirect, event_index;
	/* Where the device is told that the three parts are. */
	u64 table_at, avail_at, used_at;
	/* Where a kick goes, and what is written there: 2 bytes for PCI, 4 for mmio. */
	u64 notify;
	u32 number, notify_bytes;
	/* Free descriptors, linked by `next`; and how far the driver has come. */
	u16 free, free_count, next_avail, kicked, next_used;
};

/* A piece of guest memory. */
struct buffer {
	const void *at;
	u32 length;
};

/* Empty, of `size` entries. */
void virtqueue_init(struct virtqueue *queue, u32 size, int indirect, int event_index);

/*
 * Offers a chain: `outs` buffers for the device to read, then `ins` for it to write. Its head, or
 * -1 when there is no room.
 */
int virtqueue_add(struct virtqueue *queue, const struct buffer *out, u32 outs,
		  const struct buffer *in, u32 ins);
/* Puts a descriptor into the avail ring, whatever it says: for chains made by hand. */
void virtqueue_offer(struct virtqueue *queue, u16 head);
/* Kicks, if the device asks for it; whether it did. And whether it does or not. */
int virtqueue_kick(struct virtqueue *queue);
void virtqueue_force_kick(struct virtqueue *queue);
/* The head of the next used chain, or -1; how many bytes the device says it wrote. */
int virtqueue_take(struct virtqueue *queue, u32 *written);
/* The same, waiting for it. */
int virtqueue_wait(struct virtqueue *queue, u32 *written);
/* Asks for an interrupt at the next used chain, or for none. 0: there is one already. */
int virtqueue_want_call(struct virtqueue *queue);
void virtqueue_want_no_call(struct virtqueue *queue);

/* One chain there and back: what the device wrote, or -1 when it did not answer. */
long virtqueue_exchange(struct virtqueue *queue, const struct buffer *out, u32 outs,
			const struct buffer *in, u32 ins);

/* Orders a store before a later load. The emulator of some KVMs has no mfence. */
static inline void full_fence(void)
{
	__asm__ volatile("lock addl $0, (%%rsp)" : : : "memory", "cc");
}

#endif
