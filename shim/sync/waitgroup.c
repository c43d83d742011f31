/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Go's sync.WaitGroup on the parking lot.
 *
 *   word   bit 0: WAITERS, someone is queued;  bits 1..31: the counter
 *
 *   wait   counter 0? done.  lot_lock; counter 0? done; WAITERS on; queue; park
 *   add    the counter stays above 0, or nobody waits: one compare-and-swap
 *          it becomes 0 with WAITERS: lot_lock; counter and WAITERS to 0 at once; all out of the queue; wake them
 *
 * The last round ends under the lock under which waiters queue, so whoever waits belongs to the round that ends: there is no misuse to detect, the next round may
 * begin at once.  (Go wakes by a counter of waiters, and panics when it sees that the rounds mix.)  Ending the round is also the last touch
 * of the word: a waiter that sees 0 may free it.
 *
 * Model: tests/model/waitgroup.pml, with the lot and its notes.
 *
 * Locks: the lot's, a leaf.
 */
#include <errno.h>
#include <stdlib.h>
#include "ration/sync.h"
#include "sync/lot.h"
#include "sync/task.h"
#include "sync/waitgroup.h"

#define WAITERS 1u
#define COUNT_SHIFT 1

static inline int64_t count_of(uint32_t word) { return word >> COUNT_SHIFT; }

static uint32_t add_to(uint32_t old, int delta) {
  int64_t n = count_of(old) + delta;
  if (n < 0) g_fatal("negative WaitGroup counter");
  if (n > INT32_MAX) g_fatal("WaitGroup counter overflow");
  return (uint32_t)n << COUNT_SHIFT | (old & WAITERS);
}

void ration_waitgroup_add(struct ration_waitgroup *wg, int delta) {
  uint32_t old = atomic_load_explicit(WORD(wg), memory_order_relaxed), new;
  do {
    new = add_to(old, delta);
    if (new == WAITERS) break;
    /* release: what was done before done, for the waiters.  acquire: and for the one that ends the round, who tells them. */
  } while (!atomic_compare_exchange_weak_explicit(WORD(wg), &old, new, memory_order_acq_rel, memory_order_relaxed));
  if (new != WAITERS) return;

  struct lot *lot = lot_lock(wg);
  struct waiter *all = NULL;
  old = atomic_load_explicit(WORD(wg), memory_order_relaxed);
  do {
    new = add_to(old, delta);
    if (new == WAITERS) new = 0;
  } while (!atomic_compare_exchange_weak_explicit(WORD(wg), &old, new, memory_order_acq_rel, memory_order_relaxed));
  if (new == 0) all = lot_pop_all(lot, wg);
  lot_unlock(lot);
  lot_wake_all(all);
}

void ration_waitgroup_done(struct ration_waitgroup *wg) { ration_waitgroup_add(wg, -1); }

int waitgroup_wait_limit(struct ration_waitgroup *wg, const struct limit *lim) {
  uint32_t old = atomic_load_explicit(WORD(wg), memory_order_acquire); /* pairs with the adds that made it 0 */
  if (count_of(old) == 0) return 0;
  struct waiter w = WAITER_INIT(wg);
  struct lot *lot = lot_lock(wg);
  old = atomic_load_explicit(WORD(wg), memory_order_acquire);
  do {
    if (count_of(old) == 0) {
      lot_unlock(lot);
      return 0;
    }
  } while (!atomic_compare_exchange_weak_explicit(WORD(wg), &old, old | WAITERS, memory_order_acquire, memory_order_acquire));
  lot_push(lot, &w, false);
  lot_unlock(lot);
  return lot_wait(&w, lim, WAIT_WAITGROUP);
}

void ration_waitgroup_wait(struct ration_waitgroup *wg) { (void)waitgroup_wait_limit(wg, NULL); }

int ration_waitgroup_wait_timeout(struct ration_waitgroup *wg, ration_ns d) {
  struct limit lim = limit_after(d);
  return waitgroup_wait_limit(wg, &lim);
}

int ration_waitgroup_wait_ctx(struct ration_waitgroup *wg, struct ration_context *ctx) {
  struct limit lim = {UINT64_MAX, ctx};
  return waitgroup_wait_limit(wg, &lim);
}

struct call {
  struct task task;
  struct ration_waitgroup *wg;
  ration_fn *fn;
  void *arg;
};

static void call_body(struct task *t) {
  struct call *c = (struct call *)t;
  c->fn(c->arg);
}

static void call_end(struct task *t, bool exited) {
  (void)exited;
  struct ration_waitgroup *wg = ((struct call *)t)->wg;
  free(t);
  ration_waitgroup_done(wg);
}

int ration_waitgroup_go(struct ration_waitgroup *wg, ration_fn *fn, void *arg) {
  if (!fn) g_fatal("go of nil func value");
  struct call *c = malloc(sizeof *c);
  if (!c) return -ENOMEM;
  *c = (struct call){{call_body, call_end}, wg, fn, arg};
  ration_waitgroup_add(wg, 1);
  int r = task_go(&c->task);
  if (r) call_end(&c->task, false);
  return r;
}
