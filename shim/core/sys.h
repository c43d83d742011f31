/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_SYS_H
#define RATION_CORE_SYS_H
/*
 * System calls of the core.  Raw, so that they neither touch errno nor are
 * cancellation points, and work in threads without a TCB.  All return >= 0 or -errno.
 */
#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include "rawsys.h"

#define SYS_FOREVER UINT64_MAX

/*
 * The program may make the time stamp counter fault in threads of its own choice (PR_SET_TSC), also inside of handlers of that fault;
 * the vDSO reads it.  Set for good by the first such call.  Weak: unit tests link any part of the core.
 */
__attribute__((weak, visibility("hidden"))) atomic_bool sys_tsc_may_fault;

/*
 * The program is in a sandbox, or about to be, and the shim has stepped aside: system calls that it would not make itself may be the end of it.
 * Set for good.  Weak, as above.
 */
__attribute__((weak, visibility("hidden"))) atomic_bool sys_aside;
static inline bool sys_is_aside(void) { return __builtin_expect(atomic_load_explicit(&sys_aside, memory_order_relaxed), false); }

/* clock_gettime, by the vDSO if that may be.  0 or -errno. */
static inline int sys_clock(clockid_t clock, struct timespec *ts) {
  *ts = (struct timespec){0, 0}; /* the analyzer does not know that the kernel writes it */
  if (__builtin_expect(atomic_load_explicit(&sys_tsc_may_fault, memory_order_relaxed), false))
    return (int)raw_syscall2(SYS_clock_gettime, clock, (long)ts);
  return clock_gettime(clock, ts) == 0 ? 0 : -errno;
}

/* CLOCK_MONOTONIC in ns. */
static inline uint64_t sys_now(void) {
  struct timespec ts;
  sys_clock(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Waits while *w == val, until the absolute time `until` (CLOCK_MONOTONIC ns).  0, -EAGAIN, -EINTR, -ETIMEDOUT. */
static inline int sys_futex_wait(_Atomic uint32_t *w, uint32_t val, uint64_t until, bool shared) {
  struct timespec ts = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
  int op = FUTEX_WAIT_BITSET | (shared ? 0 : FUTEX_PRIVATE_FLAG);
  return (int)raw_syscall6(SYS_futex, (long)w, op, (long)val, until == SYS_FOREVER ? 0 : (long)&ts, 0, FUTEX_BITSET_MATCH_ANY);
}

static inline void sys_futex_wake(_Atomic uint32_t *w, int n, bool shared) {
  raw_syscall6(SYS_futex, (long)w, FUTEX_WAKE | (shared ? 0 : FUTEX_PRIVATE_FLAG), n, 0, 0, 0);
}

/*
 * The same for two words at once (Linux >= 5.16): of w[0], shared between processes, and w[1], private.  Returns 0 or 1, the one that was woken,
 * -EAGAIN if one has another value, -EINTR, -ETIMEDOUT.
 */
static inline int sys_futex_wait2(_Atomic uint32_t *const w[2], const uint32_t val[2], uint64_t until) {
  struct futex_waitv v[2] = {{.val = val[0], .uaddr = (uintptr_t)w[0], .flags = FUTEX_32},
                             {.val = val[1], .uaddr = (uintptr_t)w[1], .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG}};
  struct timespec ts = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
  return (int)raw_syscall5(SYS_futex_waitv, (long)v, 2, 0, until == SYS_FOREVER ? 0 : (long)&ts, CLOCK_MONOTONIC);
}

/* An emulator or a sandbox may refuse it. */
static inline bool sys_has_futex_wait2(void) { return raw_syscall5(SYS_futex_waitv, 0, 0, 0, 0, 0) == -EINVAL; }

/* A file, or the disk itself: *st. */
static inline bool sys_is_file(int fd, struct stat *st) {
  return raw_syscall2(SYS_fstat, fd, (long)st) == 0 && (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode));
}
static inline uint32_t sys_gettid(void) { return (uint32_t)raw_syscall0(SYS_gettid); }
static inline uint32_t sys_getpid(void) { return (uint32_t)raw_syscall0(SYS_getpid); }

#define SYS_SIGSET_ALL (~(uint64_t)0)
static inline uint64_t sys_sigmask(uint64_t set) {
  uint64_t old = 0;
  raw_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&set, (long)&old, sizeof old);
  return old;
}

/* A disposition as the kernel has it: glibc's functions refuse two signals, and hide how a handler comes back. */
/* All but glibc's signal for credentials: who blocks that may not wait for a lock of glibc's (free/setxid.h). */
#define SYS_SIGNAL_SETXID 33
#define SYS_SIGSET_MOST (~((uint64_t)1 << (SYS_SIGNAL_SETXID - 1)))

struct sys_action {
  uintptr_t fn;
  unsigned long flags;
  void (*restorer)(void);
  uint64_t mask;
};
static inline int sys_sigaction(int sig, const struct sys_action *set, struct sys_action *old) {
  if (old) *old = (struct sys_action){.fn = (uintptr_t)SIG_DFL}; /* the analyzer does not know that the kernel writes it */
  return (int)raw_syscall4(SYS_rt_sigaction, sig, (long)set, (long)old, sizeof set->mask);
}

/*
 * What a program gives to a call, and we read before the kernel does, may not be there; then the call is passed on, and says EFAULT.  rt_sigprocmask copies a
 * set before it finds that `how` is none, changes nothing, and no sandbox forbids it.  Where `how` is looked at first (emulators), all seems to be there.
 * The page that the caller has its frame in is there.
 */
static inline bool sys_is_near(const void *p, size_t n) {
  uintptr_t at = (uintptr_t)p, here = (uintptr_t)__builtin_frame_address(0);
  return ((at ^ here) | ((at + n - 1) ^ here)) < 4096;
}

static inline bool sys_can_read(const void *p, size_t n) {
  uintptr_t at = (uintptr_t)p & ~(uintptr_t)7, end = (uintptr_t)p + n;
  if (sys_is_near(p, n)) return true;
  if (at == 0) return false; /* the kernel takes it for no set at all */
  for (; at < end; at = (at | 4095) + 1)
    if (raw_syscall4(SYS_rt_sigprocmask, -1, (long)at, 0, 8) == -EFAULT) return false;
  return true;
}

/* The same of n bytes, a multiple of 8, to be written: what was there is lost. */
static inline bool sys_can_write(void *p, size_t n) {
  if (sys_is_near(p, n)) return true;
  for (size_t i = 0; i < n; i += 8)
    if (!p || raw_syscall4(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)p + (long)i, 8) == -EFAULT) return false;
  return true;
}

#define SYS_SS_AUTODISARM (1u << 31) /* of stack_t: no stack for handlers while one runs (Linux >= 4.7) */

/* The CPU time of a thread of this process, ns; 0 if it is gone. */
static inline uint64_t sys_thread_cpu_ns(uint32_t tid) {
  struct timespec ts;
  long clock = (long)(int)((~tid << 3) | 6u); /* CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED: kernel ABI, time/posix-cpu-timers.c */
  if (raw_syscall2(SYS_clock_gettime, clock, (long)&ts) < 0) return 0;
  return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#endif
