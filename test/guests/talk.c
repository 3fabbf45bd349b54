/*
 * Asks for a login on its serial port and repeats each line that it is told, until that is "bye", which powers it off,
 * or "again", which resets it.
 */
#include "lib/boot.h"
#include "lib/io.h"
#include "lib/power.h"
#include "lib/print.h"

#define SERIAL 0x3f8
#define DATA_READY 1

static void read_line(char *line, int size)
{
	int length = 0;
	for (;;) {
		while (!(inb(SERIAL + 5) & DATA_READY))
			;
		char c = (char)inb(SERIAL);
		if (c == '\n' || c == '\r')
			break;
		if (length < size - 1)
			line[length++] = c;
	}
	line[length] = 0;
}

void guest_main(void)
{
	char line[128];
	print("booted\nmicro login: ");
	for (;;) {
		read_line(line, sizeof(line));
		print("told %s\n", line);
		if (same(line, "bye"))
			return;
		if (same(line, "again"))
			outb(0x64, 0xfe);
	}
}
