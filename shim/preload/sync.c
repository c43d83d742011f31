/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks, conditions, semaphores.  Each lock is first tried by the try
 * form of the same function: where that succeeds or fails for a reason of its own (EOWNERDEAD, EAGAIN,
 * EINVAL, ENOTRECOVERABLE), the lock form would have returned the same, for every type, protocol and
 * robustness of glibc's.  Only EBUSY says that the lock form would block, or
 * find that the caller holds it (EDEADLK): then the P is given away, and the lock form decides.
 *
 * A condition wait blocks for sure.  When it returns the mutex is held and the
 * thread may wait for a P with it, as a preempted thread may without us.
 *
 * Left alone: spin locks (they are tried in user mode), pthread_once, the locks inside libc (BPF sees them).
 */
#include "preload/call.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/single_threaded.h>
#include <threads.h>

#define REAL_SYNC(X)                                                                                        \
  X(int, pthread_mutex_lock, (pthread_mutex_t *))                                                           \
  X(int, pthread_mutex_trylock, (pthread_mutex_t *))                                                        \
  X(int, pthread_mutex_timedlock, (pthread_mutex_t *, const struct timespec *))                             \
  X(int, pthread_mutex_clocklock, (pthread_mutex_t *, clockid_t, const struct timespec *))                  \
  X(int, pthread_cond_wait, (pthread_cond_t *, pthread_mutex_t *))                                          \
  X(int, pthread_cond_timedwait, (pthread_cond_t *, pthread_mutex_t *, const struct timespec *))            \
  X(int, pthread_cond_clockwait, (pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *)) \
  X(int, pthread_rwlock_rdlock, (pthread_rwlock_t *))                                                       \
  X(int, pthread_rwlock_tryrdlock, (pthread_rwlock_t *))                                                    \
  X(int, pthread_rwlock_timedrdlock, (pthread_rwlock_t *, const struct timespec *))                         \
  X(int, pthread_rwlock_clockrdlock, (pthread_rwlock_t *, clockid_t, const struct timespec *))              \
  X(int, pthread_rwlock_wrlock, (pthread_rwlock_t *))                                                       \
  X(int, pthread_rwlock_trywrlock, (pthread_rwlock_t *))                                                    \
  X(int, pthread_rwlock_timedwrlock, (pthread_rwlock_t *, const struct timespec *))                         \
  X(int, pthread_rwlock_clockwrlock, (pthread_rwlock_t *, clockid_t, const struct timespec *))              \
  X(int, pthread_barrier_wait, (pthread_barrier_t *))                                                       \
  X(int, sem_wait, (sem_t *))                                                                               \
  X(int, sem_trywait, (sem_t *))                                                                            \
  X(int, sem_timedwait, (sem_t *, const struct timespec *))                                                 \
  X(int, sem_clockwait, (sem_t *, clockid_t, const struct timespec *))                                      \
  X(int, mtx_lock, (mtx_t *))                                                                               \
  X(int, mtx_trylock, (mtx_t *))                                                                            \
  X(int, mtx_timedlock, (mtx_t *, const struct timespec *))                                                 \
  X(int, cnd_wait, (cnd_t *, mtx_t *))                                                                      \
  X(int, cnd_timedwait, (cnd_t *, mtx_t *, const struct timespec *))
REAL_DEFINE(REAL_SYNC)

/* Tries first; if the try says `busy`, gives the P away and makes the call. */
#define TRY_OR_WAIT(why, busy, try, call)                                                \
  ({                                                                                     \
    int tried_ = (try);                                                                  \
    __builtin_expect(tried_ != (busy), 1) ? tried_ : CALL_ONCE_BLOCKING(int, why, call); \
  })

#define MUTEX(m, call) TRY_OR_WAIT(WAIT_MUTEX, EBUSY, REAL(pthread_mutex_trylock)(m), call)
#define RDLOCK(rw, call) TRY_OR_WAIT(WAIT_RWLOCK, EBUSY, REAL(pthread_rwlock_tryrdlock)(rw), call)
#define WRLOCK(rw, call) TRY_OR_WAIT(WAIT_RWLOCK, EBUSY, REAL(pthread_rwlock_trywrlock)(rw), call)

/* --- mutexes --- */

/* With one thread glibc's lock does without an atomic operation, its trylock does not; and nobody is there to give a P to. */
EXPORT int pthread_mutex_lock(pthread_mutex_t *m) {
  if (__libc_single_threaded) return CALL_ONCE(int, REAL(pthread_mutex_lock)(m));
  return MUTEX(m, REAL(pthread_mutex_lock)(m));
}
int __pthread_mutex_lock(pthread_mutex_t *m) CALL_ALIAS(pthread_mutex_lock);

EXPORT int pthread_mutex_timedlock(pthread_mutex_t *restrict m, const struct timespec *restrict until) {
  return MUTEX(m, REAL(pthread_mutex_timedlock)(m, until));
}

EXPORT int pthread_mutex_clocklock(pthread_mutex_t *restrict m, clockid_t clock, const struct timespec *restrict until) {
  if (clock != CLOCK_MONOTONIC && clock != CLOCK_REALTIME) return REAL(pthread_mutex_clocklock)(m, clock, until);
  return MUTEX(m, REAL(pthread_mutex_clocklock)(m, clock, until));
}

/* --- conditions and barriers --- */

EXPORT int pthread_cond_wait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m) {
  return CALL_ONCE_BLOCKING(int, WAIT_COND, REAL(pthread_cond_wait)(c, m));
}

EXPORT int pthread_cond_timedwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m, const struct timespec *restrict until) {
  return CALL_ONCE_BLOCKING(int, WAIT_COND, REAL(pthread_cond_timedwait)(c, m, until));
}

EXPORT int pthread_cond_clockwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m, clockid_t clock,
                                  const struct timespec *restrict until) {
  return CALL_ONCE_BLOCKING(int, WAIT_COND, REAL(pthread_cond_clockwait)(c, m, clock, until));
}

EXPORT int pthread_barrier_wait(pthread_barrier_t *b) { return CALL_ONCE_BLOCKING(int, WAIT_BARRIER, REAL(pthread_barrier_wait)(b)); }

/* --- readers and writers --- */

EXPORT int pthread_rwlock_rdlock(pthread_rwlock_t *rw) { return RDLOCK(rw, REAL(pthread_rwlock_rdlock)(rw)); }
int __pthread_rwlock_rdlock(pthread_rwlock_t *rw) CALL_ALIAS(pthread_rwlock_rdlock);

EXPORT int pthread_rwlock_wrlock(pthread_rwlock_t *rw) { return WRLOCK(rw, REAL(pthread_rwlock_wrlock)(rw)); }
int __pthread_rwlock_wrlock(pthread_rwlock_t *rw) CALL_ALIAS(pthread_rwlock_wrlock);

/* These look at the time first, also when the lock is free. */
static bool time_ok(clockid_t clock, const struct timespec *until) {
  return (clock == CLOCK_MONOTONIC || clock == CLOCK_REALTIME) && until->tv_nsec >= 0 && until->tv_nsec < (long)CALL_NS;
}

EXPORT int pthread_rwlock_timedrdlock(pthread_rwlock_t *restrict rw, const struct timespec *restrict until) {
  if (!time_ok(CLOCK_REALTIME, until)) return REAL(pthread_rwlock_timedrdlock)(rw, until);
  return RDLOCK(rw, REAL(pthread_rwlock_timedrdlock)(rw, until));
}

EXPORT int pthread_rwlock_clockrdlock(pthread_rwlock_t *restrict rw, clockid_t clock, const struct timespec *restrict until) {
  if (!time_ok(clock, until)) return REAL(pthread_rwlock_clockrdlock)(rw, clock, until);
  return RDLOCK(rw, REAL(pthread_rwlock_clockrdlock)(rw, clock, until));
}

EXPORT int pthread_rwlock_timedwrlock(pthread_rwlock_t *restrict rw, const struct timespec *restrict until) {
  if (!time_ok(CLOCK_REALTIME, until)) return REAL(pthread_rwlock_timedwrlock)(rw, until);
  return WRLOCK(rw, REAL(pthread_rwlock_timedwrlock)(rw, until));
}

EXPORT int pthread_rwlock_clockwrlock(pthread_rwlock_t *restrict rw, clockid_t clock, const struct timespec *restrict until) {
  if (!time_ok(clock, until)) return REAL(pthread_rwlock_clockwrlock)(rw, clock, until);
  return WRLOCK(rw, REAL(pthread_rwlock_clockwrlock)(rw, clock, until));
}

/* --- semaphores: they return -1 and errno, may be interrupted, and are cancellation points also when they don't block --- */

static bool sem_had(sem_t *s) {
  int saved = errno;
  pthread_testcancel();
  if (REAL(sem_trywait)(s) == 0) return true;
  errno = saved;
  return false;
}

EXPORT int sem_wait(sem_t *s) {
  if (sem_had(s)) return 0;
  return CALL_BLOCKING(int, WAIT_SEMA, REAL(sem_wait)(s));
}

EXPORT int sem_timedwait(sem_t *restrict s, const struct timespec *restrict until) {
  if (!time_ok(CLOCK_REALTIME, until)) return REAL(sem_timedwait)(s, until);
  if (sem_had(s)) return 0;
  return CALL_BLOCKING(int, WAIT_SEMA, REAL(sem_timedwait)(s, until));
}

EXPORT int sem_clockwait(sem_t *restrict s, clockid_t clock, const struct timespec *restrict until) {
  if (!time_ok(clock, until)) return REAL(sem_clockwait)(s, clock, until);
  if (sem_had(s)) return 0;
  return CALL_BLOCKING(int, WAIT_SEMA, REAL(sem_clockwait)(s, clock, until));
}

/* --- C11 --- */

EXPORT int mtx_lock(mtx_t *m) { return TRY_OR_WAIT(WAIT_MUTEX, thrd_busy, REAL(mtx_trylock)(m), REAL(mtx_lock)(m)); }

EXPORT int mtx_timedlock(mtx_t *restrict m, const struct timespec *restrict until) {
  return TRY_OR_WAIT(WAIT_MUTEX, thrd_busy, REAL(mtx_trylock)(m), REAL(mtx_timedlock)(m, until));
}

EXPORT int cnd_wait(cnd_t *c, mtx_t *m) { return CALL_ONCE_BLOCKING(int, WAIT_COND, REAL(cnd_wait)(c, m)); }

EXPORT int cnd_timedwait(cnd_t *restrict c, mtx_t *restrict m, const struct timespec *restrict until) {
  return CALL_ONCE_BLOCKING(int, WAIT_COND, REAL(cnd_timedwait)(c, m, until));
}
