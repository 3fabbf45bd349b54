#include "console.h"
#include "../lib/boot.h"

#define ROOMS 4
#define ROOM 64
#define PIECE 32768 /* what Linux puts out at a time, at most */
#define PIECES 30

struct virtio console;
struct virtqueue queues[CONSOLE_QUEUES];

int console_start(u64 wanted, u32 count)
{
	int started = virtio_find(&console, VIRTIO_CONSOLE, argument_number("nth", 0)) &&
		      virtio_start(&console, wanted, queues, count, 32);
	expect("a console starts", started, 1);
	return started;
}

void console_stop(void)
{
	expect("the reset ends", virtio_stop(&console), 1);
}

void say(u32 port, const void *at, u32 length)
{
	struct buffer out = { at, length };
	expect("said", virtqueue_exchange(&queues[receive_queue(port) + 1], &out, 1, 0, 0), 0);
}

void echo(u32 port, u32 bytes)
{
	static u8 rooms[ROOMS][ROOM];
	static u32 room_of[QUEUE_MOST];
	struct virtqueue *in = &queues[receive_queue(port)];
	for (u32 i = 0; i < ROOMS; i++) {
		struct buffer room = { rooms[i], ROOM };
		room_of[virtqueue_add(in, 0, 0, &room, 1)] = i;
	}
	virtqueue_kick(in);
	for (u32 done = 0; done < bytes && !failing();) {
		u32 length = 0;
		int head = virtqueue_wait(in, &length);
		expect("input", head >= 0, 1);
		if (head < 0)
			return;
		u32 i = room_of[head];
		say(port, rooms[i], length);
		done += length;
		struct buffer room = { rooms[i], ROOM };
		room_of[virtqueue_add(in, 0, 0, &room, 1)] = i;
		virtqueue_kick(in);
	}
}

void pour(u32 port, u32 bytes, int wait)
{
	static u64 piece[PIECE / 8];
	struct virtqueue *out = &queues[receive_queue(port) + 1];
	u32 pending = 0;
	for (u32 i = 0; i < PIECE / 8; i += 2) {
		piece[i] = 0x3736353433323130; /* "01234567" */
		piece[i + 1] = 0x6665646362613938;
	}
	for (u32 left = bytes; left && !failing();) {
		struct buffer buffer = { piece, left < PIECE ? left : PIECE };
		if (pending == PIECES) {
			expect("taken", virtqueue_wait(out, 0) >= 0, 1);
			pending--;
		}
		virtqueue_add(out, &buffer, 1, 0, 0);
		virtqueue_kick(out);
		pending++;
		left -= buffer.length;
	}
	for (; wait && pending && !failing(); pending--)
		expect("taken", virtqueue_wait(out, 0) >= 0, 1);
}
