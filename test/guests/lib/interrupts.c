#include "interrupts.h"
#include "power.h"
#include "print.h"

/* A gate of the 64-bit IDT: Intel SDM volume 3, figure 6-8. */
struct gate {
	u16 offset_low, selector, type, offset_middle;
	u32 offset_high, reserved;
};
static struct gate idt[256] __attribute__((aligned(16)));
static interrupt_handler handlers[256];
extern const u8 vectors[];

void interrupts_load(void)
{
	struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} pointer = { sizeof(idt) - 1, (u64)idt };
	__asm__ volatile("lidt %0" : : "m"(pointer));
}

static void set_gate(u32 vector)
{
	u64 entry = (u64)vectors + vector * 16;
	idt[vector] = (struct gate){
		.offset_low = (u16)entry,
		.selector = 0x18,
		.type = 0x8e00, /* present, interrupt gate */
		.offset_middle = (u16)(entry >> 16),
		.offset_high = (u32)(entry >> 32),
	};
}

/*
 * Exceptions now; the gates of interrupts when they get a handler: kernel-mode code may be slow. A
 * BIOS leaves its 8259s open; where there is none, the writes go nowhere.
 */
void interrupts_init(void)
{
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	for (u32 vector = 0; vector < 32; vector++)
		set_gate(vector);
	interrupts_load();
}

void on_interrupt(u8 vector, interrupt_handler handler)
{
	handlers[vector] = handler;
	set_gate(vector);
}

void interrupt_dispatch(struct frame *frame)
{
	interrupt_handler handler = handlers[frame->vector];
	if (handler) {
		handler(frame);
		return;
	}
	u64 cr2;
	__asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
	print("not ok exception %u: error %x rip %x rsp %x cr2 %x\n", frame->vector, frame->error,
	      frame->rip, frame->rsp, cr2);
	power_off();
}
