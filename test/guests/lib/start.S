/*
 * Entry of every guest: the PVH note, the 32-bit entry that the Xen "x86/HVM direct boot ABI"
 * describes (docs/misc/pvh.pandoc: flat 32-bit protected mode, paging off, EBX = hvm_start_info),
 * and from there 64-bit long mode with the low 4 GiB mapped to themselves. Ends in
 * guest_start(start_info) on a stack of its own.
 */
	.section .note.pvh, "a", @note
	.balign	4
	.long	4, 8, 18		/* name and descriptor sizes, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz	"Xen"
	.quad	start32			/* 8 bytes: QEMU reads as many from a 64-bit ELF */

	.text
	.code32
	.globl	start32
start32:
	cli
	movl	%ebx, %esi		/* hvm_start_info, kept until long mode */
	lgdt	gdt_pointer
	movl	$(boot_stack + 16384), %esp
	call	enter_long
	ljmpl	$0x18, $start64

/*
 * From flat 32-bit code: turns on paging and long mode. The caller far-jumps to 64-bit code next.
 */
	.globl	enter_long
enter_long:
	movl	%cr4, %eax
	orl	$0x20, %eax		/* PAE */
	movl	%eax, %cr4
	movl	$page_map, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx	/* EFER */
	rdmsr
	orl	$0x100, %eax		/* LME */
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000001, %eax	/* PG, PE */
	andl	$0x9fffffff, %eax	/* caches on */
	movl	%eax, %cr0
	ret

	.code64
start64:
	xorl	%eax, %eax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %fs
	movw	%ax, %gs
	movw	%ax, %ss
	movl	%esi, %edi
	call	guest_start
1:	hlt
	jmp	1b

/*
 * Where an application processor arrives in long mode (smp.c copied `trampoline` low and sent
 * SIPI).
 */
ap_start64:
	xorl	%eax, %eax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %fs
	movw	%ax, %gs
	movw	%ax, %ss
	movl	$1, %edi
	lock xaddl %edi, ap_count	/* this processor's number among those that came up: from 1 */
	movl	%edi, %eax
	imull	$AP_STACK, %eax
	leaq	ap_stacks(%rax), %rsp
	call	ap_main
1:	hlt
	jmp	1b

/* Real mode, CS = the page that SIPI named, IP = 0. The copy finds its data relative to CS. */
	.code16
	.globl	trampoline, trampoline_end
trampoline:
	cli
	movw	%cs, %ax
	movw	%ax, %ds
	lgdtl	trampoline_gdt_pointer - trampoline
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmpl	$0x08, $ap_start32
trampoline_gdt_pointer:
	.word	gdt_end - gdt - 1
	.long	gdt
trampoline_end:

	.code32
ap_start32:
	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$1, %eax		/* one at a time on the start-up stack: `call` needs one */
1:	xchgl	%eax, ap_lock
	testl	%eax, %eax
	jz	2f
	pause
	movl	$1, %eax
	jmp	1b
2:	movl	$(ap_boot_stack + 64), %esp
	call	enter_long
	movl	$0, ap_lock
	ljmpl	$0x18, $ap_start64

	.data
	.balign	16
	.globl	gdt
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	/* 0x08: 32-bit code, flat */
	.quad	0x00cf93000000ffff	/* 0x10: data, flat */
	.quad	0x00af9b000000ffff	/* 0x18: 64-bit code */
gdt_end:
gdt_pointer:
	.word	gdt_end - gdt - 1
	.long	gdt
	.long	0
	.globl	ap_count
ap_count:
	.long	1
ap_lock:
	.long	0
ap_boot_stack:
	.skip	64

/* The low 4 GiB by 2 MiB pages; the last GiB, where devices are, uncached. */
	.balign	4096
	.globl	page_map
page_map:
	.quad	page_pointers + 3
	.skip	511 * 8
page_pointers:
	.quad	page_directories + 3, page_directories + 0x1003
	.quad	page_directories + 0x2003, page_directories + 0x3003
	.skip	508 * 8
page_directories:
	.set	page, 0
	.rept	1536
	.quad	(page << 21) | 0x83
	.set	page, page + 1
	.endr
	.rept	512
	.quad	(page << 21) | 0x9b
	.set	page, page + 1
	.endr

	.bss
	.balign	16
boot_stack:
	.skip	16384
	.globl	ap_stacks
	.set	AP_STACK, 4096
ap_stacks:				/* processor n's stack ends at ap_stacks + n * AP_STACK */
	.skip	255 * AP_STACK
	.section .note.GNU-stack, "", @progbits
