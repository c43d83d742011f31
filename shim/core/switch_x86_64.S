/* SPDX-License-Identifier: Apache-2.0 */
/* switch.h says what this is.  void ration_switch_(void **save [rdi], void *load [rsi]) */
	.text
	.p2align 4
	.globl ration_switch_
	.hidden ration_switch_
	.type ration_switch_, @function
ration_switch_:
	.cfi_startproc
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	subq $8, %rsp
	.cfi_adjust_cfa_offset 56
	stmxcsr (%rsp)
	fnstcw 4(%rsp)
	movl (%rsp), %ecx
	movzwl 4(%rsp), %edx
	movq %rsp, (%rdi)
	movq %rsi, %rsp
	/* Loading the control words is slow, and they hardly ever differ. */
	cmpl %ecx, (%rsp)
	jne 2f
	cmpw %dx, 4(%rsp)
	jne 2f
1:	addq $8, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
	.cfi_adjust_cfa_offset -56
	ret
	.cfi_adjust_cfa_offset 56
2:	ldmxcsr (%rsp)
	fldcw 4(%rsp)
	jmp 1b
	.cfi_endproc
	.size ration_switch_, . - ration_switch_

	.p2align 4
	.globl ration_g_entry_
	.hidden ration_g_entry_
	.type ration_g_entry_, @function
ration_g_entry_:
	.cfi_startproc
	.cfi_undefined %rip
	xorl %ebp, %ebp
	call *%r12
	ud2
	.cfi_endproc
	.size ration_g_entry_, . - ration_g_entry_

	.section .note.GNU-stack, "", @progbits
