#include "smp.h"
#include "apic.h"
#include "boot.h"
#include "interrupts.h"
#include "wait.h"

#define TRAMPOLINE 0x8000ul /* SIPI vector 8 */
#define WAKE_VECTOR 0xf0

extern const u8 trampoline[], trampoline_end[];
extern volatile u32 ap_count;
void ap_main(u32 cpu);

static volatile u32 online;
static volatile u32 apic_ids[MAX_CPUS];
static void (*volatile jobs[MAX_CPUS])(u32 cpu);

static void wake(struct frame *frame)
{
	(void)frame; /* it is enough that HLT ended */
	end_of_interrupt();
}

void ap_main(u32 cpu)
{
	interrupts_load();
	lapic_enable();
	apic_ids[cpu] = lapic_id();
	fetch_add(&online, 1);
	for (;;) {
		while (!jobs[cpu])
			halt();
		jobs[cpu](cpu);
		jobs[cpu] = 0;
	}
}

static void start_all(void)
{
	send_ipi(0, ICR_TO_OTHERS | ICR_INIT);
	send_ipi(0, ICR_TO_OTHERS | ICR_STARTUP | TRAMPOLINE >> 12);
}

static void start_each(u32 count)
{
	for (u32 id = 1; id < count; id++)
		send_ipi(id, ICR_INIT);
	for (u32 id = 1; id < count; id++)
		send_ipi(id, ICR_STARTUP | TRAMPOLINE >> 12);
}

u32 smp_start(u32 count)
{
	if (online) /* an earlier test of this boot started them */
		return online + 1;
	volatile u8 *low = (volatile u8 *)TRAMPOLINE;
	for (u32 i = 0; i < (u32)(trampoline_end - trampoline); i++)
		low[i] = trampoline[i];
	on_interrupt(WAKE_VECTOR, wake);
	lapic_enable();
	apic_ids[0] = lapic_id();
	if (argument_is("ipi", "broadcast"))
		start_all();
	else
		start_each(count);
	WAIT(online == count - 1);
	return online + 1;
}

u32 smp_apic_id(u32 cpu)
{
	return apic_ids[cpu];
}

void smp_call(u32 cpu, void (*function)(u32 cpu))
{
	jobs[cpu] = function;
	send_ipi(apic_ids[cpu], ICR_FIXED | WAKE_VECTOR);
}

int smp_wait(u32 cpu)
{
	return WAIT(!jobs[cpu]);
}
