/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Go's sync.Cond on the parking lot.
 *
 *   word   1: someone is queued (or was, and gave up)
 *
 *   wait     lot_lock; word = 1; queue; lot_unlock;  mutex_unlock;  park until the note is set;  mutex_lock
 *   signal   word 0? nothing.  lot_lock; first out of the queue; was it the last? word = 0; lot_unlock; set its note
 *
 * A waiter is queued before it lets go of the mutex, and the lot is FIFO: that is all of Go's tickets.  A signal that comes before it has parked keeps it from
 * parking.  A signaller that has, or had, the mutex after the waiter's unlock sees the word, by the mutex.
 *
 * Locks: the lot's, a leaf; the mutex is unlocked and locked without it.
 */
#include "ration/sync.h"
#include "sync/lot.h"

static int wait_limit(struct ration_cond *c, struct ration_mutex *m, const struct limit *lim) {
  struct waiter w = WAITER_INIT(c);
  struct lot *lot = lot_lock(c);
  atomic_store_explicit(WORD(c), 1, memory_order_relaxed);
  lot_push(lot, &w, false);
  lot_unlock(lot);
  ration_mutex_unlock(m);
  int r = lot_wait(&w, lim, WAIT_COND);
  ration_mutex_lock(m);
  return r;
}

void ration_cond_wait(struct ration_cond *c, struct ration_mutex *m) { (void)wait_limit(c, m, NULL); }

int ration_cond_wait_timeout(struct ration_cond *c, struct ration_mutex *m, ration_ns d) {
  struct limit lim = limit_after(d);
  return wait_limit(c, m, &lim);
}

int ration_cond_wait_ctx(struct ration_cond *c, struct ration_mutex *m, struct ration_context *ctx) {
  struct limit lim = {UINT64_MAX, ctx};
  return wait_limit(c, m, &lim);
}

static void wake(struct ration_cond *c, bool all) {
  if (atomic_load_explicit(WORD(c), memory_order_relaxed) == 0) return;
  struct lot *lot = lot_lock(c);
  struct waiter *w = all ? lot_pop_all(lot, c) : lot_first(lot, c);
  if (!all && w) {
    lot_remove(lot, w);
    w->next = NULL;
  }
  if (!lot_first(lot, c)) atomic_store_explicit(WORD(c), 0, memory_order_relaxed);
  lot_unlock(lot);
  lot_wake_all(w);
}

void ration_cond_signal(struct ration_cond *c) { wake(c, false); }
void ration_cond_broadcast(struct ration_cond *c) { wake(c, true); }
