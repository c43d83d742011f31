/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers of light Gs: each pq has a heap (of four children, so that a look at a million of them touches ten lines) under a lock of its
 * own.  The carrier that holds the pq runs what is due between two Gs; thieves and the sleeping poller do so for all pqs, so
 * no timer waits for a G that computes while a P is idle.
 *
 *   timer:  NOT ARMED --timer_start--> in a heap (t->in) --due: taken out, in = null--> fn is called
 *                     <--timer_stop----
 *
 * t->in is written under the lock of the heap; timer_stop reads it without to find that lock, and looks again under it.
 *
 * In the child of a fork no timer of before it comes: heaps are the parent's, maybe in the middle of a change.  But one may be stopped, and is then armed anew as any other.
 */
#include "core/carrier.h"
#include <string.h>
#include <sys/mman.h>

#define CHILDREN 4u
#define CAP_FIRST 512u

void timers_init(struct timers *ts) { atomic_store_explicit(&ts->first, UINT64_MAX, memory_order_relaxed); }

static void place(struct timers *ts, uint32_t i, struct timer *t) {
  ts->heap[i] = t;
  t->index = i;
}

static void sift_up(struct timers *ts, uint32_t i, struct timer *t) {
  for (; i; i = (i - 1) / CHILDREN) {
    struct timer *parent = ts->heap[(i - 1) / CHILDREN];
    if (parent->at <= t->at) break;
    place(ts, i, parent);
  }
  place(ts, i, t);
}

static void sift_down(struct timers *ts, uint32_t i, struct timer *t) {
  for (;;) {
    uint32_t first = i * CHILDREN + 1, best = 0;
    uint64_t least = t->at;
    for (uint32_t k = first; k < first + CHILDREN && k < ts->n; k++)
      if (ts->heap[k]->at < least) best = k, least = ts->heap[k]->at;
    if (!best) break;
    place(ts, i, ts->heap[best]);
    i = best;
  }
  place(ts, i, t);
}

/* Lock held. */
static void publish_first(struct timers *ts) {
  atomic_store_explicit(&ts->first, ts->n ? ts->heap[0]->at : UINT64_MAX, memory_order_release); /* pairs with timers_first_of_all */
}

static void take_out(struct timers *ts, struct timer *t) {
  uint32_t i = t->index;
  struct timer *last = ts->heap[--ts->n];
  __atomic_store_n(&t->in, NULL, __ATOMIC_RELAXED);
  if (last != t) {
    if (i && ts->heap[(i - 1) / CHILDREN]->at > last->at)
      sift_up(ts, i, last);
    else
      sift_down(ts, i, last);
  }
  publish_first(ts);
}

static bool grow(struct timers *ts) {
  uint32_t cap = ts->cap ? ts->cap * 2 : CAP_FIRST;
  long at = ts->heap
                ? raw_syscall6(SYS_mremap, (long)ts->heap, (long)(ts->cap * sizeof *ts->heap), (long)(cap * sizeof *ts->heap),
                               MREMAP_MAYMOVE, 0, 0)
                : raw_syscall6(SYS_mmap, 0, (long)(cap * sizeof *ts->heap), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at < 0 && at > -4096) return false;
  ts->heap = (struct timer **)at;
  ts->cap = cap;
  return true;
}

/*
 * Who is about to park goes to the descriptors itself when it finds nothing else, and so does a carrier on its own stack (find, in carrier.c, sees to it).  So those wake nobody, if
 * there is nothing to switch to.
 */
static bool will_look(struct carrier *c, bool parks) { return c && c->pq && (!c->g || (parks && runq_empty(&c->pq->runq))); }

static void arm(struct timer *t, uint64_t at, bool parks) {
  struct carrier *c = carrier_now();
  if (light_start() < 0) g_fatal("out of memory (timers)");
  struct timers *ts = c && c->pq ? &c->pq->timers : &light.pqs[0].timers;
  run_lock(&ts->lock);
  if (ts->n == ts->cap && !grow(ts)) {
    run_unlock(&ts->lock);
    g_fatal("out of memory (timers)");
  }
  t->at = at;
  __atomic_store_n(&t->in, ts, __ATOMIC_RELAXED);
  sift_up(ts, ts->n++, t);
  bool first = t->index == 0;
  if (first) publish_first(ts);
  run_unlock(&ts->lock);
  if (!first) return;
  atomic_thread_fence(memory_order_seq_cst); /* the heap, then sleeps_until; pairs with netpoll */
  if (at < netpoll_sleeps_until())
    netpoll_break();
  else if (!will_look(c, parks))
    carrier_wake_poller();
}

void timer_start(struct timer *t, uint64_t at) { arm(t, at, false); }
void timer_start_parks(struct timer *t, uint64_t at) { arm(t, at, true); }

bool timer_stop(struct timer *t) {
  for (;;) {
    struct timers *ts = __atomic_load_n(&t->in, __ATOMIC_RELAXED); /* the lock orders the rest */
    if (!ts) return false;
    if (__builtin_expect(ts->parents, 0)) { /* somebody may have had the lock */
      __atomic_store_n(&t->in, NULL, __ATOMIC_RELAXED);
      return true;
    }
    run_lock(&ts->lock);
    bool here = t->in == ts;
    if (here) take_out(ts, t);
    run_unlock(&ts->lock);
    if (here) return true;
  }
}

void timers_run(struct timers *ts, uint64_t now) {
  for (;;) {
    run_lock(&ts->lock);
    struct timer *t = ts->n ? ts->heap[0] : NULL;
    if (!t || t->at > now) {
      run_unlock(&ts->lock);
      return;
    }
    take_out(ts, t);
    run_unlock(&ts->lock);
    t->fn(t);
  }
}

uint64_t timers_first_of_all(void) {
  uint64_t first = UINT64_MAX;
  for (uint32_t i = 0; i < light.npqs; i++) {
    uint64_t at = atomic_load_explicit(&light.pqs[i].timers.first, memory_order_acquire); /* pairs with publish_first */
    if (at < first) first = at;
  }
  return first;
}
