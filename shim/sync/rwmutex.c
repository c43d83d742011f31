/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Go's sync.RWMutex on the parking lot.
 *
 *   writers   a mutex: one writer at a time gets as far as the word
 *   word      WRITER   that writer has it or waits for the readers to leave; new readers wait
 *             RWAIT    readers are queued
 *             READER   times the number of readers that have it
 *
 *   lock      writers locked; WRITER on; readers left? queue as the writer until the last one is gone
 *   unlock    under the lot: WRITER and RWAIT off, all queued readers are in, by one change of the word; wake them; unlock writers
 *   rlock     no WRITER: READER more, one compare-and-swap.  Else RWAIT on, queue; who is woken is in already
 *   runlock   READER less; the last one out while WRITER is on looks for the writer and wakes it
 *
 * So a writer waits only for readers that were there before it, and readers only for one writer.  The writer looks at the word under the lock of its lot
 * before it queues, and the last reader takes that lock after its change of the word: one of the two sees the other.
 *
 * Two keys: readers wait at the word, the writer at the byte after.  Locks: writers, then a lot's; not two lots at a time.
 */
#include "ration/sync.h"
#include <errno.h>
#include "sync/lot.h"
#include "sync/mutex.h"

#define WRITER 1u
#define RWAIT 2u
#define READER 4u

static inline const void *readers_key(struct ration_rwmutex *rw) { return &rw->word; }
static inline const void *writer_key(struct ration_rwmutex *rw) { return (char *)&rw->word + 1; }

static inline bool word_cas(struct ration_rwmutex *rw, uint32_t *old, uint32_t new, memory_order order) {
  return atomic_compare_exchange_weak_explicit(WORD(rw), old, new, order, memory_order_relaxed);
}

/* --- readers --- */

/* Acquire: pairs with writer_leaves. */
static inline bool rlock_fast(struct ration_rwmutex *rw) {
  uint32_t old = atomic_load_explicit(WORD(rw), memory_order_relaxed);
  while (!(old & WRITER))
    if (word_cas(rw, &old, old + READER, memory_order_acquire)) return true;
  return false;
}

static __attribute__((noinline)) int rlock_slow(struct ration_rwmutex *rw, const struct limit *lim) {
  struct waiter w = WAITER_INIT(readers_key(rw));
  struct lot *lot = lot_lock(w.key);
  uint32_t old = atomic_load_explicit(WORD(rw), memory_order_relaxed), new;
  do {
    new = old &WRITER ? old | RWAIT : old + READER;
  } while (!word_cas(rw, &old, new, memory_order_acquire));
  if (!(old & WRITER)) {
    lot_unlock(lot);
    return 0;
  }
  lot_push(lot, &w, false);
  lot_unlock(lot);
  return lot_wait(&w, lim, WAIT_RWLOCK);
}

void ration_rwmutex_rlock(struct ration_rwmutex *rw) {
  if (!rlock_fast(rw)) (void)rlock_slow(rw, NULL);
}

int ration_rwmutex_tryrlock(struct ration_rwmutex *rw) { return rlock_fast(rw) ? 0 : -EBUSY; }

int ration_rwmutex_rlock_timeout(struct ration_rwmutex *rw, ration_ns d) {
  if (rlock_fast(rw)) return 0;
  struct limit lim = limit_after(d);
  return rlock_slow(rw, &lim);
}

int ration_rwmutex_rlock_ctx(struct ration_rwmutex *rw, struct ration_context *ctx) {
  struct limit lim = {UINT64_MAX, ctx};
  return rlock_fast(rw) ? 0 : rlock_slow(rw, &lim);
}

void ration_rwmutex_runlock(struct ration_rwmutex *rw) {
  const void *key = writer_key(rw);
  /* release: what the reader read, before the writer writes; pairs with the acquires in writer_enters */
  uint32_t old = atomic_fetch_sub_explicit(WORD(rw), READER, memory_order_release);
  if (__builtin_expect(old < READER, 0)) g_fatal("runlock of unlocked rwmutex");
  if (old >= 2 * READER || !(old & WRITER)) return;
  struct lot *lot = lot_lock(key);
  struct waiter *w = lot_first(lot, key);
  if (w) lot_remove(lot, w);
  lot_unlock(lot);
  if (w) note_set(&w->note, true);
}

/* --- the writer; `writers` is locked --- */

/* True: there are readers, and w is queued for the last of them. */
static bool writer_queues(struct ration_rwmutex *rw, struct waiter *w) {
  struct lot *lot = lot_lock(w->key);
  /* acquire: pairs with runlock */
  bool must = atomic_load_explicit(WORD(rw), memory_order_acquire) >= READER;
  if (must) lot_push(lot, w, false);
  lot_unlock(lot);
  return must;
}

/* Lets go of the word, and the readers that wait in. */
static void writer_leaves(struct ration_rwmutex *rw) {
  uint32_t old = atomic_load_explicit(WORD(rw), memory_order_relaxed);
  /* release: pairs with rlock_fast and rlock_slow */
  while (!(old & RWAIT))
    if (word_cas(rw, &old, old & ~WRITER, memory_order_release)) return;
  struct lot *lot = lot_lock(readers_key(rw));
  struct waiter *all = lot_pop_all(lot, readers_key(rw));
  uint32_t n = 0;
  for (struct waiter *w = all; w; w = w->next) n += READER;
  old = atomic_load_explicit(WORD(rw), memory_order_relaxed);
  while (!word_cas(rw, &old, (old & ~(WRITER | RWAIT)) + n, memory_order_release))
    ;
  lot_unlock(lot);
  lot_wake_all(all);
}

static int lock_limit(struct ration_rwmutex *rw, const struct limit *lim) {
  int r = mutex_lock_limit(&rw->writers, lim);
  if (r) return r;
  /* acquire: pairs with runlock */
  if (atomic_fetch_or_explicit(WORD(rw), WRITER, memory_order_acquire) < READER) return 0;
  for (;;) {
    struct waiter w = WAITER_INIT(writer_key(rw));
    if (!writer_queues(rw, &w)) return 0;
    r = lot_wait(&w, lim, WAIT_RWLOCK);
    if (r) break; /* else it is the last reader, or one that was late and meant the writer before us: look again */
  }
  writer_leaves(rw);
  ration_mutex_unlock(&rw->writers);
  return r;
}

void ration_rwmutex_lock(struct ration_rwmutex *rw) { (void)lock_limit(rw, NULL); }

int ration_rwmutex_lock_timeout(struct ration_rwmutex *rw, ration_ns d) {
  struct limit lim = limit_after(d);
  return lock_limit(rw, &lim);
}

int ration_rwmutex_lock_ctx(struct ration_rwmutex *rw, struct ration_context *ctx) {
  struct limit lim = {UINT64_MAX, ctx};
  return lock_limit(rw, &lim);
}

int ration_rwmutex_trylock(struct ration_rwmutex *rw) {
  if (ration_mutex_trylock(&rw->writers)) return -EBUSY;
  uint32_t free = 0;
  /* acquire: pairs with runlock */
  if (atomic_compare_exchange_strong_explicit(WORD(rw), &free, WRITER, memory_order_acquire, memory_order_relaxed)) return 0;
  ration_mutex_unlock(&rw->writers);
  return -EBUSY;
}

void ration_rwmutex_unlock(struct ration_rwmutex *rw) {
  if (!(atomic_load_explicit(WORD(rw), memory_order_relaxed) & WRITER)) g_fatal("unlock of unlocked rwmutex");
  writer_leaves(rw);
  ration_mutex_unlock(&rw->writers);
}
