/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_PSYNC_H
#define RATION_FREE_PSYNC_H
/*
 * The pthread objects of free mode, on the layouts of glibc 2.25 and later: static initialisers, sizes, and what glibc's own init functions leave there are
 * kept, so those go on to initialise; what operates on an object is here.  All return what the function of the same name returns, and
 * errors as it does.
 *
 * Objects that another process may use, and robust, priority-inheriting and priority-protected mutexes, are the kernel's: *_is_kernels.  None of these
 * functions is for them.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* --- mutexes: pmutex.c --- */

/* Bits of __kind: 0 and 1 the type, 8 and 9 what is to be with elision; robust (4), inherit (5), protect (6), shared (7) and a destroyed one have others. */
static inline bool free_mutex_is_kernels(const pthread_mutex_t *m) { return (m->__data.__kind & ~0x303) != 0; }
int free_mutex_lock(pthread_mutex_t *m);
int free_mutex_trylock(pthread_mutex_t *m);
int free_mutex_timed(pthread_mutex_t *m, clockid_t clock, const struct timespec *until);
int free_mutex_unlock(pthread_mutex_t *m);
int free_mutex_destroy(pthread_mutex_t *m);

/* --- conditions: pcond.c --- */

/* __wrefs: bit 0 shared, bit 1 CLOCK_MONOTONIC.  What glibc's destroy looks at is never touched, so it is right for ours as well. */
static inline bool free_cond_is_kernels(const pthread_cond_t *c) { return (c->__data.__wrefs & 1) != 0; }
/* The mutex may be the kernel's. */
int free_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
/* By the condition's clock. */
int free_cond_timed(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until);
int free_cond_clock(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock, const struct timespec *until);
int free_cond_signal(pthread_cond_t *c);
int free_cond_broadcast(pthread_cond_t *c);
/* A condition of the kernel's with a mutex that is not: a wake-up for no reason after a moment, as POSIX allows.  until: null, or by this clock. */
int free_cond_poll(pthread_mutex_t *m, clockid_t clock, const struct timespec *until);
/* The clock of pthread_cond_timedwait. */
static inline clockid_t free_cond_clock_of(const pthread_cond_t *c) { return c->__data.__wrefs & 2 ? CLOCK_MONOTONIC : CLOCK_REALTIME; }

/* --- readers and writers: prwlock.c; glibc's destroy does nothing --- */

static inline bool free_rwlock_is_kernels(const pthread_rwlock_t *rw) { return rw->__data.__shared != 0; }
int free_rwlock_rdlock(pthread_rwlock_t *rw);
int free_rwlock_tryrdlock(pthread_rwlock_t *rw);
int free_rwlock_timed_rdlock(pthread_rwlock_t *rw, clockid_t clock, const struct timespec *until);
int free_rwlock_wrlock(pthread_rwlock_t *rw);
int free_rwlock_trywrlock(pthread_rwlock_t *rw);
int free_rwlock_timed_wrlock(pthread_rwlock_t *rw, clockid_t clock, const struct timespec *until);
int free_rwlock_unlock(pthread_rwlock_t *rw);

/* --- barriers: pbarrier.c --- */

/* glibc's struct pthread_barrier. */
struct free_barrier {
  uint32_t in; /* [lock of the lot] */
  uint32_t round;
  uint32_t count;
  int32_t shared;
  uint32_t out;
};
static inline bool free_barrier_is_kernels(const pthread_barrier_t *b) { return ((const struct free_barrier *)b)->shared != 0; }
int free_barrier_wait(pthread_barrier_t *b);
/* Waits for the end of a round that has begun. */
int free_barrier_destroy(pthread_barrier_t *b);

/* --- semaphores: psem.c; -1 and errno.  glibc's destroy does nothing, and its getvalue is right for ours --- */

/* glibc's struct new_sem. */
struct free_sem {
  _Atomic uint64_t data; /* the lower half is the value */
  int32_t shared;
};
/* Named ones are shared, always. */
static inline bool free_sem_is_kernels(const sem_t *s) { return ((const struct free_sem *)s)->shared != 0; }
int free_sem_wait(sem_t *s);
int free_sem_trywait(sem_t *s);
int free_sem_timed(sem_t *s, clockid_t clock, const struct timespec *until);
int free_sem_post(sem_t *s);

/* --- ponce.c --- */

int free_once(pthread_once_t *o, void (*fn)(void));

#endif
