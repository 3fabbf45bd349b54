/* A console with one port. */
#include "console.h"
#include "../lib/boot.h"

TEST(says, "console-echo")
{
	if (!console_start(VIRTIO_ANY, 2))
		return;
	say(0, "ready\n", 6);
	echo(0, argument_number("bytes", 0));
	console_stop();
}

TEST(pours, "console-output")
{
	if (!console_start(VIRTIO_ANY, 2))
		return;
	u32 bytes = argument_number("bytes", 0), pours = 0;
	do {
		pour(0, bytes, 1);
		pours++;
	} while (!told() && !failing());
	print("note pours %u\n", (u64)pours);
	console_stop();
}

/* The guest ends at once, with output on its way that nobody has taken. */
TEST(last_words, "console-last-words")
{
	if (!console_start(VIRTIO_ANY, 2))
		return;
	pour(0, argument_number("bytes", 0), 0);
}

static void size_is(u32 columns, u32 rows)
{
	expect("columns", read16(console.config + CONSOLE_COLS), columns);
	expect("rows", read16(console.config + CONSOLE_ROWS), rows);
}

/* What the terminal has, and after a change of configuration what it has then. */
TEST(size, "console-size")
{
	if (!console_start(VIRTIO_ANY, 2))
		return;
	expect("offers a size", console.offered & CONSOLE_F_SIZE, CONSOLE_F_SIZE);
	expect("told of it", WAIT(console.transport->isr(&console) & 2), 1);
	size_is(argument_number("columns", 0), argument_number("rows", 0));
	u32 generation = console.transport->generation(&console);
	say(0, "resize\n", 7);
	expect("resized", WAIT(read16(console.config + CONSOLE_COLS) == argument_number("then", 0)), 1);
	expect("told of that", WAIT(console.transport->isr(&console) & 2), 1);
	expect("as another generation", console.transport->generation(&console) != generation, 1);
	size_is(argument_number("then", 0), argument_number("rows", 0));
	console_stop();
}

TEST(no_size, "console-no-size")
{
	if (!console_start(VIRTIO_ANY, 2))
		return;
	expect("offers no size", console.offered & CONSOLE_F_SIZE, 0);
	expect("nor several ports", console.offered & CONSOLE_F_MULTIPORT, 0);
	console_stop();
}
