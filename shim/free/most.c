/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many threads a program may have in free mode.  Without ration the kernel ends one that makes threads without end with EAGAIN, at kernel.pid_max or
 * kernel.threads-max (so many that their kernel stacks take an eighth of the memory).  A thread G is none of the kernel's, but its stack, its TLS and their page table are four
 * pages as well, and whoever finds no bound to them is killed for want of memory, if not somebody else.  So threads-max, which is the administrator's to change,
 * is the bound here too, where it is not less than FREE_LEAST_MOST: machines of 16 GiB have that.  RATION_MAXTHREADS is another.
 * And not more than have numbers that differ from those of others (identity.c).
 *
 * The sources of bounds that speak of the kernel's own threads are left alone: RLIMIT_NPROC, pids.max and pid_max bound the carriers.
 */
#include "free/most.h"
#include <fcntl.h>
#include <stdatomic.h>
#include "client/env.h"
#include "free/identity.h"
#include "rawsys.h"

#define FREE_LEAST_MOST (1u << 17)

/* 0: it can't be read, or is none. */
static uint32_t threads_max(void) {
  char text[24];
  int fd = (int)raw_syscall4(SYS_openat, AT_FDCWD, (long)"/proc/sys/kernel/threads-max", O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return 0;
  long n = raw_syscall3(SYS_read, fd, (long)text, sizeof text);
  raw_syscall1(SYS_close, fd);
  uint32_t v = 0;
  for (long i = 0; i < n && text[i] >= '0' && text[i] <= '9'; i++) v = v < THREAD_ID_PLACES ? v * 10 + (uint32_t)(text[i] - '0') : v;
  return v;
}

static uint32_t found(void) {
  uint32_t most = client_env_now.maxthreads;
  if (most == 0 && (most = threads_max()) < FREE_LEAST_MOST) most = FREE_LEAST_MOST;
  return most < THREAD_ID_PLACES ? most : THREAD_ID_PLACES;
}

uint32_t free_most(void) {
  static _Atomic uint32_t known; /* relaxed: who finds 0 asks as well, and finds the same */
  uint32_t most = atomic_load_explicit(&known, memory_order_relaxed);
  if (most == 0) atomic_store_explicit(&known, most = found(), memory_order_relaxed);
  return most;
}
