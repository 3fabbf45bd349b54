/*
 * The local APIC (Intel SDM volume 3, chapter 11), by MMIO or, after lapic_enable_x2, by MSR; and
 * the IOAPIC (Intel 82093AA datasheet, section 3).
 */
#ifndef APIC_H
#define APIC_H
#include "io.h"

/* Registers by their MMIO offset; the x2APIC MSR is 0x800 + offset / 16. */
#define LAPIC_ID 0x20
#define LAPIC_VERSION 0x30
#define LAPIC_TPR 0x80
#define LAPIC_EOI 0xb0
#define LAPIC_LDR 0xd0
#define LAPIC_DFR 0xe0
#define LAPIC_SVR 0xf0
#define LAPIC_ISR 0x100
#define LAPIC_IRR 0x200
#define LAPIC_ICR 0x300
#define LAPIC_ICR_HIGH 0x310
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_TIMER_INITIAL 0x380
#define LAPIC_TIMER_CURRENT 0x390
#define LAPIC_TIMER_DIVIDE 0x3e0
#define LAPIC_SELF_IPI 0x3f0

#define ICR_FIXED 0x4000 /* assert, edge, physical */
#define ICR_NMI 0x4400
#define ICR_INIT 0x4500
#define ICR_STARTUP 0x4600
#define ICR_TO_SELF 0x40000
#define ICR_TO_OTHERS 0xc0000

u32 lapic_read(u32 offset);
void lapic_write(u32 offset, u32 value);
/* Software-enables this processor's LAPIC, spurious vector 0xff. */
void lapic_enable(void);
/* The same in x2APIC mode; lapic_read and _write use MSRs on every processor from then on. */
void lapic_enable_x2(void);
u32 lapic_id(void);
/* `command`: the low half of the ICR. */
void send_ipi(u32 apic_id, u32 command);

static inline void end_of_interrupt(void)
{
	lapic_write(LAPIC_EOI, 0);
}

#define IOAPIC 0xfec00000ul
#define IOAPIC_ID 0
#define IOAPIC_VERSION 1

/* Redirection entry bits. */
#define RTE_LOWEST 0x100u
#define RTE_NMI 0x400u
#define RTE_LOGICAL 0x800u
#define RTE_PENDING 0x1000u /* delivery status: read-only */
#define RTE_ACTIVE_LOW 0x2000u
#define RTE_REMOTE_IRR 0x4000u /* read-only */
#define RTE_LEVEL 0x8000u
#define RTE_MASKED 0x10000u

u32 ioapic_read(u8 index);
void ioapic_write(u8 index, u32 value);
u32 ioapic_low(u32 pin);
/* Writes the high half (destination), then the low one. */
void ioapic_route(u32 pin, u32 low, u8 destination);
void ioapic_mask(u32 pin);

#endif
