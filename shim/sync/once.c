/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Go's sync.Once on the parking lot.
 *
 *   word   0 --the first--> RUNNING --another comes--> RUNNING|WAITERS --fn returned--> DONE
 *
 * WAITERS is set under the lock of the lot, DONE as well if somebody waits.
 */
#include "ration/sync.h"
#include "sync/lot.h"

#define DONE 1u
#define RUNNING 2u
#define WAITERS 4u

static void wait_for(struct ration_once *o) {
  struct waiter w = WAITER_INIT(o);
  struct lot *lot = lot_lock(o);
  uint32_t running = RUNNING;
  /* RUNNING or RUNNING|WAITERS -> RUNNING|WAITERS; acquire of DONE: pairs with finish */
  if (!atomic_compare_exchange_strong_explicit(WORD(o), &running, RUNNING | WAITERS, memory_order_acquire, memory_order_acquire) &&
      running == DONE) {
    lot_unlock(lot);
    return;
  }
  lot_push(lot, &w, false);
  lot_unlock(lot);
  lot_wait(&w, NULL, WAIT_MUTEX);
}

static void finish(struct ration_once *o) {
  uint32_t running = RUNNING;
  /* release: what fn did; pairs with the acquires here and in ration_once_do */
  if (atomic_compare_exchange_strong_explicit(WORD(o), &running, DONE, memory_order_release, memory_order_relaxed)) return;
  struct lot *lot = lot_lock(o);
  atomic_store_explicit(WORD(o), DONE, memory_order_release);
  struct waiter *all = lot_pop_all(lot, o);
  lot_unlock(lot);
  lot_wake_all(all);
}

void ration_once_do(struct ration_once *o, ration_fn *fn, void *arg) {
  uint32_t old = atomic_load_explicit(WORD(o), memory_order_acquire); /* pairs with finish */
  if (__builtin_expect(old == DONE, 1)) return;
  if (old == 0 && atomic_compare_exchange_strong_explicit(WORD(o), &old, RUNNING, memory_order_acquire, memory_order_acquire)) {
    if (!fn) g_fatal("once of nil func value");
    fn(arg);
    finish(o);
  } else if (old != DONE) {
    wait_for(o);
  }
}
