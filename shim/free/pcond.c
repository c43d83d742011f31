/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pthread conditions of free mode, on the parking lot.
 *
 *   word (the lower half of __wseq)   1: someone is queued (or was, and gave up)
 *
 *   wait     lot_lock; word = 1; queue; lot_unlock;  unlock the mutex;  wait;  lock the mutex
 *   signal   word 0? nothing.  lot_lock; first out of the queue (all, if it is a broadcast); the last? word = 0; lot_unlock;  plock_adopt
 *
 * A waiter is queued before it lets go of the mutex, and the lot is FIFO.  A signaller that has, or had, the mutex after the waiter's unlock sees the word, by the mutex.
 *
 *              signal, the mutex is free                    locks it, as others do
 *   queued ------------------------------> woken ------------------------------------> returns
 *   ^ |  \                                                                                ^
 *   | |   '-- signal, the mutex is locked --> queued at the mutex -- unlock, as others --'
 *   | '-- time over, cancelled ------------> locks the mutex --> ETIMEDOUT; the cancellation
 *   '-- a handler has run, in no queue; nobody was signalled meanwhile: lot->wakes (else it returns for no reason, as POSIX has it)
 *
 * The count is in the lot: whoever was to wake all may have destroyed the condition when the handler returns.
 *
 * So a broadcast wakes one at most: the others go on from unlock to unlock.  Who is out of the condition's queue has been signalled, and neither
 * time nor cancellation ends its wait any more: no signal is lost with a waiter that gave up.  Nobody touches the condition after that, it may be
 * destroyed.  The mutex cannot be before its waiter has had it.
 *
 * Not moved but woken: waiters with a mutex of the kernel's, and those that keep a recursive mutex locked while they wait (glibc's way with one
 * that is locked twice).
 *
 * Locks: that of a lot is a leaf; the condition's is dropped before the mutex's is taken.
 */
#include "free/psync.h"
#include <errno.h>
#include <stddef.h>
#include "free/free.h"
#include "free/plimit.h"
#include "free/plock.h"
#include "free/pmutex.h"
#include "sync/stop.h"

#define COND_WORD(c) ((_Atomic uint32_t *)&(c)->__data.__wseq)
#define MOMENT_NS 1000000u

/* What waits at a condition. */
struct cond_waiter {
  struct waiter w;            /* first: the queue is one of these */
  _Atomic uint32_t *moves_to; /* null: is woken instead */
};

static int unlock(pthread_mutex_t *m) { return free_mutex_is_kernels(m) ? pthread_mutex_unlock(m) : free_mutex_unlock(m); }
static int lock(pthread_mutex_t *m) { return free_mutex_is_kernels(m) ? pthread_mutex_lock(m) : free_mutex_lock(m); }

/* --- signal --- */

/* The list begins with those that move to the same mutex, mostly all.  Cuts it behind them and returns the rest. */
static struct waiter *cut(struct waiter *list) {
  _Atomic uint32_t *to = ((struct cond_waiter *)list)->moves_to;
  struct waiter *last = list;
  while (to && last->next && ((struct cond_waiter *)last->next)->moves_to == to) last = last->next;
  struct waiter *rest = last->next;
  last->next = NULL;
  return rest;
}

static void wake_list(struct waiter *list) {
  for (struct waiter *rest; list; list = rest) {
    rest = cut(list);
    _Atomic uint32_t *to = ((struct cond_waiter *)list)->moves_to;
    struct waiter *now = to ? plock_adopt(to, list) : list;
    if (now) note_set(&now->note, true);
  }
}

static int wake(pthread_cond_t *c, bool all) {
  if (atomic_load_explicit(COND_WORD(c), memory_order_relaxed) == 0) return 0;
  struct lot *lot = lot_lock(c);
  lot->wakes++;
  struct waiter *w = all ? lot_pop_all(lot, c) : lot_first(lot, c);
  if (!all && w) {
    lot_remove(lot, w);
    w->next = NULL;
  }
  if (!lot_first(lot, c)) atomic_store_explicit(COND_WORD(c), 0, memory_order_relaxed);
  lot_unlock(lot);
  wake_list(w);
  return 0;
}

int free_cond_signal(pthread_cond_t *c) { return wake(c, false); }
int free_cond_broadcast(pthread_cond_t *c) { return wake(c, true); }

/* --- wait --- */

/* The mutex was not the caller's to unlock.  A signal that has come meanwhile was for another. */
static int withdraw(pthread_cond_t *c, struct waiter *w, int err) {
  struct limit now = {.until = 0};
  if (lot_wait(w, &now, WAIT_COND) == 0) wake(c, false);
  return err;
}

/* How many were signalled before. */
static uint32_t enqueue(pthread_cond_t *c, struct waiter *w) {
  struct lot *lot = lot_lock(c);
  atomic_store_explicit(COND_WORD(c), 1, memory_order_relaxed);
  lot_push(lot, w, false);
  uint32_t wakes = lot->wakes;
  lot_unlock(lot);
  return wakes;
}

/* After a handler.  Its place again, if nobody was signalled since enqueue: the word is what it was then, too. */
static bool enqueue_again(pthread_cond_t *c, struct waiter *w, uint32_t wakes) {
  *w = (struct waiter){.key = c, .interruptible = true};
  struct lot *lot = lot_lock(c);
  bool none = lot->wakes == wakes;
  if (none) lot_push(lot, w, true);
  lot_unlock(lot);
  return none;
}

/* As lot_wait; -EINTR: it has been signalled, or not. */
static int wait_queued(pthread_cond_t *c, struct waiter *w, uint32_t wakes, struct limit lim) {
  int r;
  while ((r = lot_wait(w, lim.ctx || lim.until != UINT64_MAX ? &lim : NULL, WAIT_COND)) == -EINTR) {
    stop_notice(); /* the handler */
    if (!enqueue_again(c, w, wakes)) break;
    lim.ctx = free_cancel_context();
  }
  return r;
}

/* The mutex again, after a wait that ended so. */
static int relock(pthread_mutex_t *m, const struct cond_waiter *me, int r) {
  if (r || !me->moves_to) return lock(m);
  plock_adopted(me->moves_to, &me->w);
  pmutex_take(m);
  return 0;
}

/* lim->ctx is the caller's. */
static int wait_deferred(pthread_cond_t *c, pthread_mutex_t *m, const struct limit *lim) {
  struct cond_waiter me = {.w = WAITER_INIT(c)};
  bool kernels = free_mutex_is_kernels(m);
  int err = kernels ? 0 : pmutex_may_unlock(m);
  if (err) return err;
  free_testcancel();
  if (!kernels && !pmutex_stays(m)) me.moves_to = PMUTEX_WORD(m);
  me.w.interruptible = true;
  uint32_t wakes = enqueue(c, &me.w);
  pmutex_waits(m, true);
  err = unlock(m);
  if (err) {
    pmutex_waits(m, false);
    return withdraw(c, &me.w, err);
  }
  int r = wait_queued(c, &me.w, wakes, *lim);
  err = relock(m, &me, r);
  pmutex_waits(m, false);
  if (r == -ETIMEDOUT) return err ? err : ETIMEDOUT;
  if (r) free_testcancel(); /* or else it is for no reason, too */
  return err;
}

/* Who is cancelled has the mutex again, in any case: asynchronous cancellation is not to act in between. */
static int wait(pthread_cond_t *c, pthread_mutex_t *m, const struct limit *lim) {
  int type = PTHREAD_CANCEL_DEFERRED;
  bool async = free_cancel_is_async();
  if (async) pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
  int r = wait_deferred(c, m, lim);
  if (async) pthread_setcanceltype(type, NULL);
  return r;
}

int free_cond_wait(pthread_cond_t *c, pthread_mutex_t *m) {
  struct limit lim = {.until = UINT64_MAX, .ctx = free_cancel_context()};
  return wait(c, m, &lim);
}

int free_cond_clock(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock, const struct timespec *until) {
  if (!plimit_ns_ok(until) || !plimit_clock_ok(clock)) return EINVAL;
  struct limit lim = plimit(clock, until);
  lim.ctx = free_cancel_context();
  return wait(c, m, &lim);
}

int free_cond_timed(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until) {
  return free_cond_clock(c, m, free_cond_clock_of(c), until);
}

int free_cond_poll(pthread_mutex_t *m, clockid_t clock, const struct timespec *until) {
  if (until && (!plimit_ns_ok(until) || !plimit_clock_ok(clock))) return EINVAL;
  struct limit lim = {.until = UINT64_MAX};
  if (until) lim = plimit(clock, until);
  free_testcancel();
  int err = free_mutex_unlock(m);
  if (err) return err;
  uint64_t moment = sys_now() + MOMENT_NS;
  g_sleep_until(lim.until < moment ? lim.until : moment);
  (void)free_mutex_lock(m);
  free_testcancel();
  return until && limit_passed(&lim) ? ETIMEDOUT : 0;
}
