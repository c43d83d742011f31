/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Go's sync.Mutex on the parking lot.
 *
 *   word   LOCKED     someone has it; stays set while it is handed to a waiter
 *          WAITERS    someone is queued (lot.c)
 *          WOKEN      a waiter has been woken and has not locked it nor queued again: unlock wakes no other
 *          STARVING   unlock hands it to the first waiter; nobody else takes it or spins for it
 *
 *            lock                     queue (LOCKED only)
 *   free ----------> LOCKED ---------------------------------> LOCKED|WAITERS
 *    ^ unlock           |                                         | unlock: LOCKED off, WOKEN on, first waiter out of the queue
 *    '------------------'            woken waiter takes it        v
 *                    LOCKED|WAITERS <---------------------- WAITERS|WOKEN
 *                          |  a woken waiter found it locked, 1 ms after it came
 *                          v
 *                    LOCKED|WAITERS|STARVING --unlock: handed on, LOCKED stays--> the same, or LOCKED
 *
 * Normal mode is fast: who runs takes it without a switch of Gs, and a woken waiter that comes too late queues as first again.  Starvation mode bounds how long that goes on.
 *
 * WAITERS is set, and cleared with the last waiter, under the lock of the lot.  An unlock that wakes takes that lock before it lets go of
 * the mutex, so that letting go is the last touch of the word: the next owner may free it.  (Go lets go first, and looks at the word again.)
 *
 * Locks: the lot's, a leaf.
 */
#include "ration/sync.h"
#include <errno.h>
#include "core/carrier.h"
#include "sync/lot.h"
#include "sync/mutex.h"

#define LOCKED 1u
#define WAITERS 2u
#define WOKEN 4u
#define STARVING 8u

#define STARVED_NS 1000000u /* Go's starvationThresholdNs */
#define SPIN_ROUNDS 6u      /* of 2, 4, 8, ... pauses: all in all Go's 4 times 30, but a short section is not missed by a microsecond */

/* All acquires of the word pair with the release in mutex_unlock; a lock that was handed over is ordered by the waiter's note. */
static inline bool word_cas(_Atomic uint32_t *word, uint32_t *old, uint32_t new, memory_order order) {
  return atomic_compare_exchange_weak_explicit(word, old, new, order, memory_order_relaxed);
}

/* What a caller of lock_slow knows of itself. */
struct locker {
  bool woken;     /* WOKEN stands for it */
  bool starving;  /* has waited 1 ms */
  unsigned spins; /* since it last waited */
  uint64_t since; /* when it queued first; 0: not yet */
};

/* Not ration_maxprocs: for a lock of plain threads no carriers are made.  Pairs with light_start's release. */
static bool others_run(void) { return __atomic_load_n(&light.started, __ATOMIC_ACQUIRE) && light.npqs > 1; }

/*
 * Worth it only if the owner can run at the same time, and not for long.  Not for newcomers while others are queued: then there are more Gs than can
 * run at once, and this P has better things to do (Go looks at its run queue for that).  A woken one keeps unlock from waking more.
 */
static bool spin(uint32_t old, struct locker *l) {
  if ((old & STARVING) || ((old & WAITERS) && !l->woken) || l->spins >= SPIN_ROUNDS || !others_run()) return false;
  for (unsigned i = 0; i < 2u << l->spins; i++) spin_pause();
  l->spins++;
  return true;
}

/* Queues w if the mutex is locked still. */
static bool queue(struct ration_mutex *m, struct waiter *w, struct locker *l) {
  struct lot *lot = lot_lock(m);
  uint32_t old = atomic_load_explicit(WORD(m), memory_order_relaxed), new;
  do {
    if (!(old & LOCKED)) {
      lot_unlock(lot);
      return false;
    }
    new = (old | WAITERS | (l->starving ? STARVING : 0)) & ~(l->woken ? WOKEN : 0);
  } while (!word_cas(WORD(m), &old, new, memory_order_relaxed));
  lot_push(lot, w, l->since != 0);
  lot_unlock(lot);
  l->woken = false;
  return true;
}

/* A waiter gave up: was it the last? */
static void queue_left(struct ration_mutex *m) {
  struct lot *lot = lot_lock(m);
  if (!lot_first(lot, m)) atomic_fetch_and_explicit(WORD(m), ~WAITERS, memory_order_relaxed);
  lot_unlock(lot);
}

static __attribute__((noinline)) int lock_slow(struct ration_mutex *m, const struct limit *lim) {
  struct locker l = {.woken = false};
  for (;;) {
    uint32_t old = atomic_load_explicit(WORD(m), memory_order_relaxed);
    if (!(old & LOCKED)) {
      if (word_cas(WORD(m), &old, (old | LOCKED) & ~(l.woken ? WOKEN : 0), memory_order_acquire)) return 0;
      continue;
    }
    if (spin(old, &l)) continue;
    struct waiter w = WAITER_INIT(m);
    if (!queue(m, &w, &l)) continue;
    if (!l.since) l.since = sys_now();
    int r = lot_wait(&w, lim, WAIT_MUTEX);
    if (r) {
      queue_left(m);
      return r;
    }
    bool late = sys_now() - l.since > STARVED_NS;
    if (w.handoff) {
      if (!late && !l.starving) atomic_fetch_and_explicit(WORD(m), ~STARVING, memory_order_relaxed);
      return 0;
    }
    l.woken = true;
    l.starving |= late;
    l.spins = 0;
  }
}

static inline bool lock_fast(struct ration_mutex *m) {
  uint32_t free = 0;
  return __builtin_expect(atomic_compare_exchange_strong_explicit(WORD(m), &free, LOCKED, memory_order_acquire, memory_order_relaxed), 1);
}

void ration_mutex_lock(struct ration_mutex *m) {
  if (!lock_fast(m)) (void)lock_slow(m, NULL);
}

int ration_mutex_trylock(struct ration_mutex *m) {
  uint32_t old = atomic_load_explicit(WORD(m), memory_order_relaxed);
  while (!(old & LOCKED))
    if (word_cas(WORD(m), &old, old | LOCKED, memory_order_acquire)) return 0;
  return -EBUSY;
}

int mutex_lock_limit(struct ration_mutex *m, const struct limit *lim) { return lock_fast(m) ? 0 : lock_slow(m, lim); }

int ration_mutex_lock_timeout(struct ration_mutex *m, ration_ns d) {
  if (lock_fast(m)) return 0;
  struct limit lim = limit_after(d);
  return lock_slow(m, &lim);
}

int ration_mutex_lock_ctx(struct ration_mutex *m, struct ration_context *ctx) {
  struct limit lim = {UINT64_MAX, ctx};
  return mutex_lock_limit(m, &lim);
}

/* Under the lock of the lot.  Lets go of m, or hands it over.  Returns the waiter that is to be woken; null: none. */
static struct waiter *let_go(struct ration_mutex *m, struct lot *lot) {
  struct waiter *w = lot_first(lot, m);
  uint32_t old = atomic_load_explicit(WORD(m), memory_order_relaxed), new;
  bool wake;
  do {
    bool handoff = w && (old & STARVING);
    wake = w && (handoff || !(old & WOKEN));
    new = handoff ? old : old & ~(LOCKED | STARVING);
    if (wake && !handoff) new |= WOKEN;
    if (!w || (wake && !w->next)) new &= ~(WAITERS | STARVING);
    if (wake) w->handoff = handoff;
    /* release: what the owner did, for who locks next; to a waiter that it is handed to by the note */
  } while (!word_cas(WORD(m), &old, new, memory_order_release));
  if (!wake) return NULL;
  lot_remove(lot, w);
  return w;
}

static __attribute__((noinline)) void unlock_slow(struct ration_mutex *m) {
  uint32_t old = atomic_load_explicit(WORD(m), memory_order_relaxed);
  do {
    if (!(old & LOCKED)) g_fatal("unlock of unlocked mutex");
    if ((old & STARVING) || (old & (WAITERS | WOKEN)) == WAITERS) break;
    if (word_cas(WORD(m), &old, old & ~LOCKED, memory_order_release)) return;
  } while (true);
  struct lot *lot = lot_lock(m);
  struct waiter *w = let_go(m, lot);
  lot_unlock(lot);
  if (!w) return;
  bool handoff = w->handoff;
  note_set(&w->note, true);
  if (handoff) g_yield(); /* it has the lock and this P next: who unlocked would only queue behind it */
}

void ration_mutex_unlock(struct ration_mutex *m) {
  uint32_t old = LOCKED;
  if (!__builtin_expect(atomic_compare_exchange_strong_explicit(WORD(m), &old, 0, memory_order_release, memory_order_relaxed), 1))
    unlock_slow(m);
}
