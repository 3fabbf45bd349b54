/* The memory balloon (virtio 1.2, section 5.5): pages go into it and come back, or are reported. */
#include "../lib/test.h"
#include "../lib/virtio.h"

#define PAGE 4096
#define INFLATE 0
#define DEFLATE 1
#define REPORTING 4
#define F_DEFLATE_ON_OOM (1ul << 2)
#define F_REPORTING (1ul << 5)
#define NUM_PAGES 0
#define ACTUAL 4
#define BEFORE 0x5aul

static struct virtio balloon;
static struct virtqueue queues[5];
static u64 pages[8][PAGE / 8] __attribute__((aligned(PAGE)));

static int start(u32 count)
{
	int there = virtio_find(&balloon, VIRTIO_BALLOON, 0) &&
		    virtio_start(&balloon, VIRTIO_ANY, queues, count, 16);
	expect("a balloon is there, and starts", there, 1);
	for (u32 i = 0; i < 8; i++)
		pages[i][0] = pages[i][PAGE / 8 - 1] = BEFORE + i;
	return there;
}

static u64 exchange(u32 queue, const u32 *numbers, u32 count)
{
	struct buffer out = { numbers, count * 4 };
	return virtqueue_exchange(&queues[queue], &out, 1, 0, 0);
}

static u32 pfn(u32 i)
{
	return (u64)pages[i] / PAGE;
}

static void expect_page(const char *what, u32 i, u64 value)
{
	expect(what, ((volatile u64 *)pages[i])[0], value);
	expect(what, ((volatile u64 *)pages[i])[PAGE / 8 - 1], value);
}

/* `pages=N` is what the host asks for. */
TEST(inflate, "balloon-inflate")
{
	if (!start(2))
		return;
	expect("pages that the host asks for", read32(balloon.config + NUM_PAGES),
	       argument_number("pages", 0));
	u32 numbers[] = { pfn(1), pfn(2), pfn(5) };
	expect("answered", exchange(INFLATE, numbers, 3), 0);
	write32(balloon.config + ACTUAL, 3);
	expect("pages in it, as the driver said", read32(balloon.config + ACTUAL), 3);
	write32(balloon.config + NUM_PAGES, 7);
	expect("what is asked is not the driver's to write", read32(balloon.config + NUM_PAGES),
	       argument_number("pages", 0));

	expect("taken back", exchange(DEFLATE, numbers, 3), 0);
	for (u32 i = 0; i < 8; i++) {
		int gone = i == 1 || i == 2 || i == 5;
		expect_page(gone ? "a page that was in it" : "a page that was not", i,
			    gone ? 0 : BEFORE + i);
	}
	virtio_stop(&balloon);
}

/* Holes, what lies behind RAM, the last page that there can be: the device lives on. */
TEST(nowhere, "balloon-nowhere")
{
	if (!start(2))
		return;
	u32 numbers[] = { 0xd0000, 0x100000000 / PAGE, ~0u, pfn(3) };
	expect("answered", exchange(INFLATE, numbers, 4), 0);
	expect_page("the page that is one", 3, 0);
	expect("status", virtio_status(&balloon), VIRTIO_LIVE);
	virtio_stop(&balloon);
}

TEST(report, "balloon-reporting")
{
	if (!start(5))
		return;
	expect("feature", !!(balloon.features & F_REPORTING), 1);
	struct buffer in[] = { { pages[1], 2 * PAGE }, { pages[6], PAGE } };
	expect("answered", virtqueue_exchange(&queues[REPORTING], 0, 0, in, 2) >= 0, 1);
	for (u32 i = 0; i < 8; i++) {
		int gone = i == 1 || i == 2 || i == 6;
		expect_page(gone ? "a page that was reported" : "a page that was not", i,
			    gone ? 0 : BEFORE + i);
	}
	virtio_stop(&balloon);
}

TEST(oom, "balloon-features")
{
	if (!start(2))
		return;
	expect("deflate on OOM", !!(balloon.offered & F_DEFLATE_ON_OOM), argument_is("oom", "on"));
	expect("reporting", !!(balloon.offered & F_REPORTING), 0);
	virtio_stop(&balloon);
}
