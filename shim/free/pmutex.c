/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pthread mutexes of free mode: normal, adaptive, recursive, error-checking.
 *
 *   __lock    the lock itself (plock.c)
 *   __owner   of recursive and error-checking ones: free_self_id of who has it, else 0
 *   __count   of recursive ones: how often
 *   __nusers  how many wait at conditions with it, as glibc counts them: it is not destroyed then
 *   __kind    as glibc's pthread_mutex_init left it; -1: destroyed
 *
 * The owner is written by who has the lock.  Others may read it at any time, but only in order to find that it is not themselves: relaxed.
 * Normal ones note no owner.  Unlocking one that is not locked does nothing, by whoever.
 */
#include "free/psync.h"
#include <errno.h>
#include "free/free.h"
#include "free/plimit.h"
#include "free/plock.h"
#include "free/pmutex.h"

#define OWNER(m) ((_Atomic uint32_t *)&(m)->__data.__owner)

static inline int type_of(const pthread_mutex_t *m) { return m->__data.__kind & 3; }
static inline bool owned(int type) { return type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK; }

static inline uint32_t owner(pthread_mutex_t *m) { return atomic_load_explicit(OWNER(m), memory_order_relaxed); }
static inline void set_owner(pthread_mutex_t *m, uint32_t id) { atomic_store_explicit(OWNER(m), id, memory_order_relaxed); }

void pmutex_take(pthread_mutex_t *m) {
  if (!owned(type_of(m))) return;
  set_owner(m, free_self_id());
  m->__data.__count = 1;
}

/* The caller has it, and it is recursive. */
static int once_more(pthread_mutex_t *m) {
  if (m->__data.__count + 1 == 0) return EAGAIN;
  m->__data.__count++;
  return 0;
}

/* -1: others have it, or nobody does.  Else what locking it returns to its owner. */
static int owner_locks(pthread_mutex_t *m, int type) {
  if (owner(m) != free_self_id()) return -1;
  return type == PTHREAD_MUTEX_RECURSIVE ? once_more(m) : EDEADLK;
}

static __attribute__((noinline)) int lock_owned(pthread_mutex_t *m, int type) {
  int r = owner_locks(m, type);
  if (r >= 0) return r;
  (void)plock_lock(PMUTEX_WORD(m), NULL);
  pmutex_take(m);
  return 0;
}

int free_mutex_lock(pthread_mutex_t *m) {
  int type = type_of(m);
  if (__builtin_expect(owned(type), 0)) return lock_owned(m, type);
  return plock_lock(PMUTEX_WORD(m), NULL);
}

int free_mutex_trylock(pthread_mutex_t *m) {
  int type = type_of(m);
  if (type == PTHREAD_MUTEX_RECURSIVE && owner(m) == free_self_id()) return once_more(m);
  if (!plock_trylock(PMUTEX_WORD(m))) return EBUSY;
  pmutex_take(m);
  return 0;
}

/* As glibc: the time is looked at only where the caller is to wait. */
int free_mutex_timed(pthread_mutex_t *m, clockid_t clock, const struct timespec *until) {
  if (!plimit_clock_ok(clock)) return EINVAL;
  int type = type_of(m), r = owned(type) ? owner_locks(m, type) : -1;
  if (r >= 0) return r;
  if (!plock_trylock(PMUTEX_WORD(m))) {
    if (until->tv_sec >= 0 && !plimit_ns_ok(until)) return EINVAL;
    struct limit lim = plimit(clock, until);
    if (plock_lock(PMUTEX_WORD(m), &lim)) return ETIMEDOUT;
  }
  pmutex_take(m);
  return 0;
}

int pmutex_may_unlock(pthread_mutex_t *m) { return owned(type_of(m)) && owner(m) != free_self_id() ? EPERM : 0; }

/* By who has the mutex. */
void pmutex_waits(pthread_mutex_t *m, bool begins) { __atomic_fetch_add(&m->__data.__nusers, begins ? 1u : ~0u, __ATOMIC_RELAXED); }

bool pmutex_stays(pthread_mutex_t *m) { return type_of(m) == PTHREAD_MUTEX_RECURSIVE && m->__data.__count > 1; }

static __attribute__((noinline)) int unlock_owned(pthread_mutex_t *m, int type) {
  if (owner(m) != free_self_id()) return EPERM;
  if (type == PTHREAD_MUTEX_RECURSIVE && --m->__data.__count != 0) return 0;
  set_owner(m, 0);
  (void)plock_unlock(PMUTEX_WORD(m));
  return 0;
}

int free_mutex_unlock(pthread_mutex_t *m) {
  int type = type_of(m);
  if (__builtin_expect(owned(type), 0)) return unlock_owned(m, type);
  (void)plock_unlock(PMUTEX_WORD(m));
  return 0;
}

int free_mutex_destroy(pthread_mutex_t *m) {
  if (plock_locked(PMUTEX_WORD(m)) || __atomic_load_n(&m->__data.__nusers, __ATOMIC_RELAXED) != 0) return EBUSY;
  m->__data.__kind = -1; /* from now on the kernel's, that is glibc's: EINVAL */
  return 0;
}
