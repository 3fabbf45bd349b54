/* The local APIC: IPIs, timer, x2APIC mode (Intel SDM volume 3, chapter 11). */
#include "../lib/test.h"
#include "../lib/apic.h"
#include "../lib/interrupts.h"

#define VECTOR 0x60

static volatile u32 count;
static volatile u32 low_count;

static void on_vector(struct frame *frame)
{
	(void)frame;
	count++;
	end_of_interrupt();
}

static void on_low(struct frame *frame)
{
	(void)frame;
	low_count++;
	end_of_interrupt();
}

static void listen(void)
{
	count = low_count = 0;
	lapic_enable();
	on_interrupt(VECTOR, on_vector);
	on_interrupt(VECTOR - 0x20, on_low);
}

TEST(self_ipi, "lapic-self-ipi")
{
	listen();
	send_ipi(lapic_id(), ICR_FIXED | VECTOR);
	send_ipi(0, ICR_FIXED | ICR_TO_SELF | (VECTOR - 0x20));
	linger();
	expect("held while interrupts are off", count + low_count, 0);
	expect("IRR", lapic_read(LAPIC_IRR + VECTOR / 32 * 16) >> VECTOR % 32 & 1, 1);
	interrupts_on();
	expect("both taken", WAIT(count == 1 && low_count == 1), 1);
	interrupts_off();
}

TEST(priority, "lapic-priority")
{
	listen();
	interrupts_on();
	lapic_write(LAPIC_TPR, (VECTOR - 0x20) | 0xf);
	send_ipi(lapic_id(), ICR_FIXED | (VECTOR - 0x20));
	send_ipi(lapic_id(), ICR_FIXED | VECTOR);
	expect("above the task priority", WAIT(count == 1), 1);
	linger();
	expect("below it", low_count, 0);
	lapic_write(LAPIC_TPR, 0);
	expect("when the priority falls", WAIT(low_count == 1), 1);
	interrupts_off();
}

static void timer(u32 mode, u32 ticks)
{
	lapic_write(LAPIC_TIMER_DIVIDE, 0xb); /* by 1 */
	lapic_write(LAPIC_LVT_TIMER, mode | VECTOR);
	lapic_write(LAPIC_TIMER_INITIAL, ticks);
}

TEST(one_shot, "lapic-timer")
{
	listen();
	timer(0, 1000000);
	while (!count)
		halt();
	expect("current count at the end", lapic_read(LAPIC_TIMER_CURRENT), 0);
	interrupts_on();
	linger();
	interrupts_off();
	expect("once", count, 1);
}

TEST(periodic, "lapic-timer-periodic")
{
	listen();
	timer(0x20000, 1000000);
	while (count < 5)
		halt();
	lapic_write(LAPIC_LVT_TIMER, 0x10000);
	expect("five", count >= 5, 1);
}

TEST(deadline, "lapic-tsc-deadline")
{
	listen();
	expect("CPUID says so", cpuid(1, 0).ecx >> 24 & 1, 1);
	if (failing())
		return;
	lapic_write(LAPIC_LVT_TIMER, 0x40000 | VECTOR);
	u64 due = rdtsc() + 2000000;
	wrmsr(0x6e0, due); /* IA32_TSC_DEADLINE */
	while (!count)
		halt();
	expect("not early", rdtsc() >= due, 1);
	expect("disarmed", rdmsr(0x6e0), 0);
	lapic_write(LAPIC_LVT_TIMER, 0x10000);
}

/* Last of a boot: there is no way back but through reset. */
TEST(x2apic, "lapic-x2apic")
{
	listen();
	u32 id = lapic_id();
	expect("CPUID says so", cpuid(1, 0).ecx >> 21 & 1, 1);
	lapic_enable_x2();
	expect("the same id", lapic_id(), id);
	send_ipi(id, ICR_FIXED | VECTOR);
	lapic_write(LAPIC_SELF_IPI, VECTOR - 0x20);
	interrupts_on();
	expect("taken", WAIT(count == 1 && low_count == 1), 1);
	timer(0, 100000);
	expect("timer", WAIT(count == 2), 1);
	interrupts_off();
}
