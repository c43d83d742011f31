/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mutexes, conditions, barriers, once; joins are in join.c, readers-writer locks are in rwlock.c, semaphores in sem.c.  Each lock is first tried by the try
 * form of the same function: where that succeeds or fails for a reason of its own (EOWNERDEAD, EAGAIN,
 * EINVAL, ENOTRECOVERABLE), the lock form would have returned the same, for every type, protocol and
 * robustness of glibc's.  Only EBUSY says that the lock form would block, or
 * find that the caller holds it (EDEADLK): then the P is given away, and the lock form decides.
 *
 * Not so for the usual mutexes (mutex_wait): glibc's lock form would come back with the mutex, but without a P, and while it waits for one all that need
 * the mutex block on it, one after another: a convoy, which never ends while the mutex is busy (MariaDB: 8 such blocks for a transaction of 16 queries, 0.1
 * without ration).  So we wait for the word as glibc does, but for a P before we try again.
 *
 * A condition wait blocks for sure.  When it returns the mutex is held; who must wait for a P first lets it go, and takes it again with one, for the same reason: to the program
 * it is as if the wait had taken it later.  (Python's interpreter lock is such a mutex and condition, waited for by all threads for 5 ms at a time.)
 *
 * What does not block is here for free mode only (sync.h): a branch and a tail call otherwise.
 *
 * Left alone: spin locks (they are tried in user mode), the locks inside libc (BPF sees them); what only initialises or destroys, but for mutexes,
 * whose destroy knows whether they are locked, and barriers, whose destroy waits for the end of a round.
 */
#include "preload/sync.h"
#include "free/pmutex.h"

#include <pthread.h>
#include <sys/single_threaded.h>
#include <threads.h>

#define REAL_SYNC(X)                                                                                        \
  X(int, pthread_mutex_lock, (pthread_mutex_t *))                                                           \
  X(int, pthread_mutex_trylock, (pthread_mutex_t *))                                                        \
  X(int, pthread_mutex_timedlock, (pthread_mutex_t *, const struct timespec *))                             \
  X(int, pthread_mutex_clocklock, (pthread_mutex_t *, clockid_t, const struct timespec *))                  \
  X(int, pthread_mutex_unlock, (pthread_mutex_t *))                                                         \
  X(int, pthread_mutex_destroy, (pthread_mutex_t *))                                                        \
  X(int, pthread_cond_wait, (pthread_cond_t *, pthread_mutex_t *))                                          \
  X(int, pthread_cond_timedwait, (pthread_cond_t *, pthread_mutex_t *, const struct timespec *))            \
  X(int, pthread_cond_clockwait, (pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *)) \
  X(int, pthread_cond_signal, (pthread_cond_t *))                                                           \
  X(int, pthread_cond_broadcast, (pthread_cond_t *))                                                        \
  X(int, pthread_barrier_wait, (pthread_barrier_t *))                                                       \
  X(int, pthread_barrier_destroy, (pthread_barrier_t *))                                                    \
  X(int, pthread_once, (pthread_once_t *, void (*)(void)))                                                  \
  X(int, mtx_lock, (mtx_t *))                                                                               \
  X(int, mtx_trylock, (mtx_t *))                                                                            \
  X(int, mtx_timedlock, (mtx_t *, const struct timespec *))                                                 \
  X(int, mtx_unlock, (mtx_t *))                                                                             \
  X(int, cnd_wait, (cnd_t *, mtx_t *))                                                                      \
  X(int, cnd_timedwait, (cnd_t *, mtx_t *, const struct timespec *))                                        \
  X(int, cnd_signal, (cnd_t *))                                                                             \
  X(int, cnd_broadcast, (cnd_t *))                                                                          \
  X(void, call_once, (once_flag *, void (*)(void)))
REAL_DEFINE(REAL_SYNC)

/* A robust mutex is not tried first: glibc's try (2.36) of one that is not recoverable says so, and keeps its lock word. */
#define MUTEX(m, call)                                                 \
  ((m)->__data.__kind & 16 ? CALL_ONCE_BLOCKING(int, WAIT_MUTEX, call) \
                           : TRY_OR_WAIT(WAIT_MUTEX, EBUSY, REAL(pthread_mutex_trylock)(m), call))

/* --- mutexes --- */

/* As OURS.  Of the kernel's, those that know their owner by its tid want one of the kernel's. */
static inline bool mutex_ours(const pthread_mutex_t *m) {
  if (!__builtin_expect(free_mode, 0)) return false;
  if (!free_mutex_is_kernels(m)) return true;
  if (m->__data.__kind & (0x70 | PTHREAD_MUTEX_RECURSIVE | PTHREAD_MUTEX_ERRORCHECK)) free_wire(FREE_WIRE_OBJECT);
  return false;
}

/* Of this process alone, owner or not all the same to its try form, and its word is glibc's low-level lock: 0 free, 1 taken, 2 and others may sleep. */
static inline bool is_usual(const pthread_mutex_t *m) {
  return (m->__data.__kind & ~0x203) == 0 && m->__data.__kind % 4 != PTHREAD_MUTEX_ERRORCHECK;
}

BRACKET int word_wait(_Atomic uint32_t *word) { return CALL_ONCE_BLOCKING(int, WAIT_MUTEX, sys_futex_wait(word, 2, SYS_FOREVER, false)); }

BRACKET int mutex_lock(pthread_mutex_t *m) { return CALL_ONCE_BLOCKING(int, WAIT_MUTEX, REAL(pthread_mutex_lock)(m)); }

/*
 * One that unlocks, locks again while the woken ones wait for a P, and gives up its P with the mutex (for I/O, or by a yield) has it whenever they try: so many times, then it is
 * glibc's lock form that waits.  (Seldom, for that is how convoys begin.)
 */
#define MUTEX_TRIES 8u
#define COND_TRIES 2u

/*
 * The try form said EBUSY.  As in glibc who has slept takes it with 2, for there may be more who sleep; it has it then, so nobody else makes that a 0.  relaxed: the try
 * form is the acquire, and the kernel compares the word again before it lets us sleep.
 */
static __attribute__((noinline)) int mutex_wait(pthread_mutex_t *m, unsigned left) {
  int r;
  do {
    uint32_t taken = 1;
    if (left-- == 0) return mutex_lock(m);
    bool busy =
        atomic_compare_exchange_strong_explicit(PMUTEX_WORD(m), &taken, 2, memory_order_relaxed, memory_order_relaxed) || taken == 2;
    if (busy) word_wait(PMUTEX_WORD(m));
  } while ((r = REAL(pthread_mutex_trylock)(m)) == EBUSY);
  uint32_t taken = 1;
  if (r == 0) atomic_compare_exchange_strong_explicit(PMUTEX_WORD(m), &taken, 2, memory_order_relaxed, memory_order_relaxed);
  return r;
}

/*
 * What waits for conditions do with the mutex, by its address, which others may share: a hint.
 *
 *   0       Who is back and has to wait for a P lets the mutex go for that long (lets_go).
 *   1 ..    So many waits keep it: it was taken meanwhile, as it is where others give up their P with the mutex (for I/O, a yield), and then letting go does not pay.
 *   TRIED   Somebody has tried for it in vain.  That one does something else now, and may come back late (squid's, at its next event), for one that has no P.  So who is back lets it go, and who
 *           begins to wait keeps the P until it sleeps: whom it gives it to would run before the mutex is unlocked, on the same CPU.
 */
#define KEEPS 64u
#define TRIED UINT32_MAX
static _Atomic uint32_t keeps[256];
static _Atomic uint32_t *keeps_of(const pthread_mutex_t *m) { return &keeps[((uintptr_t)m / 8 * 2654435761u >> 8) & 255]; }

/* A try was in vain, for the first time: who has it may be one that gave us its CPU, and lets it go at once.  True: try again. */
static __attribute__((noinline)) bool tried_first(const pthread_mutex_t *m) {
  if (gate_is_quiet() || sys_is_aside() || atomic_exchange_explicit(keeps_of(m), TRIED, memory_order_relaxed) == TRIED) return false;
  raw_syscall0(SYS_sched_yield);
  return true;
}

/* With one thread glibc's lock does without an atomic operation, its trylock does not; and nobody is there to give a P to. */
EXPORT int pthread_mutex_lock(pthread_mutex_t *m) {
  if (gate_is_quiet()) return REAL(pthread_mutex_lock)(m);
  if (mutex_ours(m)) return free_mutex_lock(m);
  if (__libc_single_threaded) return CALL_ONCE(int, REAL(pthread_mutex_lock)(m));
  if (!is_usual(m)) return MUTEX(m, REAL(pthread_mutex_lock)(m));
  int r = REAL(pthread_mutex_trylock)(m);
  return __builtin_expect(r == EBUSY, 0) ? mutex_wait(m, MUTEX_TRIES) : r;
}
int __pthread_mutex_lock(pthread_mutex_t *m) CALL_ALIAS(pthread_mutex_lock);

EXPORT int pthread_mutex_trylock(pthread_mutex_t *m) {
  if (mutex_ours(m)) return free_mutex_trylock(m);
  int r = REAL(pthread_mutex_trylock)(m);
  return __builtin_expect(r == EBUSY, 0) && tried_first(m) ? REAL(pthread_mutex_trylock)(m) : r;
}
int __pthread_mutex_trylock(pthread_mutex_t *m) CALL_ALIAS(pthread_mutex_trylock);

EXPORT int pthread_mutex_timedlock(pthread_mutex_t *restrict m, const struct timespec *restrict until) {
  if (mutex_ours(m)) return free_mutex_timed(m, CLOCK_REALTIME, until);
  return MUTEX(m, REAL(pthread_mutex_timedlock)(m, until));
}

EXPORT int pthread_mutex_clocklock(pthread_mutex_t *restrict m, clockid_t clock, const struct timespec *restrict until) {
  if (mutex_ours(m)) return free_mutex_timed(m, clock, until);
  if (clock != CLOCK_MONOTONIC && clock != CLOCK_REALTIME) return REAL(pthread_mutex_clocklock)(m, clock, until);
  return MUTEX(m, REAL(pthread_mutex_clocklock)(m, clock, until));
}

EXPORT int pthread_mutex_unlock(pthread_mutex_t *m) {
  if (gate_is_quiet()) return REAL(pthread_mutex_unlock)(m);
  if (OURS(free_mutex_is_kernels(m))) return free_mutex_unlock(m);
  return REAL(pthread_mutex_unlock)(m);
}
int __pthread_mutex_unlock(pthread_mutex_t *m) CALL_ALIAS(pthread_mutex_unlock);

EXPORT int pthread_mutex_destroy(pthread_mutex_t *m) {
  if (OURS(free_mutex_is_kernels(m))) return free_mutex_destroy(m);
  return REAL(pthread_mutex_destroy)(m);
}
int __pthread_mutex_destroy(pthread_mutex_t *m) CALL_ALIAS(pthread_mutex_destroy);

/* --- conditions --- */

/* Glibc's wait would unlock the mutex in its own way. */
#define CANNOT_WAIT(m) OURS(free_mutex_is_kernels(m))

static CALL_APART void enter_wait(const pthread_mutex_t *m) {
  if (atomic_load_explicit(keeps_of(m), memory_order_relaxed) == TRIED)
    gate_enter();
  else
    gate_enter_blocking(WAIT_COND);
}

/* In the bracket, back from the wait with the mutex, which an error would have left as it was: whoever has to wait for a P lets the mutex go for that long.  True: it did. */
static CALL_APART bool lets_go(pthread_mutex_t *m) {
  if (!gate_lacks_p() || !is_usual(m)) return false;
  _Atomic uint32_t *k = keeps_of(m);
  uint32_t left = atomic_load_explicit(k, memory_order_relaxed);
  if (left == TRIED) left = 0;
  if (left) atomic_store_explicit(k, left - 1, memory_order_relaxed);
  if (left || REAL(pthread_mutex_unlock)(m) != 0) return false;
  gate_owns_nothing();
  return true;
}

static __attribute__((noinline)) void take_again(pthread_mutex_t *m) {
  if (REAL(pthread_mutex_trylock)(m) != EBUSY) return;
  _Atomic uint32_t *k = keeps_of(m);
  if (atomic_load_explicit(k, memory_order_relaxed) != TRIED) atomic_store_explicit(k, KEEPS, memory_order_relaxed);
  mutex_wait(m, COND_TRIES);
}

#define COND_WAIT(m, timed_out, call)                                       \
  ({                                                                        \
    CALL_UNWINDS;                                                           \
    enter_wait(m);                                                          \
    int waited_ = (call);                                                   \
    bool without_ = (waited_ == 0 || waited_ == (timed_out)) && lets_go(m); \
    call_exit();                                                            \
    if (__builtin_expect(without_, 0)) take_again(m);                       \
    waited_;                                                                \
  })

BRACKET int cond_wait(pthread_cond_t *c, pthread_mutex_t *m) { return COND_WAIT(m, ETIMEDOUT, REAL(pthread_cond_wait)(c, m)); }
BRACKET int cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until) {
  return COND_WAIT(m, ETIMEDOUT, REAL(pthread_cond_timedwait)(c, m, until));
}
BRACKET int cond_clockwait(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock, const struct timespec *until) {
  return COND_WAIT(m, ETIMEDOUT, REAL(pthread_cond_clockwait)(c, m, clock, until));
}

EXPORT int pthread_cond_wait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m) {
  if (OURS(free_cond_is_kernels(c))) return free_cond_wait(c, m);
  if (CANNOT_WAIT(m)) return free_cond_poll(m, CLOCK_REALTIME, NULL);
  return cond_wait(c, m);
}

EXPORT int pthread_cond_timedwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m, const struct timespec *restrict until) {
  if (OURS(free_cond_is_kernels(c))) return free_cond_timed(c, m, until);
  if (CANNOT_WAIT(m)) return free_cond_poll(m, free_cond_clock_of(c), until);
  return cond_timedwait(c, m, until);
}

EXPORT int pthread_cond_clockwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m, clockid_t clock,
                                  const struct timespec *restrict until) {
  if (OURS(free_cond_is_kernels(c))) return free_cond_clock(c, m, clock, until);
  if (CANNOT_WAIT(m)) return free_cond_poll(m, clock, until);
  return cond_clockwait(c, m, clock, until);
}

EXPORT int pthread_cond_signal(pthread_cond_t *c) {
  if (OURS(free_cond_is_kernels(c))) return free_cond_signal(c);
  return REAL(pthread_cond_signal)(c);
}

EXPORT int pthread_cond_broadcast(pthread_cond_t *c) {
  if (OURS(free_cond_is_kernels(c))) return free_cond_broadcast(c);
  return REAL(pthread_cond_broadcast)(c);
}

/* --- barriers and once --- */

EXPORT int pthread_barrier_wait(pthread_barrier_t *b) {
  if (OURS(free_barrier_is_kernels(b))) return free_barrier_wait(b);
  return CALL_ONCE_BLOCKING(int, WAIT_BARRIER, REAL(pthread_barrier_wait)(b));
}

EXPORT int pthread_barrier_destroy(pthread_barrier_t *b) {
  if (OURS(free_barrier_is_kernels(b))) return free_barrier_destroy(b);
  return CALL_ONCE_BLOCKING(int, WAIT_BARRIER, REAL(pthread_barrier_destroy)(b)); /* it waits for those that are on their way out */
}

EXPORT int pthread_once(pthread_once_t *o, void (*fn)(void)) {
  if (OURS(false)) return free_once(o, fn);
  return REAL(pthread_once)(o, fn);
}
int __pthread_once(pthread_once_t *o, void (*fn)(void)) CALL_ALIAS(pthread_once);

/* --- C11: the same objects, with other names for what is returned; glibc's destroys do nothing that matters to ours --- */

static int as_thrd(int err) {
  switch (err) {
    case 0:
      return thrd_success;
    case EBUSY:
      return thrd_busy;
    case ETIMEDOUT:
      return thrd_timedout;
    default:
      return thrd_error;
  }
}
static inline pthread_mutex_t *mutex_of(mtx_t *m) { return (pthread_mutex_t *)m; }
static inline pthread_cond_t *cond_of(cnd_t *c) { return (pthread_cond_t *)c; }

EXPORT int mtx_lock(mtx_t *m) {
  if (OURS(free_mutex_is_kernels(mutex_of(m)))) return as_thrd(free_mutex_lock(mutex_of(m)));
  if (!is_usual(mutex_of(m))) return TRY_OR_WAIT(WAIT_MUTEX, thrd_busy, REAL(mtx_trylock)(m), REAL(mtx_lock)(m));
  int r = REAL(mtx_trylock)(m);
  return __builtin_expect(r == thrd_busy, 0) ? as_thrd(mutex_wait(mutex_of(m), MUTEX_TRIES)) : r;
}

EXPORT int mtx_trylock(mtx_t *m) {
  if (OURS(free_mutex_is_kernels(mutex_of(m)))) return as_thrd(free_mutex_trylock(mutex_of(m)));
  int r = REAL(mtx_trylock)(m);
  return __builtin_expect(r == thrd_busy, 0) && tried_first(mutex_of(m)) ? REAL(mtx_trylock)(m) : r;
}

EXPORT int mtx_timedlock(mtx_t *restrict m, const struct timespec *restrict until) {
  if (OURS(free_mutex_is_kernels(mutex_of(m)))) return as_thrd(free_mutex_timed(mutex_of(m), CLOCK_REALTIME, until));
  return TRY_OR_WAIT(WAIT_MUTEX, thrd_busy, REAL(mtx_trylock)(m), REAL(mtx_timedlock)(m, until));
}

EXPORT int mtx_unlock(mtx_t *m) {
  if (OURS(free_mutex_is_kernels(mutex_of(m)))) return as_thrd(free_mutex_unlock(mutex_of(m)));
  return REAL(mtx_unlock)(m);
}

BRACKET int cnd_wait_(cnd_t *c, mtx_t *m) { return COND_WAIT(mutex_of(m), thrd_timedout, REAL(cnd_wait)(c, m)); }
BRACKET int cnd_timedwait_(cnd_t *c, mtx_t *m, const struct timespec *until) {
  return COND_WAIT(mutex_of(m), thrd_timedout, REAL(cnd_timedwait)(c, m, until));
}

EXPORT int cnd_wait(cnd_t *c, mtx_t *m) {
  if (OURS(free_cond_is_kernels(cond_of(c)))) return as_thrd(free_cond_wait(cond_of(c), mutex_of(m)));
  return cnd_wait_(c, m);
}

EXPORT int cnd_timedwait(cnd_t *restrict c, mtx_t *restrict m, const struct timespec *restrict until) {
  if (OURS(free_cond_is_kernels(cond_of(c)))) return as_thrd(free_cond_timed(cond_of(c), mutex_of(m), until));
  return cnd_timedwait_(c, m, until);
}

EXPORT int cnd_signal(cnd_t *c) {
  if (OURS(free_cond_is_kernels(cond_of(c)))) return as_thrd(free_cond_signal(cond_of(c)));
  return REAL(cnd_signal)(c);
}

EXPORT int cnd_broadcast(cnd_t *c) {
  if (OURS(free_cond_is_kernels(cond_of(c)))) return as_thrd(free_cond_broadcast(cond_of(c)));
  return REAL(cnd_broadcast)(c);
}

EXPORT void call_once(once_flag *flag, void (*fn)(void)) {
  if (OURS(false))
    (void)free_once((pthread_once_t *)flag, fn);
  else
    REAL(call_once)(flag, fn);
}
