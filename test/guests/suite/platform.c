/* The PM timer, the debug port, the keyboard controller, and what a hypervisor says of itself. */
#include "../lib/test.h"
#include "../lib/apic.h"
#include "../lib/smp.h"

#define PM_TIMER 0x608

/*
 * ACPI 6.5 section 4.8.3.3: 3.579545 MHz, 24 or 32 bits. Modulo 24 bits suits both: half of them pass in 2.3 s, so
 * two looks that are farther apart, on a host that had other things to do, say nothing.
 */
TEST(pm_timer, "pm-timer")
{
	u64 tsc_start = rdtsc(), tsc_last = tsc_start;
	u32 start = inl(PM_TIMER), last = start, backwards = 0;
	for (u32 i = 0; i < 1000; i++) {
		u32 value = inl(PM_TIMER);
		u64 now = rdtsc();
		if (now - tsc_last < MOMENT && ((value - last) & 0xffffff) >= 0x800000)
			backwards++;
		last = value;
		tsc_last = now;
	}
	u64 tsc = tsc_last - tsc_start;
	expect("never backwards", backwards, 0);
	expect("it runs", ((last - start) & 0xffffff) != 0, 1);
	print("note tsc-per-tick %u\n", tsc / (((last - start) & 0xffffff) | 1));
}

/* Ready at once, as `reboot=k` wants it; guests wait for port 0x61's refresh bit to change. */
TEST(i8042, "i8042")
{
	expect("status", inb(0x64), 0);
	outb(0x64, 0xaa); /* self test: no keyboard is there to answer, and nothing resets */
	expect("status after a command", inb(0x64), 0);
	u8 refresh = inb(0x61) & 0x10;
	expect("the refresh bit changes", WAIT((inb(0x61) & 0x10) != refresh), 1);
	outb(0x61, 0x03);
	expect("gate and speaker", inb(0x61) & 0x0f, 0x03);
	outb(0x61, 0);
}

/* One code of each range that the VMM names, twice, and both ends. */
TEST(debug_port, "debug-port")
{
	static const u8 codes[] = { 0x00, 0x1f, 0x20, 0x41, 0x5f, 0x60, 0x7f, 0x80, 0xff, 0xff };
	for (u32 i = 0; i < sizeof(codes); i++)
		debug_code(codes[i]);
}

TEST(hypervisor, "cpuid-hypervisor")
{
	struct cpuid c = cpuid(0x40000000, 0);
	expect("hypervisor bit", cpuid(1, 0).ecx >> 31, 1);
	expect("KVMK", c.ebx, 0x4b4d564b);
	expect("VMKV", c.ecx, 0x564b4d56);
	expect("M", c.edx, 0x4d);
	expect("kvmclock offered", cpuid(0x40000001, 0).eax >> 3 & 1, 1);
}

/* Linux, Documentation/virt/kvm/x86/msr.rst: MSR_KVM_SYSTEM_TIME_NEW. */
struct time_info {
	volatile u32 version;
	u32 pad;
	volatile u64 tsc_timestamp, system_time;
	volatile u32 tsc_to_system_mul;
	signed char tsc_shift;
	u8 flags, pad2[2];
};

TEST(kvmclock, "kvmclock")
{
	static struct time_info info __attribute__((aligned(64)));
	wrmsr(0x4b564d01, (u64)&info | 1);
	expect("filled in", WAIT(info.version && !(info.version & 1)), 1);
	expect("a scale", info.tsc_to_system_mul != 0, 1);
	expect("not from the future", info.tsc_timestamp <= rdtsc(), 1);
	wrmsr(0x4b564d01, 0);
}

static u32 cpuid_ids[MAX_CPUS], topology_ids[MAX_CPUS];

static void read_ids(u32 cpu)
{
	cpuid_ids[cpu] = cpuid(1, 0).ebx >> 24;
	topology_ids[cpu] = cpuid(0xb, 0).edx;
}

/*
 * Needs a KVM that shows guests the CPUID that was set: the id in leaves 1 and 0xb is the LAPIC's.
 */
TEST(topology, "cpuid-topology")
{
	u32 cpus = smp_start(argument_number("cpus", 2));
	read_ids(0);
	for (u32 cpu = 1; cpu < cpus; cpu++) {
		smp_call(cpu, read_ids);
		smp_wait(cpu);
	}
	for (u32 cpu = 0; cpu < cpus; cpu++) {
		expect("leaf 1's APIC id", cpuid_ids[cpu], smp_apic_id(cpu));
		expect("leaf 0xb's x2APIC id", topology_ids[cpu], smp_apic_id(cpu));
	}
}
