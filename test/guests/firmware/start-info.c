/*
 * What a firmware is entered with: hvm_start_info and its memory map (Xen,
 * xen/include/public/arch-x86/hvm/start_info.h).
 */
#include "tables.h"

#define RAM 1
#define LOW_TABLES 0xe0000ul
#define HIGH_RAM 0x100000ul
/* What edk2's CLOUDHV takes for granted: its CLOUDHV_MMIO_HOLE_ADDRESS and _SIZE. */
#define HOLE 0xc0000000ul
#define HOLE_SIZE 0x38000000ul

static const struct memory_range *ranges(void)
{
	return (const struct memory_range *)start_info->memmap_paddr;
}

/* Whether one range of RAM holds [start, end). */
static int is_ram(u64 start, u64 end)
{
	for (u32 i = 0; i < start_info->memmap_entries; i++) {
		const struct memory_range *range = &ranges()[i];
		if (range->type == RAM && range->start <= start && end <= range->start + range->length)
			return 1;
	}
	return 0;
}

/* Whether RAM touches [start, end). */
static int meets_ram(u64 start, u64 end)
{
	for (u32 i = 0; i < start_info->memmap_entries; i++) {
		const struct memory_range *range = &ranges()[i];
		if (range->type == RAM && range->start < end && start < range->start + range->length)
			return 1;
	}
	return 0;
}

TEST(start, "start-info")
{
	expect("magic", start_info->magic, START_MAGIC);
	expect("version", start_info->version, 1);
	expect("flags", start_info->flags, 0);
	expect("modules", start_info->nr_modules, 0);
	expect("it is above the first page", (u64)start_info >= 0x1000, 1);
	expect("and all of it in RAM", is_ram((u64)start_info, (u64)start_info + sizeof(*start_info)), 1);
	expect("the command line, too", is_ram(start_info->cmdline_paddr, start_info->cmdline_paddr + 1), 1);
	print("note cmdline %s\n", (const char *)start_info->cmdline_paddr);
}

extern char image_end[];

TEST(memory_map, "memory-map")
{
	u64 end = 0, ram = 0;
	for (u32 i = 0; i < start_info->memmap_entries; i++) {
		expect("in order, apart", ranges()[i].start >= end, 1);
		expect("not empty", ranges()[i].length > 0, 1);
		end = ranges()[i].start + ranges()[i].length;
		if (ranges()[i].type == RAM)
			ram += ranges()[i].length;
	}
	expect("conventional memory", is_ram(0, 0x9fc00), 1);
	expect("this firmware", is_ram(HIGH_RAM, (u64)image_end), 1);
	expect("no RAM where tables are", meets_ram(LOW_TABLES, HIGH_RAM), 0);
	expect("no RAM in the hole", meets_ram(HOLE, HOLE + HOLE_SIZE), 0);
	expect("all of it", ram, argument_number("ram", 0) - (HIGH_RAM - 0x9fc00));
}
