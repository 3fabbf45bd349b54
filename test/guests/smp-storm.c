/*
 * `cpus=N` processors hand tokens on, each by an interrupt that ends the next one's HLT, and do something with each
 * before: wait for the LAPIC's timer, or for the serial port's interrupt by the IOAPIC, edge or level, halted all the
 * time. A wake-up that gets lost stops the guest. `rounds=N`: a line after so many hand-overs, `lines=N`, then the end.
 */
#include "lib/apic.h"
#include "lib/boot.h"
#include "lib/interrupts.h"
#include "lib/io.h"
#include "lib/print.h"
#include "lib/smp.h"

#define TOKEN 0x61
#define TIMER 0x62
#define PIN 0x63
#define SERIAL_PIN 4

static u32 cpus;
static u64 rounds, lines;
static volatile u32 mail[MAX_CPUS], fired[256], raised[256];
static volatile u32 hand_overs, device_lock, over;

static void on_token(struct frame *frame)
{
	(void)frame;
	end_of_interrupt();
}

static void on_timer(struct frame *frame)
{
	(void)frame;
	fired[lapic_id()] = 1;
	end_of_interrupt();
}

/* Some KVMs end a level interrupt as soon as they inject it, so one more may come late. */
static void on_pin(struct frame *frame)
{
	(void)frame;
	inb(COM1 + 2);
	outb(COM1 + 1, 0);
	raised[lapic_id()] = 1;
	end_of_interrupt();
}

static void await(volatile u32 *flag)
{
	while (!*flag)
		halt();
	*flag = 0;
}

static void use_timer(u32 id)
{
	lapic_write(LAPIC_TIMER_DIVIDE, 0xb);
	lapic_write(LAPIC_LVT_TIMER, TIMER);
	lapic_write(LAPIC_TIMER_INITIAL, 20000);
	await(&fired[id]);
}

static void use_pin(u32 id, u32 flags)
{
	lock(&device_lock);
	outb(COM1 + 1, 0);
	outb(COM1 + 4, 0x0b);
	ioapic_route(SERIAL_PIN, PIN | flags, id);
	raised[id] = 0;
	outb(COM1 + 1, 2);
	await(&raised[id]);
	while (ioapic_low(SERIAL_PIN) & RTE_REMOTE_IRR) { /* or its end would be nobody's, as Linux knows */
		interrupts_on();
		pause();
		interrupts_off();
	}
	ioapic_mask(SERIAL_PIN);
	unlock(&device_lock);
}

static void report(u32 count)
{
	if (count % rounds)
		return;
	lock(&device_lock);
	print("passed %u\n", (u64)count);
	unlock(&device_lock);
	if (count / rounds == lines)
		over = 1;
}

static void pass(u32 to)
{
	fetch_add(&mail[to], 1);
	send_ipi(smp_apic_id(to), ICR_FIXED | TOKEN);
}

static void play(u32 cpu)
{
	u32 id = lapic_id();
	for (u32 taken = 0; !over; taken++) {
		while (mail[cpu] == taken)
			halt();
		if (over)
			break;
		if (taken % 4 == 1)
			use_timer(id);
		else if (taken % 4 == 2)
			use_pin(id, taken & 4 ? RTE_LEVEL : 0);
		report(fetch_add(&hand_overs, 1) + 1);
		pass((cpu + 1) % cpus);
	}
	for (u32 other = 0; other < cpus; other++)
		if (other != cpu)
			pass(other);
}

void guest_main(void)
{
	u32 wanted = argument_number("cpus", 2);
	rounds = argument_number("rounds", 1000);
	lines = argument_number("lines", 1000000);
	on_interrupt(TOKEN, on_token);
	on_interrupt(TIMER, on_timer);
	on_interrupt(PIN, on_pin);
	cpus = smp_start(wanted);
	print("up %u\n", (u64)cpus);
	for (u32 cpu = 1; cpu < cpus; cpu++)
		smp_call(cpu, play);
	for (u32 token = 0; token <= cpus / 4; token++)
		pass(token * 2 % cpus);
	play(0);
	for (u32 cpu = 1; cpu < cpus; cpu++)
		smp_wait(cpu);
	print("over\n");
}
