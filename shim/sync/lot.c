/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parking lot: one fixed table of queues, keyed by the address of what is waited for (Go's semaRoot, WebKit's ParkingLot).
 *
 * A mutex is four bytes that way, and nobody touches it any more once it is released: a thread that unlocks knows its address, not its
 * memory, so the next owner may free it.  Queues inside of the objects would save the hash (a few ns, on the slow path only) and cost 16 bytes more in
 * each, and that.
 *
 *   waiter                                               waker                                  timer, cancelled context
 *   lot_lock(key)                                        change the word ...
 *   look at the word again; still to wait?               lot_lock(key)                          lot_lock(key)
 *   lot_push(w); lot_unlock                              lot_remove(w); lot_unlock              queued? lot_remove(w), w->result = why
 *   lot_wait(w): parks until w->note                     note_set(&w->note)                     lot_unlock; note_set(&w->note)
 *
 * Who takes w out of the queue, under the lock, is the one who sets its note: exactly one.  The objects keep a bit in their word that says "someone is
 * queued", changed under the lock of the lot; a waiter that gave up may leave it set with nobody there, for a moment.
 *
 * The lock is let go before the G parks, not by the commit function: it is held for some 20 ns, not across a switch of stacks.  The
 * note makes up for it: who is readied before it has parked does not park.
 *
 * A waiter that was taken out may be moved to another queue (lot_move: from a condition to its mutex).  `queued` stays false then: its timer, which may look at it
 * under the lock of either lot, finds that it has been taken out, and that is all it needs to know.
 *
 * A waiter with a limit has a timer and a hook on its stack.  Where they can't be called off any more it waits for the end of their call (`over`).
 *
 * In free mode a signal may end a wait as well (stop.h): a waiter that is interruptible takes itself out, others are poked: they see to the signal on their own
 * stack, while they are queued.
 *
 * Model: tests/model/waitgroup.pml.
 *
 * Locks: that of a lot is a leaf.  Timers, hooks and notes are dealt with without it.
 * A chain is as long as there are contended objects with this hash: with 1024 lots one or none.  A million objects with waiters at the same
 * time would want a tree here, as Go has.
 */
#include <string.h>
#include "sync/lot.h"
#include <errno.h>
#include <stddef.h>
#include "ration/g.h"
#include "sync/context.h"
#include "sync/interrupt.h"
#include "sync/stop.h"

#define LOTS_LOG2 10
#define LOT_SPINS 40

static struct lot lots[1u << LOTS_LOG2];
static uint32_t generation; /* changes while the child of a fork has one thread */

/* Relaxed: it changes in lot_move only, under the lock of the lot that it leads to then; who saw that one and takes its lock comes after the move. */
static inline const void *key_of(const struct waiter *w) { return atomic_load_explicit(&w->key, memory_order_relaxed); }

/* --- notes --- */

/* parked: the note says so still, though the G is awake: a handler that waited in between has woken it (stop.h), and the setter's wake-up is to come. */
struct parking {
  struct note *n;
  bool parked;
};

static bool note_commit(struct g *g, void *arg) {
  struct parking *p = arg;
  uint32_t was = 0;
  p->n->g = g;
  /* release: the parked G, for the setter.  acquire: what the setter did before, if it was first.  Both pair with the exchange in note_set. */
  bool parks = atomic_compare_exchange_strong_explicit(&p->n->state, &was, NOTE_PARKED, memory_order_acq_rel, memory_order_acquire);
  return parks || p->parked;
}

static __attribute__((noinline)) bool was_poked(struct note *n) {
  uint32_t poked = NOTE_POKED;
  /* acquire: the notice; pairs with note_poke */
  return atomic_compare_exchange_strong_explicit(&n->state, &poked, 0, memory_order_acq_rel, memory_order_acquire);
}

void note_wait(struct note *n, const void *on, enum wait_reason why) {
  struct parking p = {n, false};
  /* acquire: pairs with note_set */
  while (atomic_load_explicit(&n->state, memory_order_acquire) != NOTE_SET || p.parked) {
    struct g *g = g_self();
    struct note *outer = g->note;
    g->note = n;
    g->waiting_on = on;
    g_park(note_commit, &p, why);
    g->waiting_on = NULL;
    g->note = outer;
    /* A wired G that is awake and finds it parked has been woken for nothing.  One that was parked, and is not now, has had its wake-up. */
    p.parked = atomic_load_explicit(&n->state, memory_order_acquire) == NOTE_PARKED;
    if (was_poked(n)) stop_notice();
  }
}

void note_poke(struct note *n) {
  uint32_t was = atomic_load_explicit(&n->state, memory_order_relaxed);
  do
    if (was == NOTE_SET || was == NOTE_POKED) return;
  /* release: pairs with was_poked; acquire: the parked G, with note_commit */
  while (!atomic_compare_exchange_weak_explicit(&n->state, &was, NOTE_POKED, memory_order_acq_rel, memory_order_relaxed));
  if (was == NOTE_PARKED) g_ready(n->g, false);
}

void note_set(struct note *n, bool next) {
  /* Pairs with note_commit and note_wait.  After it the waiter may be on its way, and the note gone, unless it has parked. */
  if (atomic_exchange_explicit(&n->state, NOTE_SET, memory_order_acq_rel) == NOTE_PARKED) g_ready(n->g, next);
}

/* --- queues --- */

struct lot *lot_lock(const void *key) {
  struct lot *l = &lots[(((uintptr_t)key & ~(uintptr_t)3) * 0x9e3779b97f4a7c15u) >> (64 - LOTS_LOG2)];
  for (int i = 0; i < LOT_SPINS && lock_held(&l->lock); i++) spin_pause();
  run_lock(&l->lock);
  return l;
}

void lot_unlock(struct lot *l) { run_unlock(&l->lock); }

struct waiter *lot_first(struct lot *l, const void *key) {
  struct waiter *w = l->keys;
  while (w && key_of(w) != key) w = w->chain;
  return w;
}

/* Puts w where the chain has its key's first, or nothing; null: takes that out. */
static void chain_set(struct waiter **at, struct waiter *w, struct waiter *next) {
  struct waiter *put = w ? w : next;
  *at = put;
  if (put) put->chain_at = at;
  if (!w) return;
  w->chain = next;
  if (next) next->chain_at = &w->chain;
}

static void enqueue(struct lot *l, struct waiter *w, bool front) {
  struct waiter *first = lot_first(l, key_of(w));
  w->next = NULL;
  w->chain_at = NULL;
  if (!first) {
    w->prev = w;
    chain_set(&l->keys, w, l->keys);
  } else if (front) {
    w->next = first;
    w->prev = first->prev;
    first->prev = w;
    chain_set(first->chain_at, w, first->chain);
    first->chain_at = NULL;
  } else {
    w->prev = first->prev;
    first->prev->next = w;
    first->prev = w;
  }
}

void lot_push(struct lot *l, struct waiter *w, bool front) {
  w->queued = true;
  enqueue(l, w, front);
}

void lot_move(struct lot *l, struct waiter *w, const void *key) {
  atomic_store_explicit(&w->key, key, memory_order_relaxed);
  enqueue(l, w, false);
}

void lot_remove(struct lot *l, struct waiter *w) {
  if (w->queued) w->queued = false; /* of one that was moved nothing is written: its timer may look */
  if (w->chain_at) {
    if (w->next) w->next->prev = w->prev;
    chain_set(w->chain_at, w->next, w->chain);
    return;
  }
  w->prev->next = w->next;
  struct waiter *after = w->next ? w->next : lot_first(l, key_of(w));
  after->prev = w->prev;
}

struct waiter *lot_pop_all(struct lot *l, const void *key) {
  struct waiter *first = lot_first(l, key);
  if (!first) return NULL;
  chain_set(first->chain_at, NULL, first->chain);
  for (struct waiter *w = first; w; w = w->next) w->queued = false;
  return first;
}

void lot_wake_all(struct waiter *list) {
  bool one = list && !list->next;
  for (struct waiter *w = list, *next; w; w = next) {
    next = w->next;
    note_set(&w->note, one);
  }
}

/* --- limits --- */

struct limit limit_after(int64_t d) {
  if (d == RATION_FOREVER) return (struct limit){.until = UINT64_MAX};
  uint64_t now = sys_now();
  return (struct limit){.until = d <= 0 ? now : now + (uint64_t)d};
}

int limit_passed(const struct limit *lim) {
  if (!lim) return 0;
  int err = context_err(lim->ctx);
  if (err) return err;
  return lim->until != UINT64_MAX && sys_now() >= lim->until ? -ETIMEDOUT : 0;
}

struct limited {
  struct waiter *w;
  struct timer timer;
  struct context_hook hook;
  struct note timer_over, hook_over;
};

/* True: w was still queued, and is not any more. */
static __attribute__((noinline)) bool give_up(struct waiter *w, int why) {
  struct lot *l = lot_lock(key_of(w));
  bool was = w->queued;
  if (was) {
    lot_remove(l, w);
    w->result = why;
  }
  lot_unlock(l);
  return was;
}

/* `over` first: a waiter that was taken out by someone else goes on at it.  One that was not waits for its own note before. */
static void limit_reached(struct waiter *w, struct note *over, int why) {
  bool was = give_up(w, why);
  note_set(over, false);
  if (was) note_set(&w->note, false);
}

static void limit_timer(struct timer *t) {
  struct limited *p = t->arg;
  limit_reached(p->w, &p->timer_over, -ETIMEDOUT);
}

static void limit_hook(struct context_hook *h, int err) {
  struct limited *p = h->arg;
  limit_reached(p->w, &p->hook_over, err);
}

static int lot_wait_limited(struct waiter *w, const struct limit *lim, enum wait_reason why) {
  struct limited p = {.w = w};
  p.timer.fn = limit_timer;
  p.hook.fn = limit_hook;
  p.timer.arg = p.hook.arg = &p;
  int err = limit_passed(lim);
  bool timed = !err && lim->until != UINT64_MAX, hooked = false;
  if (timed) timer_start(&p.timer, lim->until);
  if (!err && lim->ctx) {
    err = context_hook_add(lim->ctx, &p.hook);
    hooked = !err;
  }
  if (!err || !give_up(w, err)) note_wait(&w->note, key_of(w), why);
  if (timed && !timer_stop(&p.timer)) note_wait(&p.timer_over, key_of(w), why);
  if (hooked && !context_hook_remove(&p.hook)) note_wait(&p.hook_over, key_of(w), why);
  return w->result;
}

static int lot_wait_unarmed(struct waiter *w, const struct limit *lim, enum wait_reason why) {
  if (lim) return lot_wait_limited(w, lim, why);
  note_wait(&w->note, key_of(w), why);
  return w->result;
}

/* --- signals --- */

struct stoppable {
  struct stop stop;
  struct waiter *w;
};

/* One that somebody has taken out, and moved (lot_move), stays: its note is poked. */
static void stop_waiter(struct stop *s) {
  struct waiter *w = ((struct stoppable *)s)->w;
  if (w->interruptible && give_up(w, -EINTR))
    note_set(&w->note, false);
  else
    note_poke(&w->note);
}

/* A wired G's handlers run in between anyway; only what they interrupt has to be armed. */
static __attribute__((noinline)) int lot_wait_armed(struct waiter *w, const struct limit *lim, enum wait_reason why) {
  struct stoppable s = {{stop_waiter}, w};
  struct g *g = g_self();
  if (g->kind == G_LIGHT || (g->kind == G_WIRED && !w->interruptible)) return lot_wait_unarmed(w, lim, why);
  if (!stop_arm(g, &s.stop)) stop_waiter(&s.stop);
  int r = lot_wait_unarmed(w, lim, why);
  stop_disarm(g, &s.stop);
  return r;
}

int lot_wait(struct waiter *w, const struct limit *lim, enum wait_reason why) {
  return __builtin_expect(stop_used, 0) ? lot_wait_armed(w, lim, why) : lot_wait_unarmed(w, lim, why);
}

uint32_t lot_generation(void) { return generation; }

/* In the child of a fork: those who wait, and whoever held a lock, are the parent's. */
void sync_fork_child(void);
void sync_fork_child(void) {
  generation++;
  memset(lots, 0, sizeof lots);
  interrupt_fork_child();
}
