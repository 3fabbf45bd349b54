/* The 16550A as National's PC16550D datasheet has it, section 8: registers, FIFO, loopback. */
#include "serial.h"
#include "../lib/test.h"

static u8 get(u32 register_)
{
	return inb(COM1 + register_);
}

static void set(u32 register_, u8 value)
{
	outb(COM1 + register_, value);
}

/* Must be the first test of a boot: nothing has touched the port. */
TEST(reset_values, "serial-reset")
{
	expect("IER", get(IER), 0);
	expect("IIR", get(IIR), 0x01);
	expect("LSR", get(LSR), 0x60);
	expect("MSR's delta bits", get(MSR) & 0x0f, 0);
}

TEST(scratch, "serial-scratch")
{
	static const u8 values[] = { 0x00, 0x55, 0xaa, 0xff, 0x80, 0x01 };
	for (u32 i = 0; i < sizeof(values); i++) {
		set(SCR, values[i]);
		expect("SCR", get(SCR), values[i]);
	}
}

TEST(registers, "serial-registers")
{
	set(IER, 0xff);
	expect("IER keeps four bits", get(IER), 0x0f);
	set(IER, 0);
	set(MCR, 0xff);
	expect("MCR keeps five bits", get(MCR), 0x1f);
	set(MCR, 0x08);
	set(LCR, 0x5b);
	expect("LCR", get(LCR), 0x5b);

	set(LCR, 0x83);
	set(DLL, 0x34);
	set(DLM, 0x12);
	expect("DLL", get(DLL), 0x34);
	expect("DLM", get(DLM), 0x12);
	set(LCR, 0x03);
	expect("IER beside the divisor", get(IER), 0);
	set(LCR, 0x83);
	expect("DLL kept", get(DLL), 0x34);
	set(DLL, 1);
	set(DLM, 0);
	set(LCR, 0x03);

	set(FCR, 0x01);
	expect("IIR with FIFO", get(IIR), 0xc1);
	set(FCR, 0x00);
	expect("IIR without FIFO", get(IIR), 0x01);
	expect("LSR idle", get(LSR), 0x60);
}

TEST(loopback, "serial-loopback")
{
	set(MCR, 0x10);
	expect("modem inputs, all low", get(MSR) & 0xf0, 0x00);
	set(MCR, 0x11);
	expect("DTR is DSR", get(MSR) & 0xf0, 0x20);
	set(MCR, 0x12);
	expect("RTS is CTS", get(MSR) & 0xf0, 0x10);
	set(MCR, 0x14);
	expect("OUT1 is RI", get(MSR) & 0xf0, 0x40);
	set(MCR, 0x18);
	expect("OUT2 is DCD", get(MSR) & 0xf0, 0x80);

	for (u32 value = 0; value < 256; value += 51) {
		set(THR, value);
		expect("data ready", WAIT(get(LSR) & LSR_DR), 1);
		expect("byte", get(RBR), value);
		expect("LSR after it", get(LSR), 0x60);
	}
}

TEST(loopback_delta, "serial-loopback-delta")
{
	set(MCR, 0x10);
	get(MSR);
	set(MCR, 0x13);
	expect("DSR and CTS rose", get(MSR), 0x33);
	expect("deltas cleared by the read", get(MSR), 0x30);
	set(MCR, 0x14);
	expect("both fell", get(MSR), 0x43);
	set(MCR, 0x10);
	expect("RI's trailing edge", get(MSR), 0x04);
	set(IER, IER_MODEM);
	set(MCR, 0x18);
	expect("IIR: modem status", get(IIR) & 0x0f, IIR_MODEM);
	expect("DCD changed", get(MSR), 0x88);
	expect("IIR after MSR was read", get(IIR) & 0x0f, IIR_NONE);
}

static void send(u32 count)
{
	for (u32 i = 0; i < count; i++)
		set(THR, 0x30 + i);
}

TEST(fifo, "serial-fifo")
{
	set(FCR, 0x07);
	set(MCR, 0x10);
	send(16);
	for (u32 i = 0; i < 16; i++) {
		expect("data ready", WAIT(get(LSR) & LSR_DR), 1);
		expect("byte in order", get(RBR), 0x30 + i);
	}
	expect("LSR when empty", get(LSR), 0x60);

	send(3);
	set(FCR, 0x03); /* FIFO stays on, receiver cleared */
	expect("LSR after the clear", get(LSR), 0x60);
}

TEST(overrun, "serial-overrun")
{
	set(FCR, 0x07);
	set(MCR, 0x10);
	send(17);
	expect("LSR: overrun, data", get(LSR), 0x63);
	expect("LSR: the read cleared it", get(LSR), 0x61);
	for (u32 i = 0; i < 16; i++)
		expect("the FIFO's bytes stay", get(RBR), 0x30 + i);
	expect("LSR at the end", get(LSR), 0x60);

	set(FCR, 0x00);
	set(THR, 'a');
	set(THR, 'b');
	expect("LSR without FIFO", get(LSR), 0x63);
	expect("the newer byte stays", get(RBR), 'b');
}

/* Priorities: table 2 of section 8.6. */
TEST(causes, "serial-causes")
{
	set(FCR, 0x00);
	set(MCR, 0x10);
	set(IER, IER_TRANSMIT);
	expect("IIR: transmitter empty", get(IIR), IIR_TRANSMIT);
	expect("the read cleared it", get(IIR), IIR_NONE);
	set(IER, 0);
	set(IER, IER_RECEIVE | IER_TRANSMIT | IER_LINE);
	set(THR, 'x');
	expect("IIR: data before transmitter", get(IIR), IIR_RECEIVE);
	set(THR, 'y');
	expect("IIR: line status first", get(IIR), IIR_LINE);
	get(LSR);
	expect("IIR: then data", get(IIR), IIR_RECEIVE);
	get(RBR);
	expect("IIR: then the transmitter", get(IIR), IIR_TRANSMIT);
	expect("IIR: nothing left", get(IIR), IIR_NONE);
}

TEST(trigger, "serial-trigger")
{
	set(FCR, 0x87); /* trigger level 8 */
	set(MCR, 0x10);
	set(IER, IER_RECEIVE);
	send(7);
	expect("IIR: timeout below the level", WAIT((get(IIR) & 0x0f) == IIR_TIMEOUT), 1);
	for (u32 i = 0; i < 7; i++)
		get(RBR);
	expect("IIR: read", get(IIR), 0xc0 | IIR_NONE);
	send(8);
	expect("IIR: the level is reached", get(IIR) & 0x0f, IIR_RECEIVE);
	for (u32 i = 0; i < 8; i++)
		get(RBR);
	expect("IIR: empty", get(IIR), 0xc0 | IIR_NONE);
}
