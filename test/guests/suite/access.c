/* Accesses of every width, also where nobody answers, and string instructions. */
#include "cmos.h"
#include "serial.h"
#include "../lib/test.h"
#include "../lib/apic.h"

#define NO_PORT 0x5000
#define NO_MMIO 0xd0000000ul

TEST(unhandled_port, "unhandled-port")
{
	outb(NO_PORT, 0x12);
	outw(NO_PORT, 0x1234);
	outl(NO_PORT, 0x12345678);
	expect("1 byte", inb(NO_PORT), 0xff);
	expect("2 bytes", inw(NO_PORT), 0xffff);
	expect("4 bytes", inl(NO_PORT), 0xffffffff);
	expect("the last port", inb(0xffff), 0xff);
}

TEST(unhandled_mmio, "unhandled-mmio")
{
	write8(NO_MMIO, 0x12);
	write16(NO_MMIO, 0x1234);
	write32(NO_MMIO, 0x12345678);
	write64(NO_MMIO, 0x123456789abcdef0);
	expect("1 byte", read8(NO_MMIO), 0xff);
	expect("2 bytes", read16(NO_MMIO), 0xffff);
	expect("4 bytes", read32(NO_MMIO), 0xffffffff);
	expect("8 bytes", read64(NO_MMIO), ~0ul);
	expect("4 bytes across a page", read32(NO_MMIO + 0xffe), 0xffffffff);
	expect("8 bytes, not aligned", read64(NO_MMIO + 3), ~0ul);
}

/*
 * The IOAPIC's registers are 32 bits wide, at 0x00 and 0x10; what lies between reads 0 or is the
 * register again.
 */
TEST(mmio_widths, "mmio-widths")
{
	ioapic_write(0x11 + 2 * 23, 0x5a000000);
	write32(IOAPIC, 0x11 + 2 * 23);
	expect("4 bytes", read32(IOAPIC + 0x10), 0x5a000000);
	expect("8 bytes, low half", (u32)read64(IOAPIC + 0x10), 0x5a000000);
	write64(IOAPIC, IOAPIC_VERSION);
	expect("8 bytes written, low half", read32(IOAPIC) & 0xff, IOAPIC_VERSION);
	ioapic_write(0x11 + 2 * 23, 0);
}

/* A wide access to 8-bit ports is one byte after another, the lowest port first. */
TEST(port_widths, "port-widths")
{
	outb(COM1 + LCR, 0x83);
	outw(COM1 + DLL, 0x1234);
	expect("DLL", inb(COM1 + DLL), 0x34);
	expect("DLM", inb(COM1 + DLM), 0x12);
	expect("both", inw(COM1 + DLL), 0x1234);
	outw(COM1 + DLL, 0x0001);
	outb(COM1 + LCR, 0x03);
	outb(COM1 + SCR, 0x5a);
	expect("MCR, LSR, MSR and SCR", inl(COM1 + MCR) & 0xff00ffff, 0x5a006000 | inb(COM1 + MCR));
	outw(0x70, 0x7751);
	expect("CMOS index and data", cmos_read(0x51), 0x77);
	cmos_write(0x51, 0);
}

/* chv's bus decides a straddling access itself: all ones, and writes vanish. */
TEST(straddle, "straddle")
{
	outb(COM1 + SCR, 0x5a);
	outw(COM1 + SCR, 0x1234);
	outl(COM1 + LSR, 0x12345678);
	expect("the write vanished", inb(COM1 + SCR), 0x5a);
	expect("2 bytes", inw(COM1 + SCR), 0xffff);
	expect("4 bytes", inl(COM1 + LSR), 0xffffffff);
}

TEST(string_in, "string-in")
{
	u8 bytes[8] = { 0 };
	u16 words[4] = { 0 };
	u32 longs[4] = { 0 };
	outb(COM1 + SCR, 0x3c);
	insb(COM1 + SCR, bytes, 8);
	insw(NO_PORT, words, 4);
	insl(NO_PORT, longs, 4);
	for (u32 i = 0; i < 8; i++)
		expect("insb", bytes[i], 0x3c);
	for (u32 i = 0; i < 4; i++) {
		expect("insw", words[i], 0xffff);
		expect("insl", longs[i], 0xffffffff);
	}
}

TEST(string_out, "string-out")
{
	static const u8 bytes[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	outb(COM1 + FCR, 0x07);
	outb(COM1 + MCR, 0x10); /* loopback: every byte comes back */
	outsb(COM1 + THR, bytes, 8);
	for (u32 i = 0; i < 8; i++) {
		expect("data ready", WAIT(inb(COM1 + LSR) & LSR_DR), 1);
		expect("outsb", inb(COM1 + RBR), i + 1);
	}
	outsb(COM1 + SCR, bytes, 8);
	expect("the last byte stays", inb(COM1 + SCR), 8);
}

/* A fetch from an address where nobody answers: KVM cannot go on. The VMM says where. */
TEST(bad_exit, "bad-exit")
{
	((void (*)(void))NO_MMIO)();
	expect("came back", 1, 0);
}
