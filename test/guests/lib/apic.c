#include "apic.h"
#include "interrupts.h"

#define LAPIC 0xfee00000ul
#define APIC_BASE_MSR 0x1b

static u32 x2;

u32 lapic_read(u32 offset)
{
	return x2 ? (u32)rdmsr(0x800 + offset / 16) : read32(LAPIC + offset);
}

void lapic_write(u32 offset, u32 value)
{
	if (x2)
		wrmsr(0x800 + offset / 16, value);
	else
		write32(LAPIC + offset, value);
}

static void spurious(struct frame *frame)
{
	(void)frame; /* a spurious interrupt takes no EOI */
}

void lapic_enable(void)
{
	on_interrupt(0xff, spurious);
	lapic_write(LAPIC_SVR, 0x1ff);
	lapic_write(LAPIC_TPR, 0);
}

void lapic_enable_x2(void)
{
	wrmsr(APIC_BASE_MSR, rdmsr(APIC_BASE_MSR) | 0xc00); /* EN and EXTD */
	x2 = 1;
	lapic_enable();
}

u32 lapic_id(void)
{
	u32 id = lapic_read(LAPIC_ID);
	return x2 ? id : id >> 24;
}

void send_ipi(u32 apic_id, u32 command)
{
	if (x2) {
		wrmsr(0x800 + LAPIC_ICR / 16, (u64)apic_id << 32 | command);
		return;
	}
	write32(LAPIC + LAPIC_ICR_HIGH, apic_id << 24);
	write32(LAPIC + LAPIC_ICR, command);
	while (read32(LAPIC + LAPIC_ICR) & 0x1000) /* delivery status: send pending */
		pause();
}

u32 ioapic_read(u8 index)
{
	write32(IOAPIC, index);
	return read32(IOAPIC + 0x10);
}

void ioapic_write(u8 index, u32 value)
{
	write32(IOAPIC, index);
	write32(IOAPIC + 0x10, value);
}

u32 ioapic_low(u32 pin)
{
	return ioapic_read(0x10 + pin * 2);
}

void ioapic_route(u32 pin, u32 low, u8 destination)
{
	ioapic_write(0x11 + pin * 2, (u32)destination << 24);
	ioapic_write(0x10 + pin * 2, low);
}

void ioapic_mask(u32 pin)
{
	ioapic_write(0x10 + pin * 2, ioapic_low(pin) | RTE_MASKED);
}
