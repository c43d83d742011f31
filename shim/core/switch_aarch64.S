/* SPDX-License-Identifier: Apache-2.0 */
/* switch.h says what this is.  void ration_switch_(void **save [x0], void *load [x1]) */
	.text
	.p2align 4
	.globl ration_switch_
	.hidden ration_switch_
	.type ration_switch_, %function
ration_switch_:
	.cfi_startproc
	sub sp, sp, #176
	.cfi_adjust_cfa_offset 176
	stp x19, x20, [sp, #0]
	stp x21, x22, [sp, #16]
	stp x23, x24, [sp, #32]
	stp x25, x26, [sp, #48]
	stp x27, x28, [sp, #64]
	stp x29, x30, [sp, #80]
	stp d8, d9, [sp, #96]
	stp d10, d11, [sp, #112]
	stp d12, d13, [sp, #128]
	stp d14, d15, [sp, #144]
	mrs x9, fpcr
	str x9, [sp, #160]
	mov x10, sp
	str x10, [x0]
	mov sp, x1
	ldr x11, [sp, #160]
	cmp x11, x9
	b.eq 1f
	msr fpcr, x11
1:	ldp x19, x20, [sp, #0]
	ldp x21, x22, [sp, #16]
	ldp x23, x24, [sp, #32]
	ldp x25, x26, [sp, #48]
	ldp x27, x28, [sp, #64]
	ldp x29, x30, [sp, #80]
	ldp d8, d9, [sp, #96]
	ldp d10, d11, [sp, #112]
	ldp d12, d13, [sp, #128]
	ldp d14, d15, [sp, #144]
	add sp, sp, #176
	.cfi_adjust_cfa_offset -176
	ret
	.cfi_endproc
	.size ration_switch_, . - ration_switch_

	.p2align 4
	.globl ration_g_entry_
	.hidden ration_g_entry_
	.type ration_g_entry_, %function
ration_g_entry_:
	.cfi_startproc
	.cfi_undefined x30
	mov x29, xzr
	mov x30, xzr
	blr x19
	brk #1
	.cfi_endproc
	.size ration_g_entry_, . - ration_g_entry_

	.section .note.GNU-stack, "", @progbits
