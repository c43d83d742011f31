/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_TP_H
#define RATION_CORE_TP_H
/*
 * The thread pointer: the register by which all that is the thread's is found (FS base, TPIDR_EL0).  A thread G has one of its own, light Gs use their
 * carrier's.  Nothing that is reached by it may be kept over tp_set, nor over a switch of Gs: functions that do either keep to the carrier that they were given.
 */
#include <stdbool.h>
#include <stddef.h>
#include "core/sys.h"

/*
 * At least so many bytes around the thread pointer are thread-local variables at a fixed distance from it, and what glibc has of a thread: as much as the program, and its libraries,
 * want of them; whole pages.  They are part of a thread's stack.  The first call, at the start, is no handler's.
 */
size_t tp_static_bytes(void);
#define TP_STATIC_LEAST 65536u

#if defined(__x86_64__)
extern bool tp_by_instruction; /* the kernel lets user code write FS (Linux >= 5.9); set once */
#ifndef ARCH_SET_FS
#define ARCH_SET_FS 0x1002
#endif
#endif

static inline void *tp_get(void) {
#if defined(__x86_64__)
  void *tp;
  __asm__ volatile("movq %%fs:0, %0" : "=r"(tp));
#else
  void *tp;
  __asm__ volatile("mrs %0, tpidr_el0" : "=r"(tp));
#endif
  return tp;
}

static inline void tp_set(void *tp) {
#if defined(__x86_64__)
  if (__builtin_expect(tp_by_instruction, 1))
    __asm__ volatile("wrfsbase %0" : : "r"(tp) : "memory");
  else
    raw_syscall2(SYS_arch_prctl, ARCH_SET_FS, (long)tp);
#else
  __asm__ volatile("msr tpidr_el0, %0" : : "r"(tp) : "memory");
#endif
}

#endif
