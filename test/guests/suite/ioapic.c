/*
 * The IOAPIC (82093AA datasheet, section 3) with the serial port's transmitter interrupt as its
 * source: IER bit 1 raises the line, a read of IIR lowers it. What an entry delivers is a message
 * to a LAPIC, as an MSI is.
 */
#include "serial.h"
#include "../lib/test.h"
#include "../lib/apic.h"
#include "../lib/interrupts.h"
#include "../lib/smp.h"

#define VECTOR 0x45
#define RETURNS 3

static volatile u32 count;
static volatile u32 taken_by;
static volatile u32 lower_at;
/*
 * As the first run of the handler found them: remote IRR of the entry, the vector's bit in the
 * LAPIC's ISR.
 */
static volatile u32 remote_irr, in_service;

static void raise(void)
{
	outb(COM1 + IER, IER_TRANSMIT);
}

static void lower(void)
{
	inb(COM1 + IIR);
	outb(COM1 + IER, 0);
}

/*
 * Lowers the line in its `lower_at`th run. Counts last: whoever waits for the count may use the
 * IOAPIC then.
 */
static void on_pin(struct frame *frame)
{
	(void)frame;
	u32 run = count + 1;
	taken_by = lapic_id();
	if (run == 1) {
		remote_irr = ioapic_low(SERIAL_PIN) & RTE_REMOTE_IRR;
		in_service = lapic_read(LAPIC_ISR + VECTOR / 32 * 16) >> VECTOR % 32 & 1;
	}
	if (run == lower_at)
		lower();
	count = run;
	end_of_interrupt();
}

static void listen(u32 flags, u32 lower_in_run)
{
	count = 0;
	lower_at = lower_in_run;
	outb(COM1 + IER, 0);
	outb(COM1 + MCR, 0x08);
	lapic_enable();
	on_interrupt(VECTOR, on_pin);
	ioapic_route(SERIAL_PIN, VECTOR | flags, lapic_id());
	interrupts_on();
}

TEST(registers, "ioapic-registers")
{
	u32 version = ioapic_read(IOAPIC_VERSION);
	expect("pins", (version >> 16 & 0xff) + 1, 24);
	expect("version 0x11 or 0x20", (version & 0xff) == 0x11 || (version & 0xff) == 0x20, 1);
	for (u32 pin = 0; pin < 24; pin++)
		expect("entry at rest is masked", ioapic_low(pin) & RTE_MASKED, RTE_MASKED);
	ioapic_write(0x10 + 2 * 23, 0x1ffff);
	expect("read-only bits stay 0", ioapic_low(23), 0x1ffff & ~(RTE_REMOTE_IRR | RTE_PENDING));
	ioapic_write(0x11 + 2 * 23, 0xa5000000);
	expect("destination", ioapic_read(0x11 + 2 * 23) >> 24, 0xa5);
	ioapic_write(0x10 + 2 * 23, RTE_MASKED);
	write32(IOAPIC, 0x11);
	expect("select reads back", read32(IOAPIC) & 0xff, 0x11);
	expect("an index without a register", ioapic_read(0x10 + 2 * 24) + 1 <= 1, 1);
}

TEST(edge, "ioapic-edge")
{
	listen(0, 0);
	raise();
	expect("one for the edge", WAIT(count == 1), 1);
	linger();
	expect("none while the line stays high", count, 1);
	expect("remote IRR of an edge entry", remote_irr, 0);
	lower();
	raise();
	expect("one for the next edge", WAIT(count == 2), 1);
	interrupts_off();
	lower();
}

TEST(edge_masked, "ioapic-edge-masked")
{
	listen(RTE_MASKED, 0);
	raise();
	linger();
	expect("none while masked", count, 0);
	lower();
	ioapic_route(SERIAL_PIN, VECTOR, lapic_id());
	linger();
	expect("an edge under the mask is lost", count, 0);
	raise();
	expect("unmasked", WAIT(count == 1), 1);
	interrupts_off();
	lower();
}

/*
 * Runs of the handler after the one that lowered the line. None, but some KVMs end an interrupt as
 * soon as they inject it: its bit in ISR is never seen, and the pin's next message may be on its
 * way when the handler lowers the line.
 */
static void expect_quiet(u32 runs_before)
{
	linger();
	u32 late = count - runs_before;
	expect("runs after the line fell", late && (in_service || late > 1) ? late : 0, 0);
}

TEST(level, "ioapic-level")
{
	listen(RTE_LEVEL, RETURNS);
	raise();
	expect("delivered again after each EOI", WAIT(count >= RETURNS), 1);
	expect_quiet(RETURNS);
	expect("remote IRR in service", remote_irr, RTE_REMOTE_IRR);
	expect("remote IRR at rest", ioapic_low(SERIAL_PIN) & RTE_REMOTE_IRR, 0);

	u32 runs = count;
	lower_at = runs + 1;
	raise();
	expect("works again", WAIT(count > runs), 1);
	expect_quiet(runs + 1);
	interrupts_off();
}

TEST(level_masked, "ioapic-level-masked")
{
	listen(RTE_LEVEL | RTE_MASKED, 1);
	raise();
	linger();
	expect("none while masked", count, 0);
	ioapic_route(SERIAL_PIN, VECTOR | RTE_LEVEL, lapic_id());
	expect("delivered when unmasked", WAIT(count >= 1), 1);
	expect_quiet(1);
	interrupts_off();
}

TEST(level_withdrawn, "ioapic-level-withdrawn")
{
	listen(RTE_LEVEL | RTE_MASKED, 0);
	raise();
	lower();
	ioapic_route(SERIAL_PIN, VECTOR | RTE_LEVEL, lapic_id());
	linger();
	interrupts_off();
	expect("a level that fell is forgotten", count, 0);
}

static void on_nmi(struct frame *frame)
{
	(void)frame;
	count++;
}

TEST(nmi, "ioapic-nmi")
{
	listen(RTE_MASKED, 0);
	interrupts_off();
	on_interrupt(2, on_nmi);
	ioapic_route(SERIAL_PIN, RTE_NMI, lapic_id());
	raise();
	expect("NMI, with interrupts off", WAIT(count == 1), 1);
	lower();
}

TEST(destination, "ioapic-destination")
{
	u32 cpus = smp_start(argument_number("cpus", 2));
	listen(RTE_MASKED, 1);
	interrupts_off();
	for (u32 cpu = 1; cpu < cpus; cpu++) {
		count = 0;
		taken_by = ~0;
		ioapic_route(SERIAL_PIN, VECTOR, smp_apic_id(cpu));
		raise();
		expect("taken", WAIT(count == 1), 1);
		expect("by the processor named", taken_by, smp_apic_id(cpu));
	}
}

static void set_logical_id(u32 cpu)
{
	lapic_write(LAPIC_DFR, 0xffffffff); /* flat model */
	lapic_write(LAPIC_LDR, 1u << (24 + cpu));
}

TEST(logical, "ioapic-logical")
{
	u32 cpus = smp_start(argument_number("cpus", 2));
	listen(RTE_MASKED, 1);
	interrupts_off();
	set_logical_id(0);
	for (u32 cpu = 1; cpu < cpus && cpu < 8; cpu++) {
		smp_call(cpu, set_logical_id);
		smp_wait(cpu);
		count = 0;
		taken_by = ~0;
		ioapic_route(SERIAL_PIN, VECTOR | RTE_LOGICAL, 1 << cpu);
		raise();
		expect("taken", WAIT(count == 1), 1);
		expect("by the processor named", taken_by, smp_apic_id(cpu));
	}
}
