#include "boot.h"
#include "interrupts.h"
#include "power.h"
#include "print.h"

const struct start_info *start_info;

static char value_buffer[512];

int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

int listed(const char *list, const char *word)
{
	while (*list) {
		const char *w = word;
		while (*w && *list == *w)
			list++, w++;
		if (!*w && (!*list || *list == ','))
			return 1;
		while (*list && *list != ',')
			list++;
		if (*list)
			list++;
	}
	return 0;
}

const char *argument(const char *name)
{
	const char *at = (const char *)start_info->cmdline_paddr;
	if (!at)
		return 0;
	while (*at) {
		while (*at == ' ')
			at++;
		const char *n = name;
		while (*n && *at == *n)
			at++, n++;
		if (!*n && *at == '=') {
			u32 length = 0;
			for (at++; *at && *at != ' ' && length < sizeof(value_buffer) - 1; at++)
				value_buffer[length++] = *at;
			value_buffer[length] = 0;
			return value_buffer;
		}
		while (*at && *at != ' ')
			at++;
	}
	return 0;
}

u64 argument_number(const char *name, u64 otherwise)
{
	const char *text = argument(name);
	if (!text)
		return otherwise;
	u64 value = 0;
	for (; *text >= '0' && *text <= '9'; text++)
		value = value * 10 + (*text - '0');
	return value;
}

int argument_is(const char *name, const char *value)
{
	const char *text = argument(name);
	return text && same(text, value);
}

/* Virtual 512 GiB: the second entry of the page map, with tables of its own. */
#define WINDOW (1ul << 39)
extern u64 page_map[];
static u64 window_pointers[512] __attribute__((aligned(4096)));
static u64 window_directory[512] __attribute__((aligned(4096)));

u8 *map_window(u64 physical)
{
	window_pointers[0] = (u64)window_directory | 3;
	page_map[1] = (u64)window_pointers | 3;
	window_directory[0] = (physical & ~0x1ffffful) | 0x83;
	__asm__ volatile("invlpg (%0)" : : "r"(WINDOW) : "memory");
	return (u8 *)(WINDOW + (physical & 0x1fffff));
}

void guest_start(const struct start_info *info)
{
	start_info = info;
	interrupts_init();
	if (info->magic != START_MAGIC)
		print("not ok start: hvm_start_info's magic got %x expected %x\n", info->magic, START_MAGIC);
	else
		guest_main();
	power_off();
}

/* The compiler may call these for copies and clearing of its own. */
void *memset(void *to, int value, u64 count)
{
	void *start = to;
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
	return start;
}

void *memcpy(void *to, const void *from, u64 count)
{
	void *start = to;
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
	return start;
}
