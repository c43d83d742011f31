/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x/sync's weighted semaphore on the parking lot.
 *
 *   state   bit 63: WAITERS, someone is queued;  the rest: how much is held
 *
 *   acquire   nobody waits and it fits: one compare-and-swap.  Else under the lot: WAITERS on; queue; who is woken has it already
 *   release   nobody waits: one compare-and-swap.  Else under the lot: less is held; in their order, waiters get theirs until one does not fit
 *
 * While WAITERS is on, the state changes under the lock of the lot only.  A waiter that gives up may have been what kept the others back: it looks.
 *
 * Locks: the lot's, a leaf.
 */
#include "ration/sync.h"
#include <errno.h>
#include "sync/lot.h"

#define WAITERS (UINT64_C(1) << 63)

#define STATE(s) ((_Atomic uint64_t *)&(s)->state)

int ration_sema_init(struct ration_sema *s, int64_t size) {
  if (size < 0) return -EINVAL;
  *s = (struct ration_sema)RATION_SEMA_INIT(size);
  return 0;
}

static inline bool fits(const struct ration_sema *s, uint64_t state, int64_t n) {
  return !(state & WAITERS) && n <= s->size - (int64_t)state;
}

static inline bool try(struct ration_sema *s, int64_t n) {
  uint64_t old = atomic_load_explicit(STATE(s), memory_order_relaxed);
  while (fits(s, old, n)) {
    /* acquire: pairs with the releases in ration_sema_release */
    if (atomic_compare_exchange_weak_explicit(STATE(s), &old, old + (uint64_t)n, memory_order_acquire, memory_order_relaxed)) return true;
  }
  return false;
}

/* Under the lock of the lot.  Takes those out that get theirs now; they are linked by next. */
static struct waiter *grant(struct ration_sema *s, struct lot *lot) {
  uint64_t state = atomic_load_explicit(STATE(s), memory_order_relaxed) & ~WAITERS;
  struct waiter *list = NULL, **end = &list, *w;
  while ((w = lot_first(lot, s)) && w->n <= s->size - (int64_t)state) {
    state += (uint64_t)w->n;
    lot_remove(lot, w);
    w->next = NULL;
    *end = w;
    end = &w->next;
  }
  /* release: also for those that find WAITERS off and need no lot */
  atomic_store_explicit(STATE(s), state | (w ? WAITERS : 0), memory_order_release);
  return list;
}

static int acquire_slow(struct ration_sema *s, int64_t n, const struct limit *lim) {
  struct waiter w = WAITER_INIT(s);
  w.n = n;
  struct lot *lot = lot_lock(s);
  uint64_t old = atomic_load_explicit(STATE(s), memory_order_relaxed), new;
  do {
    new = fits(s, old, n) ? old + (uint64_t)n : old | WAITERS;
  } while (!atomic_compare_exchange_weak_explicit(STATE(s), &old, new, memory_order_acquire, memory_order_relaxed));
  if (!(new &WAITERS)) {
    lot_unlock(lot);
    return 0;
  }
  lot_push(lot, &w, false);
  lot_unlock(lot);
  int r = lot_wait(&w, lim, WAIT_SEMA);
  if (r) {
    lot = lot_lock(s);
    /* With WAITERS off someone has cleaned up after us already, and the state may change under our hands. */
    struct waiter *list = atomic_load_explicit(STATE(s), memory_order_relaxed) & WAITERS ? grant(s, lot) : NULL;
    lot_unlock(lot);
    lot_wake_all(list);
  }
  return r;
}

/* More than the size: until the end of the context, in nobody's way.  Null never ends. */
static int wait_for_nothing(struct ration_context *ctx) {
  struct limit lim = {UINT64_MAX, ctx};
  struct waiter w = WAITER_INIT(&w);
  struct lot *lot = lot_lock(w.key);
  lot_push(lot, &w, false);
  lot_unlock(lot);
  return lot_wait(&w, &lim, WAIT_SEMA);
}

static int check(const struct ration_sema *s, int64_t n) { return n < 0 ? -EINVAL : n > s->size ? -E2BIG : 0; }

int ration_sema_acquire(struct ration_sema *s, int64_t n) {
  int r = check(s, n);
  if (r || try(s, n)) return r;
  return acquire_slow(s, n, NULL);
}

int ration_sema_acquire_timeout(struct ration_sema *s, int64_t n, ration_ns d) {
  int r = check(s, n);
  if (r || try(s, n)) return r;
  struct limit lim = limit_after(d);
  return acquire_slow(s, n, &lim);
}

int ration_sema_acquire_ctx(struct ration_sema *s, int64_t n, struct ration_context *ctx) {
  int r = check(s, n);
  if (r == -E2BIG) return wait_for_nothing(ctx);
  if (r || try(s, n)) return r;
  struct limit lim = {UINT64_MAX, ctx};
  return acquire_slow(s, n, &lim);
}

int ration_sema_tryacquire(struct ration_sema *s, int64_t n) {
  int r = check(s, n);
  if (r == -EINVAL) return r;
  return r == 0 && try(s, n) ? 0 : -EAGAIN;
}

void ration_sema_release(struct ration_sema *s, int64_t n) {
  uint64_t old = atomic_load_explicit(STATE(s), memory_order_relaxed);
  /* release: what was done while it was held, for who takes it next */
  while (!(old & WAITERS)) {
    if (n < 0 || n > (int64_t)old) g_fatal("semaphore: released more than held");
    if (atomic_compare_exchange_weak_explicit(STATE(s), &old, old - (uint64_t)n, memory_order_release, memory_order_relaxed)) return;
  }
  struct lot *lot = lot_lock(s);
  old = atomic_fetch_sub_explicit(STATE(s), (uint64_t)n, memory_order_acq_rel);
  if (n < 0 || n > (int64_t)(old & ~WAITERS)) g_fatal("semaphore: released more than held");
  /* WAITERS off by now: there is no one, and the state may change under our hands. */
  struct waiter *list = old & WAITERS ? grant(s, lot) : NULL;
  lot_unlock(lot);
  lot_wake_all(list);
}
