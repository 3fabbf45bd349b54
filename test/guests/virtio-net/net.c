#include "net.h"

struct virtio net;
struct virtqueue net_queues[NET_QUEUES];
const u8 own_mac[6] = { 2, 1, 2, 3, 4, 5 };

static u8 rooms[BUFFERS][ROOM] __attribute__((aligned(16)));
/* Which of them is behind the head of a chain. */
static u16 behind[QUEUE_MOST];
static u32 room_length;
/* A frame that came in several buffers, in one piece. */
static u8 whole[2 * ROOM];

static void copy(u8 *to, const u8 *from, u32 length)
{
	for (u32 i = 0; i < length; i++)
		to[i] = from[i];
}

static void post(u32 room)
{
	struct buffer in = { rooms[room], room_length };
	int head = virtqueue_add(&net_queues[RECEIVE], 0, 0, &in, 1);
	expect("room in the ring", head >= 0, 1);
	behind[head] = room;
}

int net_start(enum virtio_interrupts by, u64 wanted, u32 room)
{
	int found = virtio_find(&net, VIRTIO_NET, 0);
	expect("an interface is there", found, 1);
	if (!found)
		return 0;
	net.by = by;
	int started = virtio_start(&net, wanted, net_queues, NET_QUEUES, 64);
	expect("it starts", started, 1);
	if (!started)
		return 0;
	room_length = room;
	for (u32 i = 0; i < BUFFERS; i++)
		post(i);
	virtqueue_kick(&net_queues[RECEIVE]);
	return 1;
}

void net_stop(void)
{
	expect("the reset ends", virtio_stop(&net), 1);
}

long net_command(u8 kind, u8 command, const void *data, u32 length)
{
	static u8 head[2], ack;
	head[0] = kind;
	head[1] = command;
	ack = 0xee;
	struct buffer out[2] = { { head, 2 }, { data, length } }, in = { &ack, 1 };
	u32 outs = length ? 2 : 1;
	long written = virtqueue_exchange(&net_queues[CONTROL], out, outs, &in, 1);
	return written == 1 ? ack : -1;
}

/* The next used chain of the receive queue. */
static int next(u32 *written)
{
	struct virtqueue *queue = &net_queues[RECEIVE];
	if (net.by == BY_POLLING)
		return virtqueue_wait(queue, written);
	u32 before = net.calls[1 + RECEIVE];
	if (virtqueue_want_call(queue))
		expect("a call", WAIT(net.calls[1 + RECEIVE] != before), 1);
	return virtqueue_take(queue, written);
}

int net_receive(struct ether_frame *frame)
{
	u32 written;
	int head = next(&written);
	expect("a frame", head >= 0, 1);
	if (head < 0)
		return 0;
	u8 *at = rooms[behind[head]];
	u32 count = at[10] | at[11] << 8;
	expect("buffers", count > 0 && count <= BUFFERS, 1);
	frame->rooms[0] = behind[head];
	frame->buffers = 1;
	frame->at = at + HEADER;
	frame->length = written - HEADER;
	if (count == 1)
		return 1;
	copy(whole, at, written);
	for (; frame->buffers < count && !failing(); frame->buffers++) {
		u32 more;
		expect("full to its end", written % room_length, 0);
		/* they are there when the first is (section 5.1.6.4) */
		head = virtqueue_take(&net_queues[RECEIVE], &more);
		expect("the next buffer", head >= 0, 1);
		if (head < 0)
			return 0;
		frame->rooms[frame->buffers] = behind[head];
		copy(whole + written, rooms[behind[head]], more);
		written += more;
	}
	frame->at = whole + HEADER;
	frame->length = written - HEADER;
	return 1;
}

void net_give(struct ether_frame *frame)
{
	for (u32 i = 0; i < frame->buffers; i++)
		post(frame->rooms[i]);
	virtqueue_kick(&net_queues[RECEIVE]);
}

void net_send(const void *at, u32 length)
{
	static const u8 header[HEADER];
	struct buffer out[2] = { { header, HEADER }, { at, length } };
	expect("it is gone", virtqueue_exchange(&net_queues[TRANSMIT], out, 2, 0, 0), 0);
}

#define END "end"

u32 station(void)
{
	struct ether_frame frame;
	u32 count = 0;
	for (int end = 0; !end && !failing();) {
		if (!net_receive(&frame))
			break;
		u8 *at = frame.at;
		if (is(at + 12, 0x0806) && is(at + 20, 1)) {
			/* who has 10.0.0.2? The answer goes back to who asked. */
			at[21] = 2;
			exchange(at + 22, at + 32, 10);
			copy(at + 22, own_mac, 6);
			copy(at, at + 32, 6);
			copy(at + 6, own_mac, 6);
			net_send(at, frame.length);
		} else if (is(at + 12, 0x0800) && at[23] == 17 && is(at + 36, 7)) {
			/* the sums of the checksums are those of the same words in another order */
			end = at[42] == END[0] && at[43] == END[1] && at[44] == END[2];
			exchange(at, at + 6, 6);
			exchange(at + 26, at + 30, 4);
			exchange(at + 34, at + 36, 2);
			net_send(at, frame.length);
			count++;
		}
		net_give(&frame);
	}
	return count;
}
