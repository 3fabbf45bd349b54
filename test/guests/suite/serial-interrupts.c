/* The serial port's interrupt at IOAPIC pin 4, its input and its output. */
#include "serial.h"
#include "../lib/test.h"
#include "../lib/apic.h"
#include "../lib/interrupts.h"

#define VECTOR 0x44

static volatile u32 count;
static volatile u8 causes[16];

static void on_serial(struct frame *frame)
{
	(void)frame;
	if (count < sizeof(causes))
		causes[count] = inb(COM1 + IIR) & 0x0f;
	count++;
	end_of_interrupt();
}

static void listen(u8 enable)
{
	count = 0;
	lapic_enable();
	on_interrupt(VECTOR, on_serial);
	ioapic_route(SERIAL_PIN, VECTOR, lapic_id());
	outb(COM1 + MCR, 0x0b); /* DTR, RTS, OUT2: on a PC, OUT2 opens the line */
	interrupts_on();
	outb(COM1 + IER, enable);
}

TEST(transmit_interrupt, "serial-transmit-interrupt")
{
	listen(IER_TRANSMIT);
	expect("interrupt when enabled", WAIT(count == 1), 1);
	outb(COM1 + THR, '\n');
	expect("interrupt after a byte", WAIT(count == 2), 1);
	linger();
	interrupts_off();
	expect("no more", count, 2);
	expect("cause", causes[0], IIR_TRANSMIT);
	expect("cause", causes[1], IIR_TRANSMIT);
}

/* Wants input: echoes `bytes=N` of it, received by interrupt and HLT alone. */
static volatile u32 received;
static u8 echo[256];

static void on_input(struct frame *frame)
{
	(void)frame;
	while (inb(COM1 + LSR) & LSR_DR) {
		u8 byte = inb(COM1 + RBR);
		if (received < sizeof(echo))
			echo[received] = byte;
		received++;
	}
	end_of_interrupt();
}

TEST(input, "serial-input")
{
	u32 bytes = argument_number("bytes", 5);
	lapic_enable();
	on_interrupt(VECTOR, on_input);
	ioapic_route(SERIAL_PIN, VECTOR, lapic_id());
	outb(COM1 + FCR, argument_is("fifo", "on") ? 0x81 : 0x00);
	outb(COM1 + MCR, 0x0b);
	print("note ready yes\n");
	outb(COM1 + IER, IER_RECEIVE);
	while (received < bytes)
		halt();
	serial_quiet();
	expect("bytes", received, bytes);
	print("note echo ");
	for (u32 i = 0; i < received && i < sizeof(echo); i++)
		put_char(echo[i]);
	print("\n");
}

/*
 * `bytes=N` of output, as fast as LSR allows: 16 at a time when the FIFO is empty, by one string
 * instruction.
 */
TEST(output, "serial-output")
{
	static const char text[17] = "0123456789abcdef";
	u32 bytes = argument_number("bytes", 65536);
	outb(COM1 + FCR, 0x07);
	print("note start yes\n");
	for (u32 sent = 0; sent < bytes; sent += 16) {
		while (!(inb(COM1 + LSR) & LSR_THRE))
			pause();
		outsb(COM1 + THR, text, 16);
	}
	print("\nnote end yes\n");
}
