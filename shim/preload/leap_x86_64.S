/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wrappers that must not be in the way when libc's function runs, so they jump there: vfork returns twice on its caller's stack, and dlopen looks who calls it (RUNPATH, name
 * spaces).  process.c has what is done before.
 */
	.text
	.p2align 4
	.globl vfork, __vfork
	.type vfork, @function
	.type __vfork, @function
vfork:
__vfork:
	.cfi_startproc
	subq $8, %rsp
	.cfi_adjust_cfa_offset 8
	call process_before_vfork
	addq $8, %rsp
	.cfi_adjust_cfa_offset -8
	jmp *%rax
	.cfi_endproc
	.size vfork, . - vfork
	.size __vfork, . - __vfork

	.p2align 4
	.globl dlopen
	.type dlopen, @function
dlopen:
	.cfi_startproc
	pushq %rdi
	.cfi_adjust_cfa_offset 8
	movl %esi, %edi
	call process_before_dlopen
	movl %edx, %esi
	popq %rdi
	.cfi_adjust_cfa_offset -8
	jmp *%rax
	.cfi_endproc
	.size dlopen, . - dlopen

	.hidden process_before_vfork, process_before_dlopen
	.section .note.GNU-stack, "", @progbits
