#include "power.h"
#include "boot.h"

static void __attribute__((noreturn)) stop(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

void power_off(void)
{
	if (argument_is("platform", "qemu"))
		outb(0xf4, 0);
	else
		outb(SLEEP_CONTROL, 5 << 2 | 1 << 5); /* S5 */
	stop();
}

void reset_i8042(void)
{
	outb(0x64, 0xfe);
	stop();
}

void reset_acpi(void)
{
	outb(RESET_PORT, 1);
	stop();
}

void triple_fault(void)
{
	struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} none = { 0, 0 };
	__asm__ volatile("lidt %0; ud2" : : "m"(none));
	stop();
}
