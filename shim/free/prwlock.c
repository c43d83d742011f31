/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pthread readers-writer locks of free mode, on the parking lot.
 *
 *   state (__readers)   WRITER   a writer has it
 *                       WWAIT    writers are queued
 *                       RWAIT    readers are queued
 *                       READER   times the number of readers that have it
 *                       PHASE    says nothing: glibc leaves it
 *   __cur_writer        free_self_id of the writer, for EDEADLK; else 0
 *   __flags             the kind, as glibc's init or the static initialiser left it
 *
 *   rdlock   not shut? READER more, one compare-and-swap.      wrlock   all 0? WRITER, one compare-and-swap
 *   unlock   nobody queued that it may concern? one compare-and-swap
 *
 * Else under the lock of the lot, and who is woken has the lock already.  settle() is the one place that decides who that is: it takes the state with the
 * unlocker's share off, and the two queues, and makes the next state and the list of those that get it in one change of the word.
 *
 *   kind                          shut for new readers          a writer unlocks, both wait     the last reader leaves
 *   PREFER_READER_NP (default)    WRITER                        all readers                     all readers, else the first writer
 *   PREFER_WRITER_NP              WRITER                        the first writer                the first writer
 *   ..WRITER_NONRECURSIVE_NP      WRITER, or WWAIT              the first writer                the first writer
 *
 * as in glibc.  A newcomer takes what is free before those that are queued, but then there are none for longer than someone is in settle.  A writer that gave up may have
 * been what kept readers out: whoever gives up settles.
 *
 * A signal takes a waiter out of its queue, for its handler to run; then it comes again, as first.  Should the handler leave by siglongjmp, nobody settles: a bit says queued
 * where nobody is until the next unlock by the last that has it.
 *
 * Handing over, and not waking to try again, makes writers take turns with a switch each where they contend all the time; it needs no bit for "woken,
 * on its way", which would be wrong in the child of a fork, and no starvation mode.
 *
 * An unlock with someone queued lets go under the lock of the lot, and that is its last touch: the lock may be destroyed by who comes next.
 *
 * A library's constructor, before ours, may have used the lock in glibc's way, and have it still: WRITER and READER are where glibc has them (pthreadP.h), and PHASE is what it
 * leaves set after a writer.
 *
 * Two queues, of one lot (lot.h): readers wait at the object, writers at its second byte.  Locks: the lot's, a leaf.
 */
#include "free/psync.h"
#include <errno.h>
#include <stddef.h>
#include "free/free.h"
#include "free/plimit.h"
#include "free/pspin.h"
#include "sync/stop.h"

#define PHASE 1u
#define WRITER 2u
#define RWAIT 4u
#define READER 8u
#define WWAIT (1u << 31)
#define READERS (~(PHASE | WRITER | RWAIT | WWAIT))

#define STATE(rw) ((_Atomic uint32_t *)&(rw)->__data.__readers)
#define CUR_WRITER(rw) ((_Atomic uint32_t *)&(rw)->__data.__cur_writer)

static inline const void *readers_key(pthread_rwlock_t *rw) { return rw; }
static inline const void *writers_key(pthread_rwlock_t *rw) { return (char *)rw + 1; }

static inline bool state_cas(pthread_rwlock_t *rw, uint32_t *old, uint32_t new, memory_order order) {
  return atomic_compare_exchange_weak_explicit(STATE(rw), old, new, order, memory_order_relaxed);
}
static inline uint32_t state(pthread_rwlock_t *rw) { return atomic_load_explicit(STATE(rw), memory_order_relaxed); }

/* No new reader gets in. */
static inline bool shut(const pthread_rwlock_t *rw, uint32_t old) {
  return (old & WRITER) || ((old & WWAIT) && rw->__data.__flags == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
}
static inline bool is_free(uint32_t old) { return !(old & (WRITER | READERS)); }
/* As many readers as can be counted. */
static inline bool is_full(uint32_t old) { return (old & READERS) == READERS; }

/* Only the writer itself finds itself here: relaxed. */
static inline bool writes(pthread_rwlock_t *rw, uint32_t old) {
  return (old & WRITER) && atomic_load_explicit(CUR_WRITER(rw), memory_order_relaxed) == free_self_id();
}
static inline void set_writer(pthread_rwlock_t *rw, uint32_t id) { atomic_store_explicit(CUR_WRITER(rw), id, memory_order_relaxed); }

/* --- who is next --- */

/* The state once `left` goes to those that are queued; *to_writer, *to_readers say whom. */
static uint32_t next_state(const pthread_rwlock_t *rw, uint32_t left, const struct waiter *w, const struct waiter *r, bool *to_writer,
                           bool *to_readers) {
  unsigned kind = rw->__data.__flags;
  *to_writer = w && left == 0 && (!r || kind != PTHREAD_RWLOCK_PREFER_READER_NP);
  *to_readers = r && !*to_writer && !(left & WRITER) && (!w || kind != PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  if (*to_writer) left |= WRITER;
  for (const struct waiter *in = *to_readers ? r : NULL; in; in = in->next) left += READER;
  if (w && !(*to_writer && !w->next)) left |= WWAIT;
  if (r && !*to_readers) left |= RWAIT;
  return left;
}

/* Under the lock of the lot.  The caller gives back its share (WRITER, READER, or 0); returns those that got the lock. */
static struct waiter *settle(pthread_rwlock_t *rw, struct lot *lot, uint32_t share) {
  struct waiter *w = lot_first(lot, writers_key(rw)), *r = lot_first(lot, readers_key(rw));
  uint32_t old = state(rw), new;
  bool to_writer, to_readers;
  /* release: what the caller did with its share; acquire: what others did with theirs, for those that get the lock from us by their notes */
  do new = next_state(rw, (old & (WRITER | READERS)) - share, w, r, &to_writer, &to_readers);
  while (!state_cas(rw, &old, new, memory_order_acq_rel));
  if (to_readers) return lot_pop_all(lot, readers_key(rw));
  if (!to_writer) return NULL;
  lot_remove(lot, w);
  w->next = NULL;
  return w;
}

static __attribute__((noinline)) void settle_slow(pthread_rwlock_t *rw, uint32_t share) {
  struct lot *lot = lot_lock(readers_key(rw));
  struct waiter *list = settle(rw, lot, share);
  lot_unlock(lot);
  bool writer = list && list->handoff; /* of those that wait to write: set by them */
  lot_wake_all(list);
  if (writer) g_yield(); /* it has the lock and this P next */
}

/* Worth it while a writer has it, and nobody is queued. */
static void spin(pthread_rwlock_t *rw) {
  for (unsigned rounds = 0; (state(rw) & (WRITER | WWAIT | RWAIT)) == WRITER && pspin(&rounds);)
    ;
}

/* --- readers --- */

/* 0, EBUSY, EAGAIN.  Acquire: pairs with settle and unlock. */
static inline int rdlock_fast(pthread_rwlock_t *rw) {
  uint32_t old = state(rw);
  while (!shut(rw, old)) {
    if (__builtin_expect(is_full(old), 0)) return EAGAIN;
    if (state_cas(rw, &old, old + READER, memory_order_acquire)) return 0;
  }
  return EBUSY;
}

/* A wait that has ended so: 0, or what to return; EINTR: handlers have run, and it tries again, as first. */
static int waited(pthread_rwlock_t *rw, int r) {
  if (r == 0) return 0;
  settle_slow(rw, 0);
  if (r != -EINTR) return ETIMEDOUT;
  stop_notice();
  return EINTR;
}

/* 0: it is had; EBUSY: w is queued; EAGAIN. */
static int had_or_queued_rd(pthread_rwlock_t *rw, struct waiter *w, bool front) {
  struct lot *lot = lot_lock(readers_key(rw));
  uint32_t old = state(rw), new;
  do {
    new = shut(rw, old) ? old | RWAIT : old + READER;
    if (is_full(old) && !shut(rw, old)) {
      lot_unlock(lot);
      return EAGAIN;
    }
  } while (!state_cas(rw, &old, new, memory_order_acquire));
  bool had = !shut(rw, old);
  if (!had) lot_push(lot, w, front);
  lot_unlock(lot);
  return had ? 0 : EBUSY;
}

static __attribute__((noinline)) int rdlock_slow(pthread_rwlock_t *rw, const struct limit *lim) {
  if (writes(rw, state(rw))) return EDEADLK;
  spin(rw);
  int r = 0;
  do {
    struct waiter w = WAITER_INIT(readers_key(rw));
    w.interruptible = true;
    r = had_or_queued_rd(rw, &w, r == EINTR);
    if (r == EBUSY) r = waited(rw, lot_wait(&w, lim, WAIT_RWLOCK));
  } while (r == EINTR);
  return r;
}

int free_rwlock_rdlock(pthread_rwlock_t *rw) {
  int r = rdlock_fast(rw);
  return __builtin_expect(r != EBUSY, 1) ? r : rdlock_slow(rw, NULL);
}

int free_rwlock_tryrdlock(pthread_rwlock_t *rw) { return rdlock_fast(rw); }

/* As glibc: the time is looked at first, also where the lock is free. */
int free_rwlock_timed_rdlock(pthread_rwlock_t *rw, clockid_t clock, const struct timespec *until) {
  if (!plimit_clock_ok(clock) || !plimit_ns_ok(until)) return EINVAL;
  int r = rdlock_fast(rw);
  if (r != EBUSY) return r;
  struct limit lim = plimit(clock, until);
  return rdlock_slow(rw, &lim);
}

/* --- writers --- */

static inline bool wrlock_fast(pthread_rwlock_t *rw) {
  uint32_t old = 0;
  /* acquire: pairs with settle and unlock */
  if (!atomic_compare_exchange_strong_explicit(STATE(rw), &old, WRITER, memory_order_acquire, memory_order_relaxed)) return false;
  set_writer(rw, free_self_id());
  return true;
}

/* 0: it is had; EBUSY: w is queued. */
static int had_or_queued_wr(pthread_rwlock_t *rw, struct waiter *w, bool front) {
  struct lot *lot = lot_lock(readers_key(rw));
  uint32_t old = state(rw);
  while (!state_cas(rw, &old, old | (is_free(old) ? WRITER : WWAIT), memory_order_acquire))
    ;
  bool had = is_free(old);
  if (!had) lot_push(lot, w, front);
  lot_unlock(lot);
  return had ? 0 : EBUSY;
}

static __attribute__((noinline)) int wrlock_slow(pthread_rwlock_t *rw, const struct limit *lim) {
  if (writes(rw, state(rw))) return EDEADLK;
  spin(rw);
  int r = 0;
  do {
    struct waiter w = WAITER_INIT(writers_key(rw));
    w.handoff = w.interruptible = true; /* settle_slow looks at handoff */
    r = had_or_queued_wr(rw, &w, r == EINTR);
    if (r == EBUSY) r = waited(rw, lot_wait(&w, lim, WAIT_RWLOCK));
  } while (r == EINTR);
  if (r == 0) set_writer(rw, free_self_id());
  return r;
}

int free_rwlock_wrlock(pthread_rwlock_t *rw) { return wrlock_fast(rw) ? 0 : wrlock_slow(rw, NULL); }

int free_rwlock_trywrlock(pthread_rwlock_t *rw) {
  uint32_t old = state(rw);
  while (is_free(old)) {
    if (!state_cas(rw, &old, old | WRITER, memory_order_acquire)) continue;
    set_writer(rw, free_self_id());
    return 0;
  }
  return EBUSY;
}

int free_rwlock_timed_wrlock(pthread_rwlock_t *rw, clockid_t clock, const struct timespec *until) {
  if (!plimit_clock_ok(clock) || !plimit_ns_ok(until)) return EINVAL;
  if (wrlock_fast(rw)) return 0;
  struct limit lim = plimit(clock, until);
  return wrlock_slow(rw, &lim);
}

/* --- both --- */

int free_rwlock_unlock(pthread_rwlock_t *rw) {
  uint32_t old = state(rw);
  if (old & WRITER) {
    set_writer(rw, 0);
    old = WRITER;
    /* release: pairs with the acquires of those who lock it */
    if (!atomic_compare_exchange_strong_explicit(STATE(rw), &old, 0, memory_order_release, memory_order_relaxed)) settle_slow(rw, WRITER);
    return 0;
  }
  while (old & READERS) { /* else it is not locked: nothing, as in glibc */
    if ((old & READERS) == READER && (old & (WWAIT | RWAIT))) {
      settle_slow(rw, READER);
      return 0;
    }
    /* release: pairs with the acquires of writers */
    if (state_cas(rw, &old, old - READER, memory_order_release)) return 0;
  }
  return 0;
}
