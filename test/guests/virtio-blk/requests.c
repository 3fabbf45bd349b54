/* What a disk does: each request type, in one piece and in many. */
#include "disk.h"
#include "../lib/boot.h"

TEST(identity, "blk-identity")
{
	if (!disk_start(VIRTIO_ANY, 1, 16))
		return;
	static u8 id[24];
	expect("capacity", read32(disk.config + BLK_CAPACITY), argument_number("sectors", 0));
	expect("capacity, high half", read32(disk.config + BLK_CAPACITY + 4), 0);
	expect("logical block", read32(disk.config + BLK_BLK_SIZE), SECTOR);
	expect("queues", read16(disk.config + BLK_NUM_QUEUES), argument_number("queues", 1));
	expect("GET_ID", disk_do(BLK_GET_ID, 0, id, 20), BLK_OK);
	expect("the id", same((char *)id, "guest-disk"), 1);
	disk_stop();
}

TEST(reads, "blk-read")
{
	if (!disk_start(VIRTIO_ANY, 1, 16))
		return;
	u64 last = argument_number("sectors", 0) - 1;
	expect("one sector", disk_do(BLK_IN, 5, data, SECTOR), BLK_OK);
	expect("is that one", as_filled(data, 5, 1), 1);
	expect("64 sectors", disk_do(BLK_IN, 100, data, sizeof(data)), BLK_OK);
	expect("are those", as_filled(data, 100, 64), 1);
	expect("the last sector", disk_do(BLK_IN, last, data, SECTOR), BLK_OK);
	expect("is the last", as_filled(data, last, 1), 1);
	expect("behind it", disk_do(BLK_IN, last + 1, data, SECTOR), BLK_IOERR);
	expect("across the end", disk_do(BLK_IN, last, data, 2 * SECTOR), BLK_IOERR);
	expect("far away", disk_do(BLK_IN, ~0ul, data, SECTOR), BLK_IOERR);
	expect("no sector's length", disk_do(BLK_IN, 0, data, 100), BLK_IOERR);
	expect("another type", disk_do(99, 0, data, SECTOR), BLK_UNSUPP);
	disk_stop();
}

/* Data and header in pieces that end anywhere; the device says how much it wrote. */
TEST(pieces, "blk-pieces")
{
	if (!disk_start(VIRTIO_ANY, 1, 16))
		return;
	static struct request request;
	u8 *header = (u8 *)&request.header;
	struct buffer out[] = { { header, 3 }, { header + 3, 13 } };
	struct buffer in[] = { { data, 100 },
			       { data + 2048, 411 },
			       { data + 4096, 513 },
			       { (void *)&request.status, 1 } };
	request.header = (struct blk_header){ BLK_IN, 0, 7 };
	request.status = BLK_NO_ANSWER;
	long written = virtqueue_exchange(&queues[0], out, 2, in, 4);
	expect("written", written, 1025);
	expect("status", request.status, BLK_OK);
	expect("the first piece", *(u64 *)data, 7);
	expect("the second", data[2048 + 410], MARK);
	expect("the third begins within a sector", data[4096], MARK);
	expect("and holds the next one's start", *(u64 *)(data + 4096 + 1), 8);
	disk_stop();
}

/* More entries than an indirect table of this driver: a chain of as many descriptors as there are. */
TEST(long_chain, "blk-long-chain")
{
	if (!disk_start(VIRTIO_ANY, 1, 64))
		return;
	static struct request request;
	static struct buffer in[63];
	struct buffer out = { &request.header, sizeof(request.header) };
	for (u32 i = 0; i < 62; i++)
		in[i] = (struct buffer){ data + i * SECTOR, SECTOR };
	in[62] = (struct buffer){ (void *)&request.status, 1 };
	request.header = (struct blk_header){ BLK_IN, 0, 200 };
	long written = virtqueue_exchange(&queues[0], &out, 1, in, 63);
	expect("written", written, 62 * SECTOR + 1);
	expect("as filled", as_filled(data, 200, 62), 1);
	disk_stop();
}

/* The host looks into the file afterwards. */
TEST(writes, "blk-write")
{
	if (!disk_start(VIRTIO_ANY, 1, 16))
		return;
	paint(data, 4096, 0x1111);
	expect("write", disk_do(BLK_OUT, 1000, data, 4096), BLK_OK);
	expect("flush", disk_do(BLK_FLUSH, 0, 0, 0), BLK_OK);
	paint(data, 4096, 0);
	expect("read", disk_do(BLK_IN, 999, data, 10 * SECTOR), BLK_OK);
	expect("the sector before", as_filled(data, 999, 1), 1);
	expect("what was written", painted(data + SECTOR, 4096, 0x1111), 1);
	expect("the sector behind", as_filled(data + 9 * SECTOR, 1008, 1), 1);
	expect("behind the end", disk_do(BLK_OUT, argument_number("sectors", 0), data, 512), BLK_IOERR);
	disk_stop();
}

static u8 clear(u32 type, u64 sector, u32 count, u32 flags)
{
	static struct blk_range range;
	range = (struct blk_range){ sector, count, flags };
	return disk_do(type, 0, &range, sizeof(range));
}

TEST(zeroes, "blk-zeroes")
{
	if (!disk_start(VIRTIO_ANY, 1, 16))
		return;
	expect("offered", (disk.features & BLK_F_WRITE_ZEROES) != 0, 1);
	expect("write zeroes", clear(BLK_ZEROES, 1100, 3, 0), BLK_OK);
	expect("and give room back", clear(BLK_ZEROES, 1104, 8, BLK_UNMAP), BLK_OK);
	expect("read", disk_do(BLK_IN, 1099, data, 14 * SECTOR), BLK_OK);
	expect("before", as_filled(data, 1099, 1), 1);
	expect("zeroes", painted(data + SECTOR, 3 * SECTOR, 0), 1);
	expect("between", as_filled(data + 4 * SECTOR, 1103, 1), 1);
	expect("zeroes again", painted(data + 5 * SECTOR, 8 * SECTOR, 0), 1);
	expect("behind", as_filled(data + 13 * SECTOR, 1112, 1), 1);
	expect("an unknown flag", clear(BLK_ZEROES, 1100, 1, 2), BLK_UNSUPP);
	expect("behind the end", clear(BLK_ZEROES, argument_number("sectors", 0), 1, 0), BLK_IOERR);
	disk_stop();
}

TEST(discard, "blk-discard")
{
	if (!disk_start(VIRTIO_ANY, 1, 16))
		return;
	expect("offered", (disk.features & BLK_F_DISCARD) != 0, 1);
	expect("discard", clear(BLK_DISCARD, 1200, 16, 0), BLK_OK);
	expect("a flag, which it does not take", clear(BLK_DISCARD, 1200, 16, BLK_UNMAP), BLK_UNSUPP);
	expect("read", disk_do(BLK_IN, 1199, data, 18 * SECTOR), BLK_OK);
	expect("before", as_filled(data, 1199, 1), 1);
	expect("a hole", painted(data + SECTOR, 16 * SECTOR, 0), 1);
	expect("behind", as_filled(data + 17 * SECTOR, 1216, 1), 1);
	disk_stop();
}
