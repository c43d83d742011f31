/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local run queue of a P, after Go's runqput, runqget, runqgrab and runqsteal.
 *
 *                 thieves: half of it,        owner: pops        owner: pushes
 *                 by one CAS on head          by CAS on head     by a store to tail
 *                        |                        |                   |
 *                        v                        v                   v
 *      ring   . . . . [ g3 ][ g4 ][ g5 ][ g6 ][ g7 ][ g8 ] . . . . . .
 *                       ^ head                         ^ tail - 1
 *
 *      runnext [ g9 ]   runs before the ring; the owner exchanges it, owner and thieves clear it by CAS
 *
 * head and tail count up for ever; a position is taken modulo RUNQ_SIZE, tail - head is the length, and
 * both wrap at 2^32 without harm.  Only the owner writes ring entries and tail.  An entry belongs to whoever
 * moves head past it, so everything hangs on three orders:
 *
 *   (1) publish   owner:  ring[t] = g;  tail = t + 1 (release)
 *                 thief:  t = tail (acquire);  reads ring[.. t)
 *       A thief that sees the new tail sees the entry, and what the owner wrote into the G before.
 *
 *   (2) consume   thief:  reads ring[h .. h+n);  CAS head h -> h+n (release)
 *                 owner:  h = head (acquire);  writes ring[t] only where t - h < RUNQ_SIZE
 *       The owner overwrites an entry only after the thief that took it has read it.
 *
 *   (3) claim     the CAS itself.  Between reading head and the CAS, entries may have been taken by others and
 *       overwritten by the owner; then head has moved, the CAS fails, and what was read is thrown away.
 *       That is why the entries are atomic objects: a torn read is never used, but it does happen.
 *
 * runnext is there so that a G which readies another and parks (a ping-pong) hands over its CPU without a
 * trip around the ring.  For the same reason thieves are to leave it alone while the owner runs (RUNQ_NEXT_WAIT): a
 * thief that grabbed it at once would move the partner to another CPU on every round.
 *
 * A G that is kicked out of runnext by a newer one is for a moment in neither place; runq_empty has to
 * look twice for that reason, and says how.
 *
 * RUNQ_SEED_BUG breaks one of the orders on purpose, so that tests can prove that they would notice
 * (tests/unit/runq.mk):  1 breaks (3), 2 breaks (1), 3 takes away runq_empty's second look.  tests/model/runq.pml is the model of this file.
 */
#include "core/runq.h"

#include <stddef.h>
#include "core/relax.h"

#ifndef RUNQ_SEED_BUG
#define RUNQ_SEED_BUG 0
#endif

/* Looks at runnext that a thief gives a running owner before it takes the G: a few microseconds. */
#define NEXT_GRACE_SPINS 64

_Static_assert((RUNQ_SIZE & (RUNQ_SIZE - 1)) == 0, "positions are taken modulo RUNQ_SIZE, also when the counters wrap");

static inline struct g *ring_load(const struct runq *rq, uint32_t pos) {
  return atomic_load_explicit(&rq->ring[pos % RUNQ_SIZE], memory_order_relaxed); /* ordered by tail, order (1) */
}

static inline void ring_store(struct runq *rq, uint32_t pos, struct g *g) {
  atomic_store_explicit(&rq->ring[pos % RUNQ_SIZE], g, memory_order_relaxed); /* ordered by tail, order (1) */
}

/* Owner: makes the entries before t visible.  Pairs with the acquire load of tail in runq_grab and ring_empty_at. */
static inline void publish_tail(struct runq *rq, uint32_t t) {
  atomic_store_explicit(&rq->tail, t, RUNQ_SEED_BUG == 2 ? memory_order_relaxed : memory_order_release);
}

/* Owner: its own last store. */
static inline uint32_t own_tail(const struct runq *rq) { return atomic_load_explicit(&rq->tail, memory_order_relaxed); }

/* Takes [h, h + n) away from everybody else, orders (2) and (3).  Pairs with the acquire loads of head. */
static inline bool claim(struct runq *rq, uint32_t h, uint32_t n) {
#if RUNQ_SEED_BUG == 1
  if (atomic_load_explicit(&rq->head, memory_order_acquire) != h) return false;
  cpu_relax();
  atomic_store_explicit(&rq->head, h + n, memory_order_release);
  return true;
#else
  return atomic_compare_exchange_strong_explicit(&rq->head, &h, h + n, memory_order_release, memory_order_relaxed);
#endif
}

/*
 * Takes g out of runnext if it is still there.
 * Acquire: pairs with the exchange in runq_put, so that a thief sees the G's content.  Release: whoever sees
 * runnext empty (runq_empty) also sees the tail that was stored before, when an older G was kicked out.
 */
static inline bool claim_next(struct runq *rq, struct g *g) {
  return atomic_compare_exchange_strong_explicit(&rq->runnext, &g, NULL, memory_order_acq_rel, memory_order_relaxed);
}

void runq_init(struct runq *rq) {
  atomic_init(&rq->head, 0);
  atomic_init(&rq->tail, 0);
  atomic_init(&rq->runnext, NULL);
  for (uint32_t i = 0; i < RUNQ_SIZE; i++) atomic_init(&rq->ring[i], NULL);
}

/* Takes the older half of the full ring [h, t) and g into `batch`.  False if thieves made room meanwhile. */
static bool put_slow(struct runq *rq, struct g *g, uint32_t h, uint32_t t, struct g *batch[RUNQ_OVERFLOW]) {
  uint32_t n = (t - h) / 2;
  for (uint32_t i = 0; i < n; i++) batch[i] = ring_load(rq, h + i);
  if (!claim(rq, h, n)) return false;
  batch[n] = g;
  return true;
}

bool runq_put(struct runq *rq, struct g *g, bool next, struct g *overflow[RUNQ_OVERFLOW], unsigned *noverflow) {
  *noverflow = 0;
  if (next) {
    /* Release: a thief that takes g from here (claim_next) sees its content.  Acquire: the kicked-out G
     * goes through publish_tail below, after this, which is the order that runq_empty relies on. */
    g = atomic_exchange_explicit(&rq->runnext, g, memory_order_acq_rel);
    if (!g) return true;
  }
  for (;;) {
    uint32_t h = atomic_load_explicit(&rq->head, memory_order_acquire); /* pairs with claim, order (2) */
    uint32_t t = own_tail(rq);
    if (t - h < RUNQ_SIZE) {
      ring_store(rq, t, g);
      publish_tail(rq, t + 1);
      return true;
    }
    if (put_slow(rq, g, h, t, overflow)) {
      *noverflow = RUNQ_OVERFLOW;
      return false;
    }
  }
}

unsigned runq_put_batch(struct runq *rq, struct g *const *gs, unsigned n) {
  uint32_t h = atomic_load_explicit(&rq->head, memory_order_acquire); /* pairs with claim, order (2) */
  uint32_t t = own_tail(rq);
  uint32_t room = RUNQ_SIZE - (t - h);
  if (n > room) n = room;
  if (n == 0) return 0;
  for (uint32_t i = 0; i < n; i++) ring_store(rq, t + i, gs[i]);
  publish_tail(rq, t + n);
  return n;
}

struct g *runq_get(struct runq *rq, bool *inherit_time) {
  /* Relaxed: only the owner puts a G there, so it can at most be gone. */
  struct g *next = atomic_load_explicit(&rq->runnext, memory_order_relaxed);
  *inherit_time = false;
  if (next && claim_next(rq, next)) {
    *inherit_time = true;
    return next;
  }
  for (;;) {
    uint32_t h = atomic_load_explicit(&rq->head, memory_order_acquire); /* pairs with claim of a thief */
    if (own_tail(rq) == h) return NULL;
    struct g *g = ring_load(rq, h);
    if (claim(rq, h, 1)) return g;
  }
}

/* The ring is empty: takes runnext if the caller may.  1: in *g; 0: nothing; -1: things changed, look again. */
static int grab_next(struct runq *rq, struct g **g, enum runq_next how) {
  if (how == RUNQ_NEXT_LEAVE) return 0;
  struct g *next = atomic_load_explicit(&rq->runnext, memory_order_relaxed); /* claim_next acquires */
  if (!next) return 0;
  for (int i = 0; how == RUNQ_NEXT_WAIT && i < NEXT_GRACE_SPINS; i++) {
    cpu_relax();
    if (atomic_load_explicit(&rq->runnext, memory_order_relaxed) != next) return -1;
  }
  if (!claim_next(rq, next)) return -1;
  *g = next;
  return 1;
}

/* Thief: moves half of rq's ring (rounded up, at most `room`) to dst's entries from `at` on, which belong to the
 * caller and are not yet published.  Returns how many. */
static uint32_t runq_grab(struct runq *rq, struct runq *dst, uint32_t at, uint32_t room, enum runq_next how) {
  for (;;) {
    uint32_t h = atomic_load_explicit(&rq->head, memory_order_acquire); /* before tail, so that head <= tail mostly */
    uint32_t t = atomic_load_explicit(&rq->tail, memory_order_acquire); /* pairs with publish_tail, order (1) */
    uint32_t n = t - h;
    n -= n / 2;
    if (n == 0) {
      struct g *g;
      int r = grab_next(rq, &g, how);
      if (r < 0) continue;
      if (r > 0) ring_store(dst, at, g);
      return (uint32_t)r;
    }
    if (n > RUNQ_SIZE / 2) continue; /* h and t are of different moments */
    if (n > room) n = room;
    for (uint32_t i = 0; i < n; i++) ring_store(dst, at + i, ring_load(rq, h + i));
    if (claim(rq, h, n)) return n;
  }
}

struct g *runq_steal(struct runq *self, struct runq *victim, enum runq_next next) {
  uint32_t h = atomic_load_explicit(&self->head, memory_order_acquire); /* pairs with claim, order (2) */
  uint32_t t = own_tail(self);
  uint32_t room = RUNQ_SIZE - (t - h);
  uint32_t n = room ? runq_grab(victim, self, t, room, next) : 0;
  if (n == 0) return NULL;
  struct g *g = ring_load(self, t + --n);
  if (n > 0) publish_tail(self, t + n);
  return g;
}

unsigned runq_drain(struct runq *rq, struct g **out, unsigned max) {
  unsigned n = 0;
  if (max == 0) return 0;
  struct g *next = atomic_load_explicit(&rq->runnext, memory_order_relaxed); /* as in runq_get */
  if (next && claim_next(rq, next)) out[n++] = next;
  for (;;) {
    uint32_t h = atomic_load_explicit(&rq->head, memory_order_acquire); /* pairs with claim of a thief */
    uint32_t len = own_tail(rq) - h;
    if (len > max - n) len = max - n;
    if (len == 0) return n;
    for (uint32_t i = 0; i < len; i++) out[n + i] = ring_load(rq, h + i);
    if (claim(rq, h, len)) return n + len;
  }
}

/*
 * Reads head, tail and runnext of one moment, as far as that matters: with an unchanged tail around the look at
 * runnext, no G went from runnext to the ring between.  Seeing runnext empty because of claim_next means (its
 * release, our acquire) seeing the tail that was published before; so if a G was kicked to the ring, tail differs.
 */
static void look(const struct runq *rq, uint32_t *len, bool *next) {
  for (;;) {
    uint32_t h = atomic_load_explicit(&rq->head, memory_order_acquire);
    uint32_t t = atomic_load_explicit(&rq->tail, memory_order_acquire); /* pairs with publish_tail */
    if (RUNQ_SEED_BUG == 3) cpu_relax();
    *next = atomic_load_explicit(&rq->runnext, memory_order_acquire) != NULL; /* pairs with claim_next */
    if (RUNQ_SEED_BUG != 3 && atomic_load_explicit(&rq->tail, memory_order_relaxed) != t) continue;
    if (t - h > RUNQ_SIZE) continue; /* head of an older moment */
    *len = t - h;
    return;
  }
}

unsigned runq_len(const struct runq *rq) {
  uint32_t len;
  bool next;
  look(rq, &len, &next);
  return len + next;
}

bool runq_empty(const struct runq *rq) {
  uint32_t len;
  bool next;
  look(rq, &len, &next);
  return len == 0 && !next;
}
