/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_SERVICE_H
#define RATION_CORE_SERVICE_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct service {
  _Atomic uint32_t alive; /* futex; the kernel clears it when the thread is gone */
  int tid;
  void *mem;         /* stack and TCB */
  _Atomic bool stop; /* it was told to end; for fn to look at */
};

/*
 * Starts a service thread: a kernel thread that glibc does not know.  It runs fn(svc), whose return ends the thread,
 * with all signals blocked, under the given name
 * (15 bytes), with a TCB that is all zero but for the canary, and with a descriptor table of its own that
 * holds copies of fds[0 .. nfds) as 0, 1, 2 ... and nothing else; the caller's descriptors stay open.
 * So it keeps no file of the program open, the program can't close its files, nobody waits for it at exit.
 * nfds SERVICE_SAME_FILES: it shares the caller's table instead.
 * Returns 0 or -errno.  Any thread; async-signal-safe.
 */
#define SERVICE_SAME_FILES (~0u)
#define SERVICES_MOST 8u /* that are told apart by service_is */
int service_start(struct service *svc, const char *name, void (*fn)(struct service *svc), const int *fds, unsigned nfds);

/*
 * A thread that glibc does not know of, which runs fn(arg) down from stack_top, a multiple of 64, by the thread pointer tp, with the caller's mask, and with its descriptors (files) or a copy of
 * them; fn ends it by a raw exit.  The kernel clears `alive` then.  Its tid or -errno.
 */
long service_clone(void *stack_top, void *tp, bool files, _Atomic uint32_t *alive, void (*fn)(void *arg), void *arg);

/* Is it one of the service threads that run?  Any thread. */
bool service_is(uint32_t tid);

/* Waits, until `until` (CLOCK_MONOTONIC ns), for the end of a thread that was told to end; frees its memory.  0, -ETIMEDOUT. */
int service_join(struct service *svc, uint64_t until);

#endif
