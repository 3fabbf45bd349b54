/*
 * Resets: `count=N` boots, each ended by `method=i8042|acpi|triple`, on processor `by=N`, with
 * `busy=on` while all others are in the midst of accesses; `hold=A,B` lists boots that wait for a
 * byte of input before they go on. The boots are counted in CMOS RAM, which outlives a reset as
 * battery-backed RAM does. Each boot leaves the devices in disorder, and expects to find them as
 * after power-on.
 */
#include "cmos.h"
#include "serial.h"
#include "../lib/test.h"
#include "../lib/apic.h"
#include "../lib/interrupts.h"
#include "../lib/power.h"
#include "../lib/smp.h"

#define BOOT_COUNT 0x50
#define BOOT_MAGIC 0x51
#define MAGIC 0xa5

static u32 in_data = 0x1234; /* the image must be loaded anew, and its .bss cleared */
static u32 in_bss;

static void reset_now(u32 cpu)
{
	(void)cpu;
	if (argument_is("method", "acpi"))
		reset_acpi();
	if (argument_is("method", "triple"))
		triple_fault();
	reset_i8042();
}

static int held(u32 boot)
{
	char digits[4] = { 0 };
	u32 at = 3;
	do
		digits[--at] = '0' + boot % 10;
	while ((boot /= 10) && at);
	const char *list = argument("hold");
	return list && listed(list, digits + at);
}

/* Accesses without end: port and MMIO, single and repeated. */
static void stay_busy(u32 cpu)
{
	static const u8 bytes[64];
	for (;;) {
		outb(COM1 + SCR, cpu);
		read32(IOAPIC);
		inb(0x5000);
		outsb(COM1 + SCR, bytes, sizeof(bytes));
	}
}

static void leave_disorder(void)
{
	in_data = 1;
	in_bss = 1;
	outb(COM1 + MCR, 0x1f);
	outb(COM1 + IER, 0x0f);
	ioapic_route(5, 0x55, 0);
	ioapic_route(SERIAL_PIN, 0x56 | RTE_LEVEL, 0);
	ioapic_route(RTC_PIN, 0x57, 0);
	write32(IOAPIC, 0x15);
	cmos_write(RTC_A, 0x26);
	cmos_write(RTC_B, cmos_read(RTC_B) | 0x70);
	lapic_enable();
	lapic_write(LAPIC_LVT_TIMER, 0x20000 | 0x58); /* periodic */
	lapic_write(LAPIC_TIMER_INITIAL, 100000);
}

/*
 * None of the old life's interrupts comes: their vectors have no gate now, which would be an
 * exception.
 */
static void expect_silence(void)
{
	lapic_enable();
	interrupts_on();
	linger();
	interrupts_off();
}

TEST(reset, "reset")
{
	expect("IER", inb(COM1 + IER), 0);
	expect("MCR: loopback", inb(COM1 + MCR) & 0x10, 0);
	expect("IOAPIC entry", ioapic_low(5), RTE_MASKED);
	expect("LAPIC", lapic_read(LAPIC_SVR) & 0x100, 0);
	expect("RTC's interrupt enables", cmos_read(RTC_B) & 0x70, 0);
	expect(".data", in_data, 0x1234);
	expect(".bss", in_bss, 0);

	expect_silence();

	u32 boot = cmos_read(BOOT_MAGIC) == MAGIC ? cmos_read(BOOT_COUNT) + 1 : 1;
	cmos_write(BOOT_MAGIC, MAGIC);
	cmos_write(BOOT_COUNT, boot);
	u32 cpus = argument_number("cpus", 1);
	if (cpus > 1)
		expect("processors up", smp_start(cpus), cpus);
	print("boot %u\n", (u64)boot);
	if (held(boot))
		get_char();
	if (failing() || boot >= argument_number("count", 3))
		return;
	u32 by = argument_number("by", 0);
	for (u32 cpu = 1; cpu < cpus && argument_is("busy", "on"); cpu++)
		if (cpu != by)
			smp_call(cpu, stay_busy);
	leave_disorder();
	if (!by)
		reset_now(0);
	smp_call(by, reset_now);
	smp_wait(by);
	expect("reset", 0, 1);
}
