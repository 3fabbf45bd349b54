#include "virtqueue.h"
#include "wait.h"

#define NO_NOTIFY 1
#define NO_INTERRUPT 1
#define NONE 0xffff

static volatile u16 *used_event(struct virtqueue *queue)
{
	return &queue->avail.ring[queue->size];
}

static volatile u16 *avail_event(struct virtqueue *queue)
{
	return (volatile u16 *)&queue->used.ring[queue->size];
}

void virtqueue_init(struct virtqueue *queue, u32 size, int indirect, int event_index)
{
	queue->size = size;
	queue->indirect = indirect;
	queue->event_index = event_index;
	queue->table_at = (u64)queue->table;
	queue->avail_at = (u64)&queue->avail;
	queue->used_at = (u64)&queue->used;
	for (u32 i = 0; i < size; i++)
		queue->table[i].next = i + 1 < size ? i + 1 : NONE;
	queue->free = 0;
	queue->free_count = size;
	queue->next_avail = queue->kicked = queue->next_used = 0;
	queue->avail.flags = queue->avail.index = 0;
	queue->used.flags = queue->used.index = 0;
	*used_event(queue) = 0;
	*avail_event(queue) = 0;
	virtqueue_want_no_call(queue);
}

static void fill(struct descriptor *descriptor, const struct buffer *buffer, u16 flags)
{
	descriptor->address = (u64)buffer->at;
	descriptor->length = buffer->length;
	descriptor->flags = flags;
}

static int add_indirect(struct virtqueue *queue, const struct buffer *out, u32 outs,
			const struct buffer *in, u32 ins)
{
	u16 head = queue->free;
	struct descriptor *table = queue->indirect_tables[head];
	u32 count = outs + ins;
	for (u32 i = 0; i < count; i++) {
		u16 flags = (i < outs ? 0 : DESC_WRITE) | (i + 1 < count ? DESC_NEXT : 0);
		fill(&table[i], i < outs ? &out[i] : &in[i - outs], flags);
		table[i].next = i + 1;
	}
	struct buffer whole = { table, count * sizeof(*table) };
	queue->free = queue->table[head].next;
	queue->free_count--;
	fill(&queue->table[head], &whole, DESC_INDIRECT);
	virtqueue_offer(queue, head);
	return head;
}

int virtqueue_add(struct virtqueue *queue, const struct buffer *out, u32 outs,
		  const struct buffer *in, u32 ins)
{
	u32 count = outs + ins;
	if (queue->indirect && count > 1 && count <= TABLE_MOST && queue->free_count)
		return add_indirect(queue, out, outs, in, ins);
	if (count == 0 || count > queue->free_count)
		return -1;
	u16 head = queue->free, at = head;
	for (u32 i = 0; i < count; i++) {
		u16 flags = (i < outs ? 0 : DESC_WRITE) | (i + 1 < count ? DESC_NEXT : 0);
		fill(&queue->table[at], i < outs ? &out[i] : &in[i - outs], flags);
		at = queue->table[at].next;
	}
	queue->free = at;
	queue->free_count -= count;
	virtqueue_offer(queue, head);
	return head;
}

void virtqueue_offer(struct virtqueue *queue, u16 head)
{
	queue->avail.ring[queue->next_avail & (queue->size - 1)] = head;
	queue->next_avail++;
	__asm__ volatile("" : : : "memory"); /* the processor keeps stores in order */
	queue->avail.index = queue->next_avail;
}

void virtqueue_force_kick(struct virtqueue *queue)
{
	queue->kicked = queue->next_avail;
	if (queue->notify_bytes == 4)
		write32(queue->notify, queue->number);
	else
		write16(queue->notify, queue->number);
}

int virtqueue_kick(struct virtqueue *queue)
{
	full_fence();
	u16 fresh = queue->next_avail - queue->kicked;
	int wanted = queue->event_index
			     ? (u16)(queue->next_avail - *avail_event(queue) - 1) < fresh
			     : !(queue->used.flags & NO_NOTIFY);
	queue->kicked = queue->next_avail;
	if (wanted)
		virtqueue_force_kick(queue);
	return wanted;
}

int virtqueue_take(struct virtqueue *queue, u32 *written)
{
	if (queue->used.index == queue->next_used)
		return -1;
	u32 at = queue->next_used & (queue->size - 1);
	u16 head = queue->used.ring[at].id;
	if (written)
		*written = queue->used.ring[at].length;
	queue->next_used++;
	if (head >= queue->size)
		return -1;
	u16 last = head;
	queue->free_count++;
	while (queue->table[last].flags & DESC_NEXT) {
		last = queue->table[last].next;
		queue->free_count++;
	}
	queue->table[last].next = queue->free;
	queue->free = head;
	return head;
}

int virtqueue_wait(struct virtqueue *queue, u32 *written)
{
	if (!WAIT(queue->used.index != queue->next_used))
		return -1;
	return virtqueue_take(queue, written);
}

int virtqueue_want_call(struct virtqueue *queue)
{
	queue->avail.flags = 0;
	*used_event(queue) = queue->next_used;
	full_fence();
	return queue->used.index == queue->next_used;
}

void virtqueue_want_no_call(struct virtqueue *queue)
{
	if (queue->event_index)
		*used_event(queue) = queue->next_used - 1;
	else
		queue->avail.flags = NO_INTERRUPT;
}

long virtqueue_exchange(struct virtqueue *queue, const struct buffer *out, u32 outs,
			const struct buffer *in, u32 ins)
{
	u32 written = 0;
	if (virtqueue_add(queue, out, outs, in, ins) < 0)
		return -1;
	virtqueue_kick(queue);
	return virtqueue_wait(queue, &written) < 0 ? -1 : (long)written;
}
