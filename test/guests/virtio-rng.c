/* The entropy device (virtio 1.2, section 5.4). */
#include "lib/boot.h"
#include "lib/test.h"
#include "lib/virtio.h"

#define BUFFERS 32
#define LENGTH 128

static struct virtio rng;
static struct virtqueue queue;
static u8 rooms[BUFFERS][LENGTH];

static int start(void)
{
	int started = virtio_find(&rng, VIRTIO_RNG, 0) && virtio_start(&rng, VIRTIO_ANY, &queue, 1, 64);
	expect("it starts", started, 1);
	return started;
}

static int alike(const u8 *one, const u8 *other)
{
	for (u32 i = 0; i < LENGTH; i++)
		if (one[i] != other[i])
			return 0;
	return 1;
}

/* How many of the 256 values there are among `length` bytes. */
static u32 values(const u8 *at, u32 length)
{
	static u8 seen[256];
	u32 count = 0;
	for (u32 i = 0; i < 256; i++)
		seen[i] = 0;
	for (u32 i = 0; i < length; i++) {
		count += !seen[at[i]];
		seen[at[i]] = 1;
	}
	return count;
}

/* Two requests bring other bytes, and random ones: 128 of them have about 100 values. */
TEST(fills, "rng-fills")
{
	if (!start())
		return;
	for (u32 i = 0; i < 2; i++) {
		struct buffer in = { rooms[i], LENGTH };
		expect("written", virtqueue_exchange(&queue, 0, 0, &in, 1), LENGTH);
		expect("many values", values(rooms[i], LENGTH) > 60, 1);
	}
	expect("both alike", alike(rooms[0], rooms[1]), 0);
	virtio_stop(&rng);
}

/* Many at once come back filled, each with bytes of its own. */
TEST(many, "rng-many")
{
	if (!start())
		return;
	for (u32 i = 0; i < BUFFERS; i++) {
		struct buffer in = { rooms[i], LENGTH };
		virtqueue_add(&queue, 0, 0, &in, 1);
	}
	virtqueue_kick(&queue);
	for (u32 i = 0; i < BUFFERS; i++) {
		u32 written = 0;
		expect("back", virtqueue_wait(&queue, &written) >= 0, 1);
		expect("written", written, LENGTH);
	}
	for (u32 i = 1; i < BUFFERS; i++)
		expect("alike", alike(rooms[i - 1], rooms[i]), 0);
	virtio_stop(&rng);
}

/* The source is a file of `bytes` bytes that count up; behind its end there are none. */
TEST(ends, "rng-ends")
{
	if (!start())
		return;
	u32 bytes = argument_number("bytes", 0), length = 0;
	for (u32 turn = 0; turn < 4; turn++) {
		struct buffer in = { rooms[turn], LENGTH };
		u32 left = bytes - length;
		u32 written = virtqueue_exchange(&queue, 0, 0, &in, 1);
		expect("written", written, left < LENGTH ? left : LENGTH);
		for (u32 i = 0; i < written; i++)
			expect("the file's byte", rooms[turn][i], (u8)length++);
	}
	expect("all of it", length, bytes);
	virtio_stop(&rng);
}
