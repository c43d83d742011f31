/* SPDX-License-Identifier: Apache-2.0 */
/* Readers-writer locks.  sync.c says how locks are wrapped, sync.h whose they are. */
#include "preload/sync.h"

#include <pthread.h>

#define REAL_RWLOCK(X)                                                                         \
  X(int, pthread_rwlock_rdlock, (pthread_rwlock_t *))                                          \
  X(int, pthread_rwlock_tryrdlock, (pthread_rwlock_t *))                                       \
  X(int, pthread_rwlock_timedrdlock, (pthread_rwlock_t *, const struct timespec *))            \
  X(int, pthread_rwlock_clockrdlock, (pthread_rwlock_t *, clockid_t, const struct timespec *)) \
  X(int, pthread_rwlock_wrlock, (pthread_rwlock_t *))                                          \
  X(int, pthread_rwlock_trywrlock, (pthread_rwlock_t *))                                       \
  X(int, pthread_rwlock_timedwrlock, (pthread_rwlock_t *, const struct timespec *))            \
  X(int, pthread_rwlock_clockwrlock, (pthread_rwlock_t *, clockid_t, const struct timespec *)) \
  X(int, pthread_rwlock_unlock, (pthread_rwlock_t *))
REAL_DEFINE(REAL_RWLOCK)

#define RDLOCK(rw, call) TRY_OR_WAIT(WAIT_RWLOCK, EBUSY, REAL(pthread_rwlock_tryrdlock)(rw), call)
#define WRLOCK(rw, call) TRY_OR_WAIT(WAIT_RWLOCK, EBUSY, REAL(pthread_rwlock_trywrlock)(rw), call)

/* --- readers --- */

EXPORT int pthread_rwlock_rdlock(pthread_rwlock_t *rw) {
  if (OURS(free_rwlock_is_kernels(rw))) return free_rwlock_rdlock(rw);
  return RDLOCK(rw, REAL(pthread_rwlock_rdlock)(rw));
}
int __pthread_rwlock_rdlock(pthread_rwlock_t *rw) CALL_ALIAS(pthread_rwlock_rdlock);

EXPORT int pthread_rwlock_tryrdlock(pthread_rwlock_t *rw) {
  if (OURS(free_rwlock_is_kernels(rw))) return free_rwlock_tryrdlock(rw);
  return REAL(pthread_rwlock_tryrdlock)(rw);
}
int __pthread_rwlock_tryrdlock(pthread_rwlock_t *rw) CALL_ALIAS(pthread_rwlock_tryrdlock);

EXPORT int pthread_rwlock_timedrdlock(pthread_rwlock_t *restrict rw, const struct timespec *restrict until) {
  if (OURS(free_rwlock_is_kernels(rw))) return free_rwlock_timed_rdlock(rw, CLOCK_REALTIME, until);
  if (!time_ok(CLOCK_REALTIME, until)) return REAL(pthread_rwlock_timedrdlock)(rw, until);
  return RDLOCK(rw, REAL(pthread_rwlock_timedrdlock)(rw, until));
}

EXPORT int pthread_rwlock_clockrdlock(pthread_rwlock_t *restrict rw, clockid_t clock, const struct timespec *restrict until) {
  if (OURS(free_rwlock_is_kernels(rw))) return free_rwlock_timed_rdlock(rw, clock, until);
  if (!time_ok(clock, until)) return REAL(pthread_rwlock_clockrdlock)(rw, clock, until);
  return RDLOCK(rw, REAL(pthread_rwlock_clockrdlock)(rw, clock, until));
}

/* --- writers --- */

EXPORT int pthread_rwlock_wrlock(pthread_rwlock_t *rw) {
  if (OURS(free_rwlock_is_kernels(rw))) return free_rwlock_wrlock(rw);
  return WRLOCK(rw, REAL(pthread_rwlock_wrlock)(rw));
}
int __pthread_rwlock_wrlock(pthread_rwlock_t *rw) CALL_ALIAS(pthread_rwlock_wrlock);

EXPORT int pthread_rwlock_trywrlock(pthread_rwlock_t *rw) {
  if (OURS(free_rwlock_is_kernels(rw))) return free_rwlock_trywrlock(rw);
  return REAL(pthread_rwlock_trywrlock)(rw);
}
int __pthread_rwlock_trywrlock(pthread_rwlock_t *rw) CALL_ALIAS(pthread_rwlock_trywrlock);

EXPORT int pthread_rwlock_timedwrlock(pthread_rwlock_t *restrict rw, const struct timespec *restrict until) {
  if (OURS(free_rwlock_is_kernels(rw))) return free_rwlock_timed_wrlock(rw, CLOCK_REALTIME, until);
  if (!time_ok(CLOCK_REALTIME, until)) return REAL(pthread_rwlock_timedwrlock)(rw, until);
  return WRLOCK(rw, REAL(pthread_rwlock_timedwrlock)(rw, until));
}

EXPORT int pthread_rwlock_clockwrlock(pthread_rwlock_t *restrict rw, clockid_t clock, const struct timespec *restrict until) {
  if (OURS(free_rwlock_is_kernels(rw))) return free_rwlock_timed_wrlock(rw, clock, until);
  if (!time_ok(clock, until)) return REAL(pthread_rwlock_clockwrlock)(rw, clock, until);
  return WRLOCK(rw, REAL(pthread_rwlock_clockwrlock)(rw, clock, until));
}

/* --- both --- */

EXPORT int pthread_rwlock_unlock(pthread_rwlock_t *rw) {
  if (OURS(free_rwlock_is_kernels(rw))) return free_rwlock_unlock(rw);
  return REAL(pthread_rwlock_unlock)(rw);
}
int __pthread_rwlock_unlock(pthread_rwlock_t *rw) CALL_ALIAS(pthread_rwlock_unlock);
