/* The IDT, one for all processors. */
#ifndef INTERRUPTS_H
#define INTERRUPTS_H
#include "io.h"

/* What vectors.S pushes, from the last to the first. */
struct frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
	u64 vector, error;
	u64 rip, cs, rflags, rsp, ss;
};
typedef void (*interrupt_handler)(struct frame *frame);

void interrupts_init(void);
/* Loads the IDT on this processor. */
void interrupts_load(void);
/*
 * A vector without a handler ends the program with `not ok` and the frame. The handler sends EOI
 * itself.
 */
void on_interrupt(u8 vector, interrupt_handler handler);

static inline void interrupts_on(void)
{
	__asm__ volatile("sti" : : : "memory");
}

static inline void interrupts_off(void)
{
	__asm__ volatile("cli" : : : "memory");
}

/* Sleeps until an interrupt was served. None is lost: STI takes effect after HLT began. */
static inline void halt(void)
{
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

#endif
