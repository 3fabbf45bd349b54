/* RAM as the loader's memory map has it. */
#include "../lib/test.h"

#define MOST_RANGES 32
#define PROBE 0xff0 /* near a page's end, where the loader's own tables are least likely */

static struct memory_range ranges[MOST_RANGES];
static u64 kept[2 * MOST_RANGES];

static u64 *probe(u32 index)
{
	const struct memory_range *range = &ranges[index / 2];
	u64 first = (range->start + 0xfff) & ~0xffful;
	u64 last = (range->start + range->length - 1) & ~0xffful;
	return (u64 *)map_window((index % 2 ? last : first) + PROBE);
}

/*
 * The first and the last page of every range hold what was written, each its own. The old content
 * comes back.
 */
TEST(edges, "memory-edges")
{
	const struct memory_range *map = (const struct memory_range *)start_info->memmap_paddr;
	u32 count = 0;
	u64 total = 0;
	expect("a memory map", start_info->version >= 1 && map != 0, 1);
	for (u32 i = 0; i < start_info->memmap_entries && count < MOST_RANGES; i++) {
		print("note range %x %x %u\n", map[i].start, map[i].length, (u64)map[i].type);
		if (map[i].type == 1 && map[i].length >= 0x2000) {
			ranges[count++] = map[i];
			total += map[i].length;
		}
	}
	print("note ram-bytes %u\n", total);
	for (u32 index = 0; index < 2 * count; index++) {
		kept[index] = *probe(index);
		*probe(index) = 0x5eed0000 + index;
	}
	for (u32 index = 0; index < 2 * count; index++)
		expect("a page of its own", *probe(index), 0x5eed0000 + index);
	for (u32 index = 0; index < 2 * count; index++)
		*probe(index) = kept[index];
	expect("some RAM", count > 0, 1);
}
