/*
 * 256 interrupt entries, 16 bytes each, which all end in interrupt_dispatch(frame): see
 * interrupts.h for the frame. Exceptions that push an error code (Intel SDM volume 3, table 6-1)
 * keep it; the others push 0.
 */
	.text
	.balign	16
	.globl	vectors
vectors:
	.set	vector, 0
	.rept	256
	.balign	16
	.set	pushes_error, vector == 8 || (vector >= 10 && vector <= 14) || vector == 17
	.set	pushes_error, pushes_error || vector == 21 || vector == 29 || vector == 30
	.if !pushes_error
	pushq	$0
	.endif
	pushq	$vector
	jmp	common
	.set	vector, vector + 1
	.endr

common:
	pushq	%rax
	pushq	%rbx
	pushq	%rcx
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	pushq	%rbp
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	cld
	movq	%rsp, %rdi
	movq	%rsp, %rbp
	andq	$-16, %rsp
	call	interrupt_dispatch
	movq	%rbp, %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rbp
	popq	%rdi
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%rbx
	popq	%rax
	addq	$16, %rsp
	iretq
	.section .note.GNU-stack, "", @progbits
