/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Semaphores: sync.c says how locks are wrapped, sync.h whose they are.  They return -1 and errno, may be interrupted, and are cancellation
 * points also when they don't block.
 */
#include "preload/sync.h"

#include <pthread.h>
#include <semaphore.h>

#define REAL_SEM(X)                                                    \
  X(int, sem_wait, (sem_t *))                                          \
  X(int, sem_trywait, (sem_t *))                                       \
  X(int, sem_timedwait, (sem_t *, const struct timespec *))            \
  X(int, sem_clockwait, (sem_t *, clockid_t, const struct timespec *)) \
  X(int, sem_post, (sem_t *))
REAL_DEFINE(REAL_SEM)

static bool sem_had(sem_t *s) {
  int saved = errno;
  pthread_testcancel();
  if (REAL(sem_trywait)(s) == 0) return true;
  errno = saved;
  return false;
}

BRACKET int wait(sem_t *s) { return CALL_BLOCKING(int, WAIT_SEMA, REAL(sem_wait)(s)); }
BRACKET int timedwait(sem_t *s, const struct timespec *until) { return CALL_BLOCKING(int, WAIT_SEMA, REAL(sem_timedwait)(s, until)); }
BRACKET int clockwait(sem_t *s, clockid_t clock, const struct timespec *until) {
  return CALL_BLOCKING(int, WAIT_SEMA, REAL(sem_clockwait)(s, clock, until));
}

EXPORT int sem_wait(sem_t *s) {
  if (OURS(free_sem_is_kernels(s))) return free_sem_wait(s);
  return sem_had(s) ? 0 : wait(s);
}

EXPORT int sem_timedwait(sem_t *restrict s, const struct timespec *restrict until) {
  if (OURS(free_sem_is_kernels(s))) return free_sem_timed(s, CLOCK_REALTIME, until);
  if (!time_ok(CLOCK_REALTIME, until)) return REAL(sem_timedwait)(s, until);
  return sem_had(s) ? 0 : timedwait(s, until);
}

EXPORT int sem_clockwait(sem_t *restrict s, clockid_t clock, const struct timespec *restrict until) {
  if (OURS(free_sem_is_kernels(s))) return free_sem_timed(s, clock, until);
  if (!time_ok(clock, until)) return REAL(sem_clockwait)(s, clock, until);
  return sem_had(s) ? 0 : clockwait(s, clock, until);
}

EXPORT int sem_trywait(sem_t *s) {
  if (OURS(free_sem_is_kernels(s))) return free_sem_trywait(s);
  return REAL(sem_trywait)(s);
}

EXPORT int sem_post(sem_t *s) {
  if (OURS(free_sem_is_kernels(s))) return free_sem_post(s);
  return REAL(sem_post)(s);
}
