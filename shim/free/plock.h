/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_PLOCK_H
#define RATION_FREE_PLOCK_H
/* The first word of a pthread mutex as a lock of its own: plock.c has the protocol.  Who has it is not this word's business. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "sync/lot.h"

#define PLOCK_LOCKED 1u

/* The slow ends of the two below. */
int plock_lock_slow(_Atomic uint32_t *word, const struct limit *lim);
bool plock_unlock_slow(_Atomic uint32_t *word);

/* 0, or what lot_wait returns.  lim: null for ever.  What is free is had, whatever the limit. */
static inline int plock_lock(_Atomic uint32_t *word, const struct limit *lim) {
  uint32_t free = 0;
  /* acquire: pairs with the releases in plock_unlock and plock.c's let_go */
  if (__builtin_expect(atomic_compare_exchange_strong_explicit(word, &free, PLOCK_LOCKED, memory_order_acquire, memory_order_relaxed), 1))
    return 0;
  return plock_lock_slow(word, lim);
}

/* True: it is the caller's now. */
bool plock_trylock(_Atomic uint32_t *word);

/* False: it was not locked. */
static inline bool plock_unlock(_Atomic uint32_t *word) {
  uint32_t old = PLOCK_LOCKED;
  /* release: pairs with the acquires of those who lock it */
  if (__builtin_expect(atomic_compare_exchange_strong_explicit(word, &old, 0, memory_order_release, memory_order_relaxed), 1)) return true;
  return plock_unlock_slow(word);
}

static inline bool plock_locked(_Atomic uint32_t *word) { return atomic_load_explicit(word, memory_order_relaxed) & PLOCK_LOCKED; }

/*
 * Waiters that wait for something else, and then for this lock.  plock_adopt takes over a list of them (linked by next; taken out, notes not set): they queue
 * here, in their order.  Returns the one whose note the caller is to set, null if there is someone whose unlock will do it.  After its lot_wait
 * such a waiter calls plock_adopted, which returns when it has the lock.
 */
struct waiter *plock_adopt(_Atomic uint32_t *word, struct waiter *list);
void plock_adopted(_Atomic uint32_t *word, const struct waiter *w);

#endif
