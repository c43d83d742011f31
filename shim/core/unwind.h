/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_UNWIND_H
#define RATION_CORE_UNWIND_H
/* Stacks of others, that do not run: by .eh_frame, or by frame pointers where there is none.  unwind.c says how. */
#include <stdbool.h>
#include <stdint.h>
#include "core/symbol.h"

#if defined(__x86_64__)
#define UNWIND_REGS 17u /* DWARF numbers: 6 rbp, 7 rsp, 16 return address */
#define UNWIND_FP 6u
#define UNWIND_SP 7u
#else
#define UNWIND_REGS 33u /* 29 fp, 30 lr, 31 sp */
#define UNWIND_FP 29u
#define UNWIND_SP 31u
#endif

struct unwind_regs {
  uintptr_t pc;
  uint64_t r[UNWIND_REGS];
  uint64_t known; /* bits */
};

_Static_assert(offsetof(struct unwind_regs, r) == 8, "unwind_from_here");

struct unwind;
/* Of a G that was left by ration_switch. */
void unwind_from_switch(struct unwind_regs *regs, const void *sp);
/* Of a thread that a signal handler got this context for. */
void unwind_from_context(struct unwind_regs *regs, const void *uctx);
/* Only these two are known. */
void unwind_from_pc(struct unwind_regs *regs, uintptr_t pc, uintptr_t sp);

/* Of the caller, which must not return before they are used. */
static inline __attribute__((always_inline)) void unwind_from_here(struct unwind_regs *regs) {
#if defined(__x86_64__)
  __asm__ volatile(
      "lea 0(%%rip), %%rax\n\tmov %%rax, (%0)\n\tmov %%rbx, 32(%0)\n\tmov %%rbp, 56(%0)\n\tmov %%rsp, 64(%0)\n\t"
      "mov %%r12, 104(%0)\n\tmov %%r13, 112(%0)\n\tmov %%r14, 120(%0)\n\tmov %%r15, 128(%0)"
      :
      : "r"(regs)
      : "rax", "memory");
  regs->known = 0xf0c8;
#else
  __asm__ volatile(
      "adr x9, .\n\tstr x9, [%0]\n\tstp x19, x20, [%0, #160]\n\tstp x21, x22, [%0, #176]\n\tstp x23, x24, [%0, #192]\n\t"
      "stp x25, x26, [%0, #208]\n\tstp x27, x28, [%0, #224]\n\tstp x29, x30, [%0, #240]\n\tmov x9, sp\n\tstr x9, [%0, #256]"
      :
      : "r"(regs)
      : "x9", "memory");
  regs->known = (uint64_t)0x1fff << 19;
#endif
}

/* Null: no memory.  It needs `s` as long as it is used. */
struct unwind *unwind_open(struct symbols *s);
void unwind_close(struct unwind *u);

struct unwind_range {
  uintptr_t low, high;
};

/*
 * The frames, innermost first, at most `most` of them.  Nothing but these n (at most 2) stretches of memory is read: the stack, and the one for signals.  A frame is pc << 1, with bit 0
 * set where pc is a return address.  ret: regs->pc is one.  Returns how many.
 */
uint32_t unwind_stack(struct unwind *u, struct unwind_regs *regs, bool ret, const struct unwind_range *on, unsigned n, uintptr_t *frames,
                      uint32_t most);

#endif
