/* Text on the first serial port, and codes on the debug port. */
#ifndef PRINT_H
#define PRINT_H
#include "io.h"

#define COM1 0x3f8
#define DEBUG_PORT 0x80

void put_char(char c);
/* The next byte of input, waiting for it. */
u8 get_char(void);
/*
 * %d signed, %u unsigned, %x hexadecimal with 0x (all 64-bit: pass u64 or cast), %s, %c, %%. One
 * line at a time.
 */
void print(const char *format, ...);

static inline void debug_code(u8 code)
{
	outb(DEBUG_PORT, code);
}

#endif
