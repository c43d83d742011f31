/* SPDX-License-Identifier: Apache-2.0 */
/* leap_x86_64.S says what this is. */
	.text
	.p2align 4
	.globl vfork, __vfork
	.type vfork, %function
	.type __vfork, %function
vfork:
__vfork:
	.cfi_startproc
	stp x29, x30, [sp, #-16]!
	.cfi_adjust_cfa_offset 16
	.cfi_rel_offset x29, 0
	.cfi_rel_offset x30, 8
	bl process_before_vfork
	mov x16, x0
	ldp x29, x30, [sp], #16
	.cfi_adjust_cfa_offset -16
	.cfi_restore x29
	.cfi_restore x30
	br x16
	.cfi_endproc
	.size vfork, . - vfork
	.size __vfork, . - __vfork

	.p2align 4
	.globl dlopen
	.type dlopen, %function
dlopen:
	.cfi_startproc
	stp x29, x30, [sp, #-32]!
	.cfi_adjust_cfa_offset 32
	.cfi_rel_offset x29, 0
	.cfi_rel_offset x30, 8
	str x0, [sp, #16]
	mov w0, w1
	bl process_before_dlopen
	mov x16, x0
	ldr x0, [sp, #16]
	ldp x29, x30, [sp], #32
	.cfi_adjust_cfa_offset -32
	.cfi_restore x29
	.cfi_restore x30
	br x16
	.cfi_endproc
	.size dlopen, . - dlopen

	.hidden process_before_vfork, process_before_dlopen
	.section .note.GNU-stack, "", @progbits
