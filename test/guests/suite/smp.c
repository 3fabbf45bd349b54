/* Several processors: starting them, and their fights over one device. */
#include "cmos.h"
#include "serial.h"
#include "../lib/test.h"
#include "../lib/apic.h"
#include "../lib/power.h"
#include "../lib/smp.h"

static volatile u32 runs;

static void count_run(u32 cpu)
{
	(void)cpu;
	fetch_add(&runs, 1);
}

/* `cpus=N`: all of them come up, each with an id of its own, and each does as it is told. */
TEST(start, "smp-start")
{
	static u8 seen[256];
	u32 wanted = argument_number("cpus", 2);
	u32 cpus = smp_start(wanted);
	expect("processors up", cpus, wanted);
	for (u32 cpu = 0; cpu < cpus; cpu++) {
		u32 id = smp_apic_id(cpu);
		expect("an id of its own", id < 255 && !seen[id], 1);
		seen[id & 0xff] = 1;
	}
	for (u32 cpu = 1; cpu < cpus; cpu++)
		smp_call(cpu, count_run);
	for (u32 cpu = 1; cpu < cpus; cpu++)
		expect("a call came back", smp_wait(cpu), 1);
	expect("calls", runs, cpus - 1);
}

TEST(ids, "smp-ids")
{
	u32 cpus = smp_start(argument_number("cpus", 2));
	for (u32 cpu = 0; cpu < cpus; cpu++)
		print("note apic-id %u\n", (u64)smp_apic_id(cpu));
}

static u32 rounds;
static volatile u32 wrong;
static volatile u32 device_lock;
static volatile u32 gate;

/* Everybody starts at once: waits until all `gate` processors came here. */
static void meet(void)
{
	fetch_add(&gate, -1);
	while (gate)
		pause();
}

static void everywhere(void (*function)(u32 cpu))
{
	u32 wanted = argument_number("cpus", 2);
	u32 cpus = smp_start(wanted);
	expect("processors up", cpus, wanted);
	rounds = argument_number("rounds", 300);
	wrong = 0;
	gate = cpus;
	for (u32 cpu = 1; cpu < cpus; cpu++)
		smp_call(cpu, function);
	function(0);
	for (u32 cpu = 1; cpu < cpus; cpu++)
		expect("processor finished", smp_wait(cpu), 1);
	expect("wrong values", wrong, 0);
}

/* No lock in the guest: any value read must be one that some processor wrote. */
static void hammer_scratch(u32 cpu)
{
	meet();
	for (u32 i = 0; i < rounds; i++) {
		outb(COM1 + SCR, cpu << 4 | cpu);
		u8 value = inb(COM1 + SCR);
		if (value >> 4 != (value & 0xf))
			fetch_add(&wrong, 1);
	}
}

TEST(scratch, "smp-scratch")
{
	everywhere(hammer_scratch);
}

/* Index and data ports under the guest's own lock: the device must not mix up two processors. */
static void hammer_cmos(u32 cpu)
{
	u8 index = 0x50 + cpu;
	meet();
	for (u32 i = 0; i < rounds; i++) {
		lock(&device_lock);
		cmos_write(index, i);
		unlock(&device_lock);
		lock(&device_lock);
		if (cmos_read(index) != (u8)i)
			fetch_add(&wrong, 1);
		unlock(&device_lock);
	}
	lock(&device_lock);
	cmos_write(index, 0);
	unlock(&device_lock);
}

TEST(cmos, "smp-cmos")
{
	everywhere(hammer_cmos);
}

/* Select and window of the IOAPIC likewise, each processor with an entry of its own. */
static void hammer_ioapic(u32 cpu)
{
	u8 index = 0x11 + 2 * (16 + cpu % 8);
	meet();
	for (u32 i = 0; i < rounds; i++) {
		lock(&device_lock);
		ioapic_write(index, i << 24);
		u32 value = ioapic_read(index);
		unlock(&device_lock);
		if (value != i << 24)
			fetch_add(&wrong, 1);
	}
}

TEST(ioapic, "smp-ioapic")
{
	everywhere(hammer_ioapic);
}

/*
 * All print at once, without a lock; the host counts: processor n's letter is 'A' + n, `rounds`
 * times.
 */
static void hammer_output(u32 cpu)
{
	meet();
	for (u32 i = 0; i < rounds; i++)
		put_char('A' + cpu);
}

TEST(output, "smp-output")
{
	outb(COM1 + FCR, 0x07);
	print("note letters ");
	everywhere(hammer_output);
	print("\n");
}

static void off(u32 cpu)
{
	(void)cpu;
	print("ok smp-poweroff\ndone\n");
	power_off();
}

/* Another processor than the first powers off. */
TEST(poweroff, "smp-poweroff")
{
	smp_start(2);
	smp_call(1, off);
	smp_wait(1);
}
