/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_PRELOAD_SYNC_H
#define RATION_PRELOAD_SYNC_H
/*
 * What the wrappers of sync.c, rwlock.c and sem.c have in common.
 *
 * In free mode (free/free.h) an object is ours, on glibc's layout, unless another process may use it or its mutex is of a kind that only the kernel can
 * do: free/psync.h.  Out of it, and for those, it is glibc's own function that does the work, in the bracket of the gate where it may block.
 */
#include "free/free.h"
#include "free/psync.h"
#include "preload/call.h"

/* This object is ours. */
#define OURS(kernels) (__builtin_expect(free_mode, 0) && !(kernels))

/*
 * A cancellation point that is cancelled in free/ is unwound out of our wrapper: the frame with the bracket, whose personality leaves the gate, is to be
 * another one.
 */
#define BRACKET static __attribute__((noinline))

/* Tries first; if the try says `busy`, gives the P away and makes the call. */
#define TRY_OR_WAIT(why, busy, try, call)                                                \
  ({                                                                                     \
    int tried_ = (try);                                                                  \
    __builtin_expect(tried_ != (busy), 1) ? tried_ : CALL_ONCE_BLOCKING(int, why, call); \
  })

/* Readers-writer locks and semaphores look at the time first, also when they are free. */
static inline bool time_ok(clockid_t clock, const struct timespec *until) {
  return (clock == CLOCK_MONOTONIC || clock == CLOCK_REALTIME) && until->tv_nsec >= 0 && until->tv_nsec < (long)CALL_NS;
}

#endif
