/*
 * What the firmware reads from the disk and enters, 64 sectors of it: a jump to the last one, which speaks on the serial
 * port, tells the debug port that userspace is reached, and powers off. Not part of the firmware.
 */
	.text
	.globl	_start
_start:
	jmp	last
	.org	63 * 512
last:
	leaq	text(%rip), %rsi
1:	movl	$0x3fd, %edx		/* line status */
2:	inb	(%dx), %al
	testb	$0x20, %al
	jz	2b
	lodsb
	testb	%al, %al
	jz	3f
	movl	$0x3f8, %edx
	outb	%al, (%dx)
	jmp	1b
3:	movb	$0x60, %al
	outb	%al, $0x80
	movl	$0x600, %edx		/* sleep control: S5, SLP_EN */
	movb	$0x34, %al
	outb	%al, (%dx)
4:	hlt
	jmp	4b
text:
	.asciz	"from the disk\n"
	.org	64 * 512
	.section .note.GNU-stack, "", @progbits
