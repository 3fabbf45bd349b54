/*
 * The clock, its three interrupts and its RAM (MC146818A datasheet; the century's byte as PCs have
 * it, 0x32).
 */
#include "cmos.h"
#include "../lib/test.h"
#include "../lib/apic.h"
#include "../lib/interrupts.h"

#define VECTOR 0x48

enum { C_INTERRUPT = 0x80, C_PERIODIC = 0x40, C_ALARM = 0x20, C_UPDATE = 0x10 };

/*
 * How often the handler found each flag of register C, by its bit. An interrupt of an earlier test
 * finds none.
 */
static volatile u32 found[8];
static volatile u8 causes;

static void on_rtc(struct frame *frame)
{
	(void)frame;
	u8 flags = cmos_read(RTC_C);
	if (flags & C_INTERRUPT)
		causes |= flags;
	for (u32 bit = 0; bit < 8; bit++)
		found[bit] += flags >> bit & 1;
	end_of_interrupt();
}

/* Enables in register B what has the same bit there as in C. */
static void listen(u8 enable)
{
	causes = 0;
	for (u32 bit = 0; bit < 8; bit++)
		found[bit] = 0;
	lapic_enable();
	on_interrupt(VECTOR, on_rtc);
	ioapic_route(RTC_PIN, VECTOR, lapic_id());
	cmos_write(RTC_B, (cmos_read(RTC_B) & 0x0f) | enable);
	cmos_read(RTC_C);
}

static void hush(void)
{
	cmos_write(RTC_B, cmos_read(RTC_B) & 0x0f);
	cmos_read(RTC_C);
}

static u32 field(u8 index, int binary)
{
	u32 value = cmos_read(index);
	return binary ? value : (value >> 4) * 10 + (value & 0xf);
}

TEST(time, "rtc-time")
{
	u8 b = cmos_read(RTC_B);
	int binary = b & 0x04;
	expect("24-hour mode", b & 0x02, 0x02);
	expect("the battery is good", cmos_read(RTC_D), 0x80);
	u64 second, hour, day;
	u64 minute, month, year, weekday;
	do {
		second = field(0, binary);
		minute = field(2, binary);
		hour = field(4, binary);
		weekday = cmos_read(6);
		day = field(7, binary);
		month = field(8, binary);
		year = field(0x32, binary) * 100 + field(9, binary);
	} while (cmos_read(RTC_A) & 0x80 || second != field(0, binary));
	print("note rtc-time %u-%u-%uT%u:%u:%u\n", year, month, day, hour, minute, second);
	print("note rtc-weekday %u\n", weekday);
}

TEST(ram, "rtc-ram")
{
	for (u8 index = 0x50; index < 0x54; index++)
		cmos_write(index, index * 3);
	for (u8 index = 0x50; index < 0x54; index++)
		expect("a byte of RAM", cmos_read(index), (u8)(index * 3));
	outb(0x70, 0x80 | 0x51);
	expect("bit 7 of the index masks NMI alone", inb(0x71), 0x51 * 3);
	for (u8 index = 0x50; index < 0x54; index++)
		cmos_write(index, 0);
}

/* Where PCs say how much memory there is; the host knows how much that should be. */
TEST(memory_size, "rtc-memory")
{
	print("note kib-above-1m %u\n", (u64)(cmos_read(0x30) | cmos_read(0x31) << 8));
	print("note 64kib-above-16m %u\n", (u64)(cmos_read(0x34) | cmos_read(0x35) << 8));
	print("note 64kib-above-4g %u\n",
	      (u64)(cmos_read(0x5b) | cmos_read(0x5c) << 8 | cmos_read(0x5d) << 16));
}

TEST(update, "rtc-update")
{
	listen(C_UPDATE);
	while (!(causes & C_UPDATE))
		halt();
	hush();
	expect("a read clears register C", cmos_read(RTC_C) & (C_INTERRUPT | C_UPDATE), 0);
}

TEST(periodic, "rtc-periodic")
{
	cmos_write(RTC_A, 0x26); /* 1024 Hz */
	listen(C_PERIODIC);
	while (found[6] < 4)
		halt();
	hush();
	expect("register C", causes & (C_INTERRUPT | C_PERIODIC), C_INTERRUPT | C_PERIODIC);
}

/* Every second: 11xxxxxx means "don't care". */
TEST(alarm, "rtc-alarm")
{
	for (u8 index = 1; index <= 5; index += 2)
		cmos_write(index, 0xc0);
	listen(C_ALARM);
	while (!(causes & C_ALARM))
		halt();
	hush();
	expect("register C", causes & (C_INTERRUPT | C_ALARM), C_INTERRUPT | C_ALARM);
}
