/*
 * The disks under test (virtio 1.2, section 5.2). The host has filled each: the first 8 bytes of a
 * sector are its number, the rest is MARK.
 */
#ifndef DISK_H
#define DISK_H
#include "../lib/test.h"
#include "../lib/virtio.h"

#define SECTOR 512
#define MARK 0x5a

enum { BLK_IN = 0, BLK_OUT = 1, BLK_FLUSH = 4, BLK_GET_ID = 8, BLK_DISCARD = 11, BLK_ZEROES = 13 };
enum { BLK_OK = 0, BLK_IOERR = 1, BLK_UNSUPP = 2, BLK_NO_ANSWER = 0xff };
#define BLK_UNMAP 1
#define BLK_F_DISCARD (1ul << 13)
#define BLK_F_WRITE_ZEROES (1ul << 14)

/* Offsets in configuration space. */
#define BLK_CAPACITY 0
#define BLK_SEG_MAX 12
#define BLK_BLK_SIZE 20
#define BLK_WCE 32
#define BLK_NUM_QUEUES 34

struct blk_header {
	u32 type, priority;
	u64 sector;
};
struct blk_range {
	u64 sector;
	u32 count, flags;
};

/* A request in hand: what the device reads and writes of it beside the data. */
struct request {
	struct blk_header header;
	volatile u8 status;
};

extern struct virtio disk;
extern struct virtqueue queues[2];
/* Room for data: 64 sectors. */
extern u8 data[64 * SECTOR];

/* Finds the first disk and starts it, by polling, with `size` entries; tells the test if it fails. */
int disk_start(u64 wanted, u32 count, u32 size);
int disk_start_by(enum virtio_interrupts by, u64 wanted, u32 count, u32 size);
void disk_stop(void);

/* Offers a request for `length` bytes of data at `at`; its head, or -1. */
int disk_offer(struct virtqueue *queue, struct request *request, u32 type, u64 sector,
	       const void *at, u32 length);
/* The same there and back: the status byte. */
u8 disk_do(u32 type, u64 sector, const void *at, u32 length);

/* Whether memory holds what the host put into `count` sectors from `sector` on. */
int as_filled(const u8 *at, u64 sector, u32 count);
/* Writes a number over the start of each 8 bytes; and looks for them. */
void paint(u8 *at, u32 length, u64 value);
int painted(const u8 *at, u32 length, u64 value);

#endif
