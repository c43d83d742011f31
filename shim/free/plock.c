/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock in the first word of a pthread mutex: Go's mutex on the parking lot, as in sync/mutex.c.
 *
 *   word   LOCKED     someone has it; stays set while it is handed to a waiter
 *          WAITERS    someone is queued (lot.c)
 *          STARVING   unlock hands it to the first waiter; nobody else takes it or spins for it
 *
 *            lock                     queue (LOCKED only)
 *   free ----------> LOCKED ---------------------------------> LOCKED|WAITERS
 *    ^ unlock           |                                         | unlock: all off, first waiter out of the queue
 *    '------------------'         woken waiter takes it, or       v
 *                                 queues again: WAITERS on       free
 *                    LOCKED|WAITERS <------------------------------'
 *                          |  a woken waiter found it locked, 1 ms after it came
 *                          v
 *                    LOCKED|WAITERS|STARVING --unlock: handed on, LOCKED stays--> the same, or LOCKED
 *
 * Free and locked are 0 and 1 as in glibc, whose static initialisers and whose early users (before free mode is on) have it that way.
 *
 * Not sync/mutex.c's WOKEN, which says that a woken waiter is on its way: in the child of a fork it is not, and the mutex must work there, for that is what
 * pthread_atfork is for.  Instead, the wake-up takes WAITERS along (`more`: others are queued), and the woken one puts it back when it
 * locks or queues.  Until then nobody's unlock wakes anyone but those who came later.  So a word that says WAITERS where there are none costs one look, and no word says
 * none where there are some without a woken one that knows better.
 *
 * An unlock that wakes takes the lock of the lot before it lets go of the mutex: letting go is the last touch of the word, the next owner may free it.
 *
 * A signal takes a waiter out of the queue, for its handler to run; then it comes again, as first.
 *
 * Model: tests/model/plock.pml.
 *
 * Locks: the lot's, a leaf.
 */
#include "free/plock.h"
#include <errno.h>
#include "free/pspin.h"
#include "sync/stop.h"

#define LOCKED PLOCK_LOCKED
#define WAITERS 2u
#define STARVING 4u

#define STARVED_NS 1000000u /* Go's starvationThresholdNs */

/* All acquires of the word pair with the releases in plock_unlock and let_go; a lock that was handed over is ordered by the waiter's note. */
static inline bool word_cas(_Atomic uint32_t *word, uint32_t *old, uint32_t new, memory_order order) {
  return atomic_compare_exchange_weak_explicit(word, old, new, order, memory_order_relaxed);
}

/* What a caller of lock_slow knows of itself. */
struct locker {
  uint32_t more;  /* WAITERS, if the wake-up said that others are queued; else 0 */
  bool starving;  /* has waited 1 ms */
  unsigned spins; /* rounds since it last waited */
  uint64_t since; /* when it queued first; 0: not yet */
};

/* Worth it only if the owner can run at the same time, and not for long; not for newcomers while others are queued. */
static bool spin(uint32_t old, struct locker *l) { return !(old & STARVING) && (!(old & WAITERS) || l->since) && pspin(&l->spins); }

/* Queues w if it is locked still. */
static bool queue(_Atomic uint32_t *word, struct waiter *w, struct locker *l) {
  struct lot *lot = lot_lock(word);
  uint32_t old = atomic_load_explicit(word, memory_order_relaxed);
  do {
    if (!(old & LOCKED)) {
      lot_unlock(lot);
      return false;
    }
  } while (!word_cas(word, &old, old | WAITERS | (l->starving ? STARVING : 0), memory_order_relaxed));
  lot_push(lot, w, l->since != 0);
  lot_unlock(lot);
  l->more = 0;
  return true;
}

/* A waiter gave up: was it the last? */
static void queue_left(_Atomic uint32_t *word) {
  struct lot *lot = lot_lock(word);
  if (!lot_first(lot, word)) atomic_fetch_and_explicit(word, ~WAITERS, memory_order_relaxed);
  lot_unlock(lot);
}

/* w was taken out.  True: it has the lock. */
static bool woken(_Atomic uint32_t *word, const struct waiter *w, struct locker *l) {
  bool late = sys_now() - l->since > STARVED_NS;
  if (w->handoff) {
    if (!late && !l->starving) atomic_fetch_and_explicit(word, ~STARVING, memory_order_relaxed);
    return true;
  }
  l->more = w->n ? WAITERS : 0;
  l->starving |= late;
  l->spins = 0;
  return false;
}

static int lock_slow(_Atomic uint32_t *word, const struct limit *lim, struct locker *l) {
  for (;;) {
    uint32_t old = atomic_load_explicit(word, memory_order_relaxed);
    if (!(old & LOCKED)) {
      if (word_cas(word, &old, old | LOCKED | l->more, memory_order_acquire)) return 0;
      continue;
    }
    if (spin(old, l)) continue;
    struct waiter w = WAITER_INIT(word);
    w.interruptible = true;
    if (!queue(word, &w, l)) continue;
    if (!l->since) l->since = sys_now();
    int r = lot_wait(&w, lim, WAIT_MUTEX);
    if (r) queue_left(word);
    if (r == -EINTR) {
      stop_notice();
      continue;
    }
    if (r) return r;
    if (woken(word, &w, l)) return 0;
  }
}

__attribute__((noinline)) int plock_lock_slow(_Atomic uint32_t *word, const struct limit *lim) {
  struct locker l = {.more = 0};
  return lock_slow(word, lim, &l);
}

bool plock_trylock(_Atomic uint32_t *word) {
  uint32_t old = atomic_load_explicit(word, memory_order_relaxed);
  while (!(old & LOCKED))
    if (word_cas(word, &old, old | LOCKED, memory_order_acquire)) return true;
  return false;
}

/* Under the lock of the lot.  Lets go, or hands it over.  Returns the waiter that is to be woken; null: none. */
static struct waiter *let_go(_Atomic uint32_t *word, struct lot *lot) {
  struct waiter *w = lot_first(lot, word);
  uint32_t old = atomic_load_explicit(word, memory_order_relaxed), new;
  do {
    new = 0;
    if (!w) continue;
    w->n = w->next != NULL;
    w->handoff = (old & STARVING) != 0;
    if (w->handoff) new = w->n ? old : LOCKED;
    /* release: what the owner did, for who locks next; to a waiter that it is handed to by the note */
  } while (!word_cas(word, &old, new, memory_order_release));
  if (w) lot_remove(lot, w);
  return w;
}

__attribute__((noinline)) bool plock_unlock_slow(_Atomic uint32_t *word) {
  if (!plock_locked(word)) return false;
  struct lot *lot = lot_lock(word);
  struct waiter *w = let_go(word, lot);
  lot_unlock(lot);
  if (!w) return true;
  bool handoff = w->handoff;
  note_set(&w->note, true);
  if (handoff) g_yield(); /* it has the lock and this P next: who unlocked would only queue behind it */
  return true;
}

struct waiter *plock_adopt(_Atomic uint32_t *word, struct waiter *list) {
  struct waiter *now = NULL;
  struct lot *lot = lot_lock(word);
  uint32_t old = atomic_load_explicit(word, memory_order_relaxed);
  /* Relaxed: who locked it does not look at the queue before it has this lot. */
  while ((old & LOCKED) && !word_cas(word, &old, old | WAITERS, memory_order_relaxed))
    ;
  if (!(old & LOCKED)) {
    now = list;
    list = list->next;
  }
  for (struct waiter *w = list, *next; w; w = next) {
    next = w->next;
    lot_move(lot, w, word);
  }
  if (now) {
    now->handoff = false;
    now->n = lot_first(lot, word) != NULL;
  }
  lot_unlock(lot);
  return now;
}

void plock_adopted(_Atomic uint32_t *word, const struct waiter *w) {
  struct locker l = {.since = sys_now()};
  if (!woken(word, w, &l)) (void)lock_slow(word, NULL, &l);
}
