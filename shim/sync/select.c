/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Select, after Go's select.go: one of several sends and receives, whichever can be done first.
 *
 *   pass 1   lock all channels; look at the cases in random order; the first that can be done is done: unlock all, return
 *            none: if there is a default (timeout 0), unlock all, -EAGAIN
 *   pass 2   one chan_waiter for each case into the queue of its channel; g->select_done = 0; start the timer; park, the commit
 *            unlocks all
 *   pass 3   awake: g->wait is the waiter that was served, null: the time is over.  Stop the timer.  Take the other waiters out
 *            of their queues, one channel after the other
 *
 * All locks are held from the first look until the G is in all queues, so "none can be done" is true of one moment.
 * Order of locks: by address, each channel once.  They are dropped in the reverse order, chans[0] last: so the timer, which takes that
 * one, readies nobody whose commit is not through.  For what a waker readies no order matters, as pass 3 takes every lock.
 *
 * One winner.  The wakers of different channels, and the timer, know nothing of each other; who moves g->select_done from 0 to 1 has the G:
 *
 *              +-- a sender, receiver or close, in queue_pop   CAS --> g->wait = its waiter, copy, unlock, g_ready
 *    armed ----+
 *              +-- the timer, in select_timeout                CAS --> g->wait = null,             unlock, g_ready
 *
 * Who loses leaves the G alone; queue_pop has taken the waiter out of its queue by then, and pass 3 sees that it is not `queued`.
 *
 * The frame.  Waiters, timer and the list of channels lie on the stack of the selecting G, which must not go on while anybody uses them:
 *   wakers   use a waiter under the lock of its channel, or have won.  Pass 3 takes each lock after the G was readied.
 *   commit   reads chans[i] before it unlocks it.  As soon as one is unlocked, the G may be readied and begin pass 3 elsewhere,
 *            but it does not get past chans[0] before commit is through, and commit touches nothing after it.
 *   timer    select_timeout takes the lock of chans[0] as well, so it readies nobody whose commit is not through.  If it wins, g_ready
 *            is the last it does.  If it loses, or has not looked yet while timer_stop can't stop it any more, the G
 *            waits for it:
 *
 *              select_timeout                          stop_timer, when timer_stop said false
 *                exchange(timer, TIMER_OVER)             g_park: commit: CAS(timer, TIMER_ARMED -> TIMER_AWAITED)
 *                was TIMER_AWAITED: g_ready              failed: it is over, no park
 *
 * Model: tests/model/select.pml.
 *
 * No function takes a lock, or a look at who it is, both before and after a park; see chan.c.
 */
#include <errno.h>
#include <stdlib.h>
#include "sync/chan.h"

/* So many cases fit into the frame. */
#define SMALL 16

enum { TIMER_ARMED, TIMER_AWAITED, TIMER_OVER };

struct select {
  struct ration_case *cases;
  uint32_t n;                  /* cases, with the null channels */
  uint32_t norder;             /* without */
  uint32_t nchans;             /* different channels */
  _Atomic uint32_t timer;      /* TIMER_ */
  struct g *g;                 /* who selects */
  uint16_t *order;             /* norder indices in the order of looking: random */
  struct ration_chan **chans;  /* nchans, by address */
  struct chan_waiter *waiters; /* n, one for each case */
  uint64_t until;              /* UINT64_MAX: for ever */
  struct timer timeout;        /* if it is not for ever */
};

/* --- order of looking, order of locking --- */

/*
 * Not good randomness, but of use to nobody.  A state for each thread; a G that is preempted between load and store and goes
 * on elsewhere disturbs it at worst, hence the atomic.
 */
static uint32_t random_next(void) {
  static __thread _Atomic uint32_t state;
  uint32_t x = atomic_load_explicit(&state, memory_order_relaxed);
  if (!x) x = (uint32_t)((uintptr_t)&state >> 4) | 1;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  atomic_store_explicit(&state, x, memory_order_relaxed);
  return x;
}

/* Permutes as Go does, from the inside out, with one random number for all: a step of xorshift for each case. */
static void shuffle_cases(struct select *s) {
  uint32_t x = random_next(), k = 0;
  for (uint32_t i = 0; i < s->n; i++) {
    s->waiters[i].queued = false;
    if (!s->cases[i].chan) continue;
    uint32_t j = (uint32_t)((uint64_t)x * (k + 1) >> 32);
    s->order[k] = s->order[j];
    s->order[j] = (uint16_t)i;
    s->chans[k++] = s->cases[i].chan;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
  }
  s->norder = k;
}

static int by_address(const void *a, const void *b) {
  uintptr_t x = (uintptr_t) * (struct ration_chan *const *)a, y = (uintptr_t) * (struct ration_chan *const *)b;
  return (x > y) - (x < y);
}

/* Each channel once. */
static void sort_chans(struct select *s) {
  struct ration_chan **c = s->chans;
  if (s->norder > SMALL) {
    qsort(c, s->norder, sizeof *c, by_address);
  } else {
    for (uint32_t i = 1; i < s->norder; i++) {
      struct ration_chan *x = c[i];
      uint32_t j = i;
      for (; j > 0 && (uintptr_t)c[j - 1] > (uintptr_t)x; j--) c[j] = c[j - 1];
      c[j] = x;
    }
  }
  uint32_t k = 0;
  for (uint32_t i = 0; i < s->norder; i++) {
    if (k == 0 || c[k - 1] != c[i]) c[k++] = c[i];
  }
  s->nchans = k;
}

static void lock_all(struct select *s) {
  for (uint32_t i = 0; i < s->nchans; i++) chan_lock(s->chans[i]);
}

/* Also as commit: nothing of s may be touched once chans[0] is free. */
static void unlock_all(struct select *s) {
  struct ration_chan **chans = s->chans;
  for (uint32_t i = s->nchans; i-- > 0;) chan_unlock(chans[i]);
}

static bool commit_unlock_all(struct g *g, void *arg) {
  (void)g;
  unlock_all(arg);
  return true;
}

/* --- pass 1 --- */

/* With all locks.  The case that was done, or -EAGAIN; the locks are dropped if one was. */
static int do_one(struct select *s) {
  for (uint32_t i = 0; i < s->norder; i++) {
    int index = s->order[i];
    struct ration_case *k = &s->cases[index];
    bool send = k->op == RATION_CASE_OP_SEND;
    struct g *wake;
    enum chan_result r = send ? chan_send_locked(k->chan, k->elem, &wake) : chan_recv_locked(k->chan, k->elem, &wake);
    if (r == CHAN_BLOCKS) continue;
    unlock_all(s);
    if (wake) g_ready(wake, true);
    if (send && r == CHAN_CLOSED) chan_fatal_send();
    if (!send) k->ok = r == CHAN_DONE;
    return index;
  }
  return -EAGAIN;
}

/* --- timeout --- */

static void select_timeout(struct timer *t) {
  struct select *s = t->arg;
  struct g *g = s->g;
  struct ration_chan *c = s->chans[0];
  uint32_t armed = 0;
  chan_lock(c); /* its commit is through */
  bool won = atomic_compare_exchange_strong_explicit(&g->select_done, &armed, 1, memory_order_relaxed,
                                                     memory_order_relaxed); /* against queue_pop */
  chan_unlock(c);
  if (won) {
    g->wait = NULL;
    g_ready(g, false);
    return;
  }
  /* release: we are done with the frame; acquire: the G is parked.  Pairs with await_timer and stop_timer. */
  if (atomic_exchange_explicit(&s->timer, TIMER_OVER, memory_order_acq_rel) == TIMER_AWAITED) g_ready(g, true);
}

static bool await_timer(struct g *g, void *arg) {
  struct select *s = arg;
  uint32_t armed = TIMER_ARMED;
  (void)g;
  /* Pairs with the exchange in select_timeout. */
  return atomic_compare_exchange_strong_explicit(&s->timer, &armed, TIMER_AWAITED, memory_order_acq_rel, memory_order_acquire);
}

/* Somebody else has won: returns when select_timeout won't touch the frame any more. */
static __attribute__((noinline)) void stop_timer(struct select *s) {
  if (!timer_stop(&s->timeout)) g_park(await_timer, s, WAIT_SELECT);
}

/* --- passes 2 and 3 --- */

/* With all locks, which are dropped: waits in all queues.  Returns the waiter that was served, or null: the time is over. */
static __attribute__((noinline)) struct chan_waiter *wait_in_all(struct select *s) {
  struct g *g = g_self();
  s->g = g;
  for (uint32_t i = 0; i < s->norder; i++) {
    struct ration_case *k = &s->cases[s->order[i]];
    struct chan_waiter *w = &s->waiters[s->order[i]];
    w->g = g;
    w->elem = k->elem;
    w->select = true;
    queue_push(k->op == RATION_CASE_OP_SEND ? &k->chan->senders : &k->chan->receivers, w);
  }
  g->waiting_on = s->chans[0];
  g->selects = s;
  g->wait = NULL;
  atomic_store_explicit(&g->select_done, 0, memory_order_relaxed); /* armed; who can find us takes one of our locks first */
  if (s->until != UINT64_MAX) {
    atomic_init(&s->timer, TIMER_ARMED);
    s->timeout = (struct timer){.fn = select_timeout, .arg = s};
    timer_start_parks(&s->timeout, s->until);
  }
  g_park(commit_unlock_all, s, WAIT_SELECT);
  g->waiting_on = NULL;
  g->selects = NULL;
  struct chan_waiter *w = g->wait;
  g->wait = NULL;
  return w;
}

static __attribute__((noinline)) void leave_all(struct select *s) {
  for (uint32_t i = 0; i < s->norder; i++) {
    struct ration_case *k = &s->cases[s->order[i]];
    struct chan_waiter *w = &s->waiters[s->order[i]];
    chan_lock(k->chan); /* also if it is not queued: whoever took it out, and commit, are through */
    if (w->queued) queue_remove(k->op == RATION_CASE_OP_SEND ? &k->chan->senders : &k->chan->receivers, w);
    chan_unlock(k->chan);
  }
}

static int wait_for_one(struct select *s) {
  struct chan_waiter *w = wait_in_all(s);
  if (w && s->until != UINT64_MAX) stop_timer(s);
  leave_all(s);
  if (!w) return -ETIMEDOUT;
  int index = (int)(w - s->waiters);
  struct ration_case *k = &s->cases[index];
  if (k->op == RATION_CASE_OP_RECV)
    k->ok = w->success;
  else if (!w->success)
    chan_fatal_send();
  return index;
}

uint32_t select_waits_for(const struct g *g, struct ration_chan *const **chans) {
  const struct select *s = g->selects;
  if (!s || s->until != UINT64_MAX) return 0;
  *chans = s->chans;
  return s->nchans;
}

/* --- the call --- */

/* No channel: for ever, or the time. */
static int wait_for_none(const struct select *s) {
  if (s->until == UINT64_MAX) {
    for (;;) g_park(NULL, NULL, WAIT_CHAN_NIL);
  }
  g_sleep_until(s->until);
  return -ETIMEDOUT;
}

static int select_in(struct select *s, ration_ns timeout) {
  s->until = UINT64_MAX;
  if (timeout > 0 && timeout != RATION_FOREVER) s->until = (uint64_t)ration_now() + (uint64_t)timeout; /* both below 2^63 */
  shuffle_cases(s);
  sort_chans(s);
  if (s->norder == 0) return timeout <= 0 ? -EAGAIN : wait_for_none(s);
  lock_all(s);
  int index = do_one(s);
  if (index >= 0) return index;
  if (timeout > 0) return wait_for_one(s);
  unlock_all(s);
  return -EAGAIN;
}

static __attribute__((noinline)) int select_small(struct ration_case *cases, size_t n, ration_ns timeout) {
  struct chan_waiter waiters[SMALL];
  struct ration_chan *chans[SMALL];
  uint16_t order[SMALL];
  struct select s = {.cases = cases, .n = (uint32_t)n, .order = order, .chans = chans, .waiters = waiters};
  return select_in(&s, timeout);
}

static __attribute__((noinline)) int select_large(struct ration_case *cases, size_t n, ration_ns timeout) {
  struct select s = {.cases = cases, .n = (uint32_t)n};
  s.waiters = malloc(n * (sizeof *s.waiters + sizeof *s.chans + sizeof *s.order));
  if (!s.waiters) return -ENOMEM;
  s.chans = (struct ration_chan **)(s.waiters + n);
  s.order = (uint16_t *)(s.chans + n);
  int r = select_in(&s, timeout);
  free(s.waiters);
  return r;
}

/* One case is a send or a receive, unless it may time out. */
static int select_one(struct ration_case *k, ration_ns timeout) {
  bool send = k->op == RATION_CASE_OP_SEND;
  if (timeout > 0) {
    if (send)
      ration_chan_send(k->chan, k->elem);
    else
      k->ok = ration_chan_recv(k->chan, k->elem);
    return 0;
  }
  int r = send ? ration_chan_try_send(k->chan, k->elem) : ration_chan_try_recv(k->chan, k->elem);
  if (r == -EAGAIN) return r;
  k->ok = r == 0;
  return 0;
}

int ration_select(struct ration_case *cases, size_t n, ration_ns timeout) {
  if (n == 1 && (timeout <= 0 || timeout == RATION_FOREVER)) return select_one(cases, timeout);
  if (n <= SMALL) return select_small(cases, n, timeout);
  return n <= RATION_CASES_MAX ? select_large(cases, n, timeout) : -EINVAL;
}
