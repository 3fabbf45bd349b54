/* The CMOS clock and RAM, Motorola MC146818A, at ports 0x70 and 0x71. */
#ifndef CMOS_H
#define CMOS_H
#include "../lib/io.h"

enum { RTC_A = 0x0a, RTC_B = 0x0b, RTC_C = 0x0c, RTC_D = 0x0d };
#define RTC_PIN 8

static inline u8 cmos_read(u8 index)
{
	outb(0x70, index);
	return inb(0x71);
}

static inline void cmos_write(u8 index, u8 value)
{
	outb(0x70, index);
	outb(0x71, value);
}

#endif
