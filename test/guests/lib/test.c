#include "test.h"
#include "apic.h"

#define MOST_FAILURES 8

static struct {
	const char *what;
	u64 got, expected;
} failures[MOST_FAILURES];
static u32 failed;

extern const struct test tests_start[], tests_end[];

void expect(const char *what, u64 got, u64 expected)
{
	if (got == expected)
		return;
	u32 index = fetch_add(&failed, 1);
	if (index < MOST_FAILURES) {
		failures[index].what = what;
		failures[index].got = got;
		failures[index].expected = expected;
	}
}

int failing(void)
{
	return failed != 0;
}

int told(void)
{
	return !argument_is("until", "told") || (inb(COM1 + 5) & 0x01);
}

void serial_quiet(void)
{
	outb(COM1 + 3, 0x03);
	outb(COM1 + 1, 0);
	outb(COM1 + 4, 0x08);
	outb(COM1 + 2, 0);
}

static void run(const char *name)
{
	const struct test *test = tests_start;
	while (test < tests_end && !same(test->name, name))
		test++;
	if (test == tests_end) {
		print("not ok %s: no such test\n", name);
		return;
	}
	failed = 0;
	test->run();
	serial_quiet();
	ioapic_mask(4);
	ioapic_mask(8);
	for (u32 i = 0; i < failed && i < MOST_FAILURES; i++)
		print("not ok %s: %s got %x expected %x\n", name, failures[i].what, failures[i].got,
		      failures[i].expected);
	if (!failed)
		print("ok %s\n", name);
}

/* A guest without tests has its own. */
__attribute__((weak)) void guest_main(void)
{
	static char names[512];
	const char *list = argument("test");
	u32 length = 0;
	for (; list && *list; list++)
		names[length++] = *list == ',' ? 0 : *list;
	for (u32 at = 0; at < length; at++) {
		run(names + at);
		while (names[at])
			at++;
	}
	print("done\n");
}
