/* Two pairs of queues, each perhaps on a thread of its own: frames on both, the switch, and resets meanwhile. */
#include "net.h"
#include "../lib/boot.h"

#define NET_F_MQ (1ul << 22)
#define CTRL_MQ 4
#define PAIRS 2
#define QUEUES (2 * PAIRS + 1)
#define POSTED 16
#define SIZE 64
#define PROMPT 32

static struct virtqueue queues[QUEUES];
static u8 rooms[PAIRS][POSTED][ROOM] __attribute__((aligned(16)));
static u16 behind[PAIRS][SIZE];
/* Frames that came on each pair. */
static u32 came[PAIRS];

static void post(u32 pair, u32 room)
{
	struct buffer in = { rooms[pair][room], ROOM };
	int head = virtqueue_add(&queues[2 * pair], 0, 0, &in, 1);
	expect("room in the ring", head >= 0, 1);
	if (head >= 0)
		behind[pair][head] = room;
}

static u8 use_pairs(u16 count)
{
	static u8 head[2] = { CTRL_MQ, 0 }, ack;
	static u16 number;
	struct buffer out[2] = { { head, 2 }, { &number, 2 } }, in = { &ack, 1 };
	number = count;
	ack = 0xee;
	virtqueue_exchange(&queues[2 * PAIRS], out, 2, &in, 1);
	return ack;
}

static int start(void)
{
	int found = virtio_find(&net, VIRTIO_NET, 0);
	expect("an interface is there", found, 1);
	if (!found)
		return 0;
	net.by = BY_POLLING;
	int started = virtio_start(&net, NET_PLAIN | NET_F_MQ, queues, QUEUES, SIZE);
	expect("it starts", started, 1);
	if (!started)
		return 0;
	for (u32 pair = 0; pair < PAIRS; pair++) {
		for (u32 i = 0; i < POSTED; i++)
			post(pair, i);
		virtqueue_kick(&queues[2 * pair]);
	}
	return 1;
}

static void send(u32 pair, u8 *at, u32 length)
{
	static const u8 header[HEADER];
	struct buffer out[2] = { { header, HEADER }, { at, length } };
	expect("it is gone", virtqueue_exchange(&queues[2 * pair + 1], out, 2, 0, 0), 0);
}

/*
 * Answers a frame; whether it was the last. A datagram that begins with "B" goes back by the second of `pairs`, others
 * by the first: the kernel then steers the rest of its flow to that pair.
 */
static int answer(u8 *at, u32 length, u32 pairs)
{
	if (is(at + 12, 0x0806) && is(at + 20, 1)) {
		at[21] = 2;
		exchange(at + 22, at + 32, 10);
		for (u32 i = 0; i < 6; i++)
			at[22 + i] = own_mac[i];
		for (u32 i = 0; i < 6; i++)
			at[i] = at[32 + i];
		for (u32 i = 0; i < 6; i++)
			at[6 + i] = own_mac[i];
		send(0, at, length);
	} else if (is(at + 12, 0x0800) && at[23] == 17 && is(at + 36, 7)) {
		int end = at[42] == 'e';
		exchange(at, at + 6, 6);
		exchange(at + 26, at + 30, 4);
		exchange(at + 34, at + 36, 2);
		send(at[42] == 'B' && pairs > 1, at, length);
		return end;
	}
	return 0;
}

/* Takes a frame from either pair, if there is one; whether it was the last. */
static int turn(u32 pairs)
{
	for (u32 pair = 0; pair < PAIRS; pair++) {
		u32 written;
		int head = virtqueue_take(&queues[2 * pair], &written);
		if (head < 0)
			continue;
		u32 room = behind[pair][head];
		came[pair]++;
		int end = answer(rooms[pair][room] + HEADER, written - HEADER, pairs);
		post(pair, room);
		virtqueue_force_kick(&queues[2 * pair]);
		if (end)
			return 1;
	}
	return 0;
}

static void serve(u32 pairs)
{
	came[0] = came[1] = 0;
	expect("the last datagram", WAIT(turn(pairs) || failing()), 1);
}

TEST(pairs, "net-pairs")
{
	if (!start())
		return;
	expect("two pairs", use_pairs(2), 0);
	expect("more than there are", use_pairs(3), 1);
	print("note ready 1\n");
	serve(2);
	print("note first-both %u\n", (u64)came[1]);
	for (u32 i = 0; i < PROMPT; i++) {
		expect("one pair", use_pairs(1), 0);
		if (i + 1 < PROMPT)
			expect("two again", use_pairs(2), 0);
	}
	u16 used = queues[2].used.index;
	while (virtqueue_take(&queues[2], 0) >= 0)
		used = queues[2].used.index;
	print("note one 1\n");
	serve(1);
	expect("nothing comes on the other", queues[2].used.index, used);
	print("note second-both %u\n", (u64)came[1]);
	expect("two pairs", use_pairs(2), 0);
	print("note two 1\n");
	serve(2);
	print("note third-both %u\n", (u64)came[1]);
	net_stop();
}

/* The status is 0 when every thread has let go, in the midst of frames on both pairs. */
TEST(pairs_reset, "net-pairs-reset")
{
	u32 both = 0;
	print("note flood 1\n");
	for (u32 round = 0; round < 16 && !failing(); round++) {
		if (!start())
			return;
		expect("two pairs", use_pairs(2), 0);
		came[0] = came[1] = 0;
		expect("frames come", WAIT(turn(2) || came[0] > round), 1);
		if (round >= 8)
			expect("frames come on both", WAIT(turn(2) || came[1]), 1);
		both += came[1];
		net_stop();
		u16 used[PAIRS] = { queues[0].used.index, queues[2].used.index };
		linger();
		expect("nothing moves", queues[0].used.index, used[0]);
		expect("nothing moves on the other", queues[2].used.index, used[1]);
	}
	print("note resets %u\n", (u64)both);
	if (!start())
		return;
	expect("two pairs", use_pairs(2), 0);
	print("note ready 1\n");
	serve(2);
	print("note first-both %u\n", (u64)came[1]);
	net_stop();
}
