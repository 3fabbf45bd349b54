/*
 * What an exit costs. Each phase makes `count=N` accesses and nothing else, between two codes on
 * the debug port: 0xc0 + 2 * phase at its start, one more at its end. All phases in turn,
 * `rounds=R` times.
 */
#include "lib/apic.h"
#include "lib/boot.h"
#include "lib/print.h"

#define FIRST_CODE 0xc0

/* A register whose value changes nothing: the scratch register. */
static void port_write(u64 count)
{
	for (; count; count--)
		outb(COM1 + 7, 0x5a);
}

/* The register that a polling driver reads most: the line status. */
static void port_read(u64 count)
{
	for (; count; count--)
		inb(COM1 + 5);
}

static void mmio_read(u64 count)
{
	for (; count; count--)
		read32(IOAPIC + 0x10);
}

static void mmio_write(u64 count)
{
	for (; count; count--)
		write32(IOAPIC, IOAPIC_VERSION);
}

/* A console's way: line status, then a byte. Two exits each. */
static void transmit(u64 count)
{
	for (; count; count--)
		put_char(count % 64 ? '.' : '\n');
}

static void (*const phases[])(u64 count) = {
	port_write, port_read, mmio_read, mmio_write, transmit,
};

void guest_main(void)
{
	u64 count = argument_number("count", 100000);
	u64 rounds = argument_number("rounds", 1);
	write32(IOAPIC, IOAPIC_VERSION);
	for (u64 round = 0; round < rounds; round++) {
		for (u32 phase = 0; phase < sizeof(phases) / sizeof(*phases); phase++) {
			debug_code(FIRST_CODE + 2 * phase);
			phases[phase](count);
			debug_code(FIRST_CODE + 2 * phase + 1);
		}
	}
	print("done\n");
}
