/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POSIX semaphores of free mode, on the parking lot.
 *
 *   data   the value in the lower half; bit 63: WAITERS, someone is queued
 *
 *   wait   value > 0: one less, one compare-and-swap.  Else under the lot: still 0? WAITERS on; queue; who is woken tries again
 *   post   no WAITERS: one more, one compare-and-swap.  Else under the lot: one more, the first waiter out of the queue; wake it
 *
 * Each post finds the queue empty or takes one out, so there is always someone awake for each unit that was posted while others were queued.  A running thread may be
 * faster than the woken one, which queues as first again: a semaphore used as a lock does not cost a switch each time.
 *
 * A post changes the word under the lock of the lot, or by its one compare-and-swap: its last touch, as the one that it wakes may free the semaphore.
 * sem_post is for signal handlers as well: lots are (run_lock).
 *
 * A signal takes a waiter out of the queue; whether it waits again is for its handler's SA_RESTART to say.
 *
 * Locks: the lot's, a leaf.
 */
#include "free/psync.h"
#include <errno.h>
#include <limits.h>
#include "free/free.h"
#include "free/plimit.h"

#define WAITERS (UINT64_C(1) << 63)
#define VALUE(data) ((uint32_t)(data))

#define DATA(s) (&((struct free_sem *)(s))->data)

/* errno is this thread's: not to be looked up before a wait and used after it. */
static __attribute__((noinline)) int fails(int err) {
  errno = err;
  return -1;
}

static bool try(sem_t *s) {
  uint64_t old = atomic_load_explicit(DATA(s), memory_order_relaxed);
  while (VALUE(old)) /* acquire: pairs with the releases in free_sem_post */
    if (atomic_compare_exchange_weak_explicit(DATA(s), &old, old - 1, memory_order_acquire, memory_order_relaxed)) return true;
  return false;
}

/* Queues w if there is still nothing. */
static bool queue(sem_t *s, struct waiter *w, bool front) {
  struct lot *lot = lot_lock(s);
  uint64_t old = atomic_load_explicit(DATA(s), memory_order_relaxed);
  do {
    if (VALUE(old)) {
      lot_unlock(lot);
      return false;
    }
  } while (!atomic_compare_exchange_weak_explicit(DATA(s), &old, old | WAITERS, memory_order_relaxed, memory_order_relaxed));
  lot_push(lot, w, front);
  lot_unlock(lot);
  return true;
}

/* A waiter gave up: was it the last? */
static void queue_left(sem_t *s) {
  struct lot *lot = lot_lock(s);
  if (!lot_first(lot, s)) atomic_fetch_and_explicit(DATA(s), ~WAITERS, memory_order_relaxed);
  lot_unlock(lot);
}

/* 0, or why it gave up. */
static __attribute__((noinline)) int wait_slow(sem_t *s, const struct limit *lim) {
  bool timed = lim->until != UINT64_MAX; /* as the kernel's futexes: a wait that has a time is never restarted */
  struct free_mark mark = free_mark();
  for (bool waited = false; !try(s);) {
    struct waiter w = WAITER_INIT(s);
    w.interruptible = true;
    if (!queue(s, &w, waited)) continue;
    int r = lot_wait(&w, lim->ctx || lim->until != UINT64_MAX ? lim : NULL, WAIT_SEMA);
    if (r) queue_left(s);
    if (r && (r != -EINTR || free_interrupted(&mark, timed))) return r;
    waited = true;
  }
  return 0;
}

static int wait(sem_t *s, struct limit *lim) {
  lim->ctx = free_cancel_context();
  int r = wait_slow(s, lim);
  if (r == 0) return 0;
  if (r == -ETIMEDOUT) return fails(ETIMEDOUT);
  free_testcancel();
  return fails(EINTR);
}

int free_sem_wait(sem_t *s) {
  free_testcancel();
  if (try(s)) return 0;
  struct limit lim = {.until = UINT64_MAX};
  return wait(s, &lim);
}

int free_sem_trywait(sem_t *s) { return try(s) ? 0 : fails(EAGAIN); }

int free_sem_timed(sem_t *s, clockid_t clock, const struct timespec *until) {
  if (!plimit_clock_ok(clock) || !plimit_ns_ok(until)) return fails(EINVAL);
  free_testcancel();
  if (try(s)) return 0;
  struct limit lim = plimit(clock, until);
  return wait(s, &lim);
}

/* Under the lock of the lot. */
static int post_and_take(sem_t *s, struct lot *lot, struct waiter **out) {
  struct waiter *w = lot_first(lot, s);
  uint64_t old = atomic_load_explicit(DATA(s), memory_order_relaxed), new;
  do {
    if (VALUE(old) == SEM_VALUE_MAX) return EOVERFLOW;
    new = old + 1;
    if (!w || !w->next) new &= ~WAITERS;
    /* release: what the poster did, for who takes it */
  } while (!atomic_compare_exchange_weak_explicit(DATA(s), &old, new, memory_order_release, memory_order_relaxed));
  if (w) lot_remove(lot, w);
  *out = w;
  return 0;
}

static __attribute__((noinline)) int post_slow(sem_t *s) {
  struct waiter *w = NULL;
  struct lot *lot = lot_lock(s);
  int err = post_and_take(s, lot, &w);
  lot_unlock(lot);
  if (w) note_set(&w->note, true);
  return err ? fails(err) : 0;
}

int free_sem_post(sem_t *s) {
  uint64_t old = atomic_load_explicit(DATA(s), memory_order_relaxed);
  while (!(old & WAITERS)) {
    if (VALUE(old) == SEM_VALUE_MAX) return fails(EOVERFLOW);
    /* release: as in post_and_take */
    if (atomic_compare_exchange_weak_explicit(DATA(s), &old, old + 1, memory_order_release, memory_order_relaxed)) return 0;
  }
  return post_slow(s);
}
