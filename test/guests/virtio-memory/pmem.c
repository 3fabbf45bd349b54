/* Persistent memory (virtio 1.2, section 5.19): its place, its bytes, and that flushes reach the host. */
#include "../lib/test.h"
#include "../lib/virtio.h"

#define VIRTIO_PMEM 27
#define START 0
#define SIZE 8
#define FLUSH 0
#define SECTOR 512

static struct virtio pmem;
static struct virtqueue queue;
static struct {
	u32 type;
	volatile u32 ret;
} request;

static u64 config64(u32 offset)
{
	return read32(pmem.config + offset) | (u64)read32(pmem.config + offset + 4) << 32;
}

static int start(void)
{
	int there = virtio_find(&pmem, VIRTIO_PMEM, 0) &&
		    virtio_start(&pmem, VIRTIO_ANY, &queue, 1, 16);
	expect("persistent memory is there, and starts", there, 1);
	return there;
}

static u32 ask(u32 type)
{
	request.type = type;
	request.ret = 0x77;
	struct buffer out = { &request.type, 4 }, in = { (void *)&request.ret, 4 };
	expect("bytes of the answer", virtqueue_exchange(&queue, &out, 1, &in, 1), 4);
	return request.ret;
}

/* Not in the memory map that the loader handed over. */
static int told_of(u64 address)
{
	const struct memory_range *ranges = (const void *)start_info->memmap_paddr;
	for (u32 i = 0; i < start_info->memmap_entries; i++)
		if (address >= ranges[i].start && address - ranges[i].start < ranges[i].length)
			return 1;
	return 0;
}

/* The first bytes are "from the host", the last ones become "from the guest". */
TEST(memory, "pmem-memory")
{
	if (!start())
		return;
	u64 at = config64(START), size = config64(SIZE);
	expect("size", size, argument_number("size", 0));
	expect("on a whole 2 MiB", at & 0x1fffff, 0);
	expect("told of as memory", told_of(at), 0);
	const char *first = (const char *)map_window(at);
	expect("first byte", first[0], 'f');
	expect("sixth byte", first[5], 't');
	u8 *last = map_window(at + size - 14);
	for (u32 i = 0; i < 14; i++)
		last[i] = "from the guest"[i];
	expect("a flush", ask(FLUSH), 0);
	virtio_stop(&pmem);
}

TEST(refuses, "pmem-refuses")
{
	if (!start())
		return;
	expect("a request that is none", ask(5), ~0u);
	expect("a flush behind it", ask(FLUSH), 0);
	expect("status", virtio_status(&pmem), VIRTIO_LIVE);
	virtio_stop(&pmem);
}

/* A disk reads into it, without its bytes ever being in RAM. */
TEST(dma, "pmem-dma")
{
	static struct virtio disk;
	static struct virtqueue requests;
	static struct {
		u32 type, priority;
		u64 sector;
	} header = { 0, 0, 1 };
	static volatile u8 status = 0xff;
	if (!start())
		return;
	u64 at = config64(START) + 0x3000;
	int there = virtio_find(&disk, VIRTIO_BLOCK, 0) &&
		    virtio_start(&disk, VIRTIO_ANY, &requests, 1, 16);
	expect("a disk is there, and starts", there, 1);
	struct buffer out = { &header, sizeof(header) };
	struct buffer in[] = { { (void *)at, SECTOR }, { (void *)&status, 1 } };
	expect("bytes written", virtqueue_exchange(&requests, &out, 1, in, 2), SECTOR + 1);
	expect("status", status, 0);
	const char *read = (const char *)map_window(at);
	expect("first byte", read[0], 's');
	expect("last byte", read[SECTOR - 1], 'r');
	virtio_stop(&disk);
	virtio_stop(&pmem);
}

/* Rings may not lie in it. */
TEST(rings, "pmem-no-rings")
{
	if (!start())
		return;
	expect("reset", virtio_reset(&pmem), 1);
	expect("features", virtio_negotiate(&pmem, VIRTIO_ANY), 1);
	virtqueue_init(&queue, 16, 0, 0);
	queue.number = 0;
	queue.table_at = config64(START);
	pmem.transport->set_queue(&pmem, 0, &queue);
	virtio_ready(&pmem);
	expect("needs a reset", WAIT(virtio_status(&pmem) & VIRTIO_NEEDS_RESET), 1);
	expect("and gets it", start(), 1);
	expect("a flush", ask(FLUSH), 0);
	virtio_stop(&pmem);
}

/* The host cuts the file short meanwhile. */
TEST(gone, "pmem-gone")
{
	if (!start())
		return;
	u64 at = config64(START), size = config64(SIZE);
	volatile u8 *last = map_window(at + size - 1);
	*last = 1;
	print("ready\n");
	get_char();
	print("touching\n");
	print("note read %u\n", (u64)*last);
	*last = 2;
	print("note written\n");
}

/* Virtual 1 TiB: a 2 MiB page for user mode, in which KVMs that emulate kernel-mode code run the processor itself. */
#define USER_PAGE (1ul << 40)
#define USER_DATA 0x23
#define USER_CODE 0x2b
extern u64 page_map[];

static void enter_user(u64 physical, u64 rip, u64 rdi)
{
	static u64 pointers[512] __attribute__((aligned(4096)));
	static u64 directory[512] __attribute__((aligned(4096)));
	static const u64 gdt[] = { 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff,
				   0x00cff3000000ffff, 0x00affb000000ffff };
	struct __attribute__((packed)) {
		u16 limit;
		const u64 *base;
	} pointer = { sizeof(gdt) - 1, gdt };
	directory[0] = physical | 0x87;
	pointers[0] = (u64)directory | 7;
	page_map[2] = (u64)pointers | 7;
	__asm__ volatile("lgdt %0\n\t"
			 "pushq %1\n\t"
			 "pushq $0\n\t"
			 "pushq $2\n\t"
			 "pushq %2\n\t"
			 "pushq %3\n\t"
			 "iretq"
			 :
			 : "m"(pointer), "i"(USER_DATA), "i"(USER_CODE), "r"(rip), "D"(rdi)
			 : "memory");
}

/* The same from user mode: code in the half of the first 2 MiB that stays reads from the half that goes. */
TEST(gone_user, "pmem-gone-user")
{
	if (!start())
		return;
	u64 at = config64(START);
	u8 *code = map_window(at);
	code[0] = 0x8a; /* mov al, [rdi] */
	code[1] = 0x07;
	code[2] = 0xeb; /* jmp to the mov */
	code[3] = 0xfc;
	print("ready\n");
	get_char();
	enter_user(at, USER_PAGE, USER_PAGE + 0x180000);
}
