/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PROTO_RAWSYS_H
#define RATION_PROTO_RAWSYS_H
/*
 * System calls without libc: the result is what the kernel returned, -errno on
 * failure.  No errno, no cancellation point, no TLS: safe on a thread whose FS
 * base is a dummy, between vfork and exec, and in a signal handler.  Not for
 * calls that return in two threads on different stacks (clone with a stack, vfork).
 *
 * Every argument is widened to long; pass pointers as (long)p.  Each asm
 * clobbers memory, so it also is a compiler barrier.
 */
#include <sys/syscall.h> /* the numbers only */

#if defined(__x86_64__)

static inline long raw_syscall6(long nr, long a0, long a1, long a2, long a3, long a4, long a5) {
  long ret;
  register long r10 __asm__("r10") = a3;
  register long r8 __asm__("r8") = a4;
  register long r9 __asm__("r9") = a5;
  __asm__ volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a0), "S"(a1), "d"(a2), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return ret;
}

static inline long raw_syscall5(long nr, long a0, long a1, long a2, long a3, long a4) {
  long ret;
  register long r10 __asm__("r10") = a3;
  register long r8 __asm__("r8") = a4;
  __asm__ volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a0), "S"(a1), "d"(a2), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
  return ret;
}

static inline long raw_syscall4(long nr, long a0, long a1, long a2, long a3) {
  long ret;
  register long r10 __asm__("r10") = a3;
  __asm__ volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a0), "S"(a1), "d"(a2), "r"(r10) : "rcx", "r11", "memory");
  return ret;
}

static inline long raw_syscall3(long nr, long a0, long a1, long a2) {
  long ret;
  __asm__ volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a0), "S"(a1), "d"(a2) : "rcx", "r11", "memory");
  return ret;
}

static inline long raw_syscall2(long nr, long a0, long a1) {
  long ret;
  __asm__ volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a0), "S"(a1) : "rcx", "r11", "memory");
  return ret;
}

static inline long raw_syscall1(long nr, long a0) {
  long ret;
  __asm__ volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a0) : "rcx", "r11", "memory");
  return ret;
}

static inline long raw_syscall0(long nr) {
  long ret;
  __asm__ volatile("syscall" : "=a"(ret) : "0"(nr) : "rcx", "r11", "memory");
  return ret;
}

#elif defined(__aarch64__)

/* The kernel keeps every register but x0, so one body with unused arguments left out serves all. */
#define RAW_SVC_(...)                                                                          \
  do {                                                                                         \
    register long x8 __asm__("x8") = nr;                                                       \
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8)__VA_OPT__(, ) __VA_ARGS__ : "memory", "cc"); \
  } while (0)

static inline long raw_syscall6(long nr, long a0, long a1, long a2, long a3, long a4, long a5) {
  register long x0 __asm__("x0") = a0;
  register long x1 __asm__("x1") = a1;
  register long x2 __asm__("x2") = a2;
  register long x3 __asm__("x3") = a3;
  register long x4 __asm__("x4") = a4;
  register long x5 __asm__("x5") = a5;
  RAW_SVC_("r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5));
  return x0;
}

static inline long raw_syscall5(long nr, long a0, long a1, long a2, long a3, long a4) {
  register long x0 __asm__("x0") = a0;
  register long x1 __asm__("x1") = a1;
  register long x2 __asm__("x2") = a2;
  register long x3 __asm__("x3") = a3;
  register long x4 __asm__("x4") = a4;
  RAW_SVC_("r"(x1), "r"(x2), "r"(x3), "r"(x4));
  return x0;
}

static inline long raw_syscall4(long nr, long a0, long a1, long a2, long a3) {
  register long x0 __asm__("x0") = a0;
  register long x1 __asm__("x1") = a1;
  register long x2 __asm__("x2") = a2;
  register long x3 __asm__("x3") = a3;
  RAW_SVC_("r"(x1), "r"(x2), "r"(x3));
  return x0;
}

static inline long raw_syscall3(long nr, long a0, long a1, long a2) {
  register long x0 __asm__("x0") = a0;
  register long x1 __asm__("x1") = a1;
  register long x2 __asm__("x2") = a2;
  RAW_SVC_("r"(x1), "r"(x2));
  return x0;
}

static inline long raw_syscall2(long nr, long a0, long a1) {
  register long x0 __asm__("x0") = a0;
  register long x1 __asm__("x1") = a1;
  RAW_SVC_("r"(x1));
  return x0;
}

static inline long raw_syscall1(long nr, long a0) {
  register long x0 __asm__("x0") = a0;
  RAW_SVC_();
  return x0;
}

static inline long raw_syscall0(long nr) {
  register long x0 __asm__("x0") = 0;
  RAW_SVC_();
  return x0;
}

#undef RAW_SVC_

#else
#error "ration knows x86-64 and aarch64 only"
#endif

#endif
