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
 * In free mode a signal may end a wait as well (stop.h): a waiter that is interruptible is taken out, others are poked: they see to the signal on their own
 * stack, while they are queued.  A handler on the thread of one that waits first takes it out, and calls its limits off, for the handler may leave by siglongjmp.
 * Who counts as one that has come (a barrier) leaves a stand-in in its place; that of one that has jumped is lost when it is woken.
 *
 * Models: tests/model/waitgroup.pml; note.pml, of notes that threads wait for.
 *
 * Locks: that of a lot is a leaf.  Timers, hooks and notes are dealt with without it.
 * A chain is as long as there are contended objects with this hash: with 1024 lots one or none.  A million objects with waiters at the same
 * time would want a tree here, as Go has.
 */
#include <string.h>
#include "sync/lot.h"
#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include "core/sched.h"
#include "ration/g.h"
#include "sync/context.h"
#include "sync/interrupt.h"
#include "sync/stop.h"

#define LOTS_LOG2 10
#define LOT_SPINS 40

static struct lot lots[1u << LOTS_LOG2];
static uint32_t generation; /* changes while the child of a fork has one thread */
bool lot_by_priority;

/* Relaxed: it changes in lot_move only, under the lock of the lot that it leads to then; who saw that one and takes its lock comes after the move. */
static inline const void *key_of(const struct waiter *w) { return atomic_load_explicit(&w->key, memory_order_relaxed); }

/* --- notes --- */

/* PARKED already: it woke for nothing, and parks again. */
static bool note_commit(struct g *g, void *arg) {
  struct note *n = arg;
  uint32_t was = atomic_load_explicit(&n->state, memory_order_acquire); /* pairs with wake_parked */
  if (was != 0) return was == NOTE_PARKED;
  n->g = g;
  /* release: the parked G, for the setter.  acquire: what the setter did before, if it was first.  Both pair with the exchange in note_set. */
  return atomic_compare_exchange_strong_explicit(&n->state, &was, NOTE_PARKED, memory_order_acq_rel, memory_order_acquire);
}

static __attribute__((noinline)) bool was_poked(struct note *n) {
  uint32_t poked = NOTE_POKED;
  /* acquire: the notice; pairs with note_poke */
  return atomic_compare_exchange_strong_explicit(&n->state, &poked, 0, memory_order_acq_rel, memory_order_acquire);
}

/* What ends a wait of g's: by a signal. */
struct stoppable {
  struct stop stop;
  struct waiter *w;
  struct g *g;
};

/* Whoever poked it has disarmed it; handlers are about to run. */
static void see_to_notice(struct stoppable *s) {
  if (s) {
    stop_disarm(s->g, &s->stop);
    (void)stop_arm(s->g, &s->stop);
  }
  stop_signals();
}

/* Of a thread's G: a wake-up that came when it was awake already, or was meant for what it does not wait for any more.  The next park is not to have it. */
static void no_strays(struct g *g) {
  if (g->kind == G_WIRED) atomic_store_explicit(&g->wake, 0, memory_order_relaxed);
}

static void wait_note(struct note *n, const void *on, enum wait_reason why, struct stoppable *s) {
  struct g *g = NULL;
  uint32_t is;
  /* acquire: pairs with note_set */
  while ((is = atomic_load_explicit(&n->state, memory_order_acquire)) != NOTE_SET) {
    if (is == NOTE_WAKING) { /* only a thread's G comes here, which was awake */
      g_yield();
      continue;
    }
    g = g_self();
    struct note *outer = g->note;
    g->note = n;
    g->waiting_on = on;
    g_park(note_commit, n, why);
    g->waiting_on = NULL;
    g->note = outer;
    if (was_poked(n)) see_to_notice(s);
  }
  if (g) no_strays(g);
}

void note_wait(struct note *n, const void *on, enum wait_reason why) { wait_note(n, on, why, NULL); }

void note_poke(struct note *n) {
  uint32_t was = atomic_load_explicit(&n->state, memory_order_relaxed);
  do
    if (was == NOTE_SET || was == NOTE_WAKING || was == NOTE_POKED) return;
  /* release: pairs with was_poked; acquire: the parked G, with note_commit */
  while (!atomic_compare_exchange_weak_explicit(&n->state, &was, NOTE_POKED, memory_order_acq_rel, memory_order_relaxed));
  if (was == NOTE_PARKED) g_ready(n->g, false);
}

/*
 * A light G sleeps until it is readied, so its note stays until then.  A thread's may be awake (lot.h): it is readied while the note holds it back, and only then let go.  Nothing
 * of the note, nor of a thread's G but the address that it sleeps at, is touched after that.  No handler comes between: the G would wait for it, or have a note that is never set.
 */
static __attribute__((noinline)) void wake_parked(struct note *n, bool next) {
  m_hold(m_self);
  struct g *g = n->g;
  bool thread = g->kind == G_WIRED, sleeps = thread && thread_readied(g);
  atomic_store_explicit(&n->state, NOTE_SET, memory_order_release); /* pairs with wait_note */
  if (sleeps) thread_rouse(g);
  if (!thread) g_ready(g, next);
  m_release(m_self);
}

void note_set(struct note *n, bool next) {
  uint32_t was = atomic_load_explicit(&n->state, memory_order_relaxed), now;
  /* Pairs with note_commit and wait_note.  After it the waiter may be on its way, and the note gone, unless it has parked. */
  do now = was == NOTE_PARKED ? NOTE_WAKING : NOTE_SET;
  while (!atomic_compare_exchange_weak_explicit(&n->state, &was, now, memory_order_acq_rel, memory_order_relaxed));
  if (was == NOTE_PARKED) wake_parked(n, next);
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

/* Who goes before whom: the higher priority, as in the kernel's queues of futexes; among equals, and that is all of them as a rule, who came first. */
static bool goes_before(const struct waiter *w, const struct waiter *other, bool front) {
  return front ? w->priority >= other->priority : w->priority > other->priority;
}

static void enqueue(struct lot *l, struct waiter *w, bool front) {
  struct waiter *first = lot_first(l, key_of(w)), *after;
  w->next = NULL;
  w->chain_at = NULL;
  if (!first) {
    w->prev = w;
    chain_set(&l->keys, w, l->keys);
    return;
  }
  if (goes_before(w, first, front)) {
    w->next = first;
    w->prev = first->prev;
    first->prev = w;
    chain_set(first->chain_at, w, first->chain);
    first->chain_at = NULL;
    return;
  }
  for (after = first->prev; goes_before(w, after, front); after = after->prev) {
  }
  w->prev = after;
  w->next = after->next;
  after->next = w;
  (w->next ? w->next : first)->prev = w;
}

/* That of the kernel's thread: of Gs that share one, 0. */
static int own_priority(void) {
  struct sched_param p = {0};
  return raw_syscall2(SYS_sched_getparam, 0, (long)&p) == 0 ? p.sched_priority : 0;
}

void lot_push(struct lot *l, struct waiter *w, bool front) {
  w->queued = true;
  w->forks = light_forks;
  w->priority = __builtin_expect(__atomic_load_n(&lot_by_priority, __ATOMIC_RELAXED), 0) ? own_priority() : 0;
  enqueue(l, w, front);
}

void lot_move(struct lot *l, struct waiter *w, const void *key) {
  atomic_store_explicit(&w->key, key, memory_order_relaxed);
  enqueue(l, w, false);
  atomic_store_explicit(&w->moved, true, memory_order_release); /* pairs with take_out: the key is this lot's */
}

void lot_remove(struct lot *l, struct waiter *w) {
  if (w->queued)
    w->queued = false;
  else /* it was moved: of `queued` nothing is written, its timer may look */
    atomic_store_explicit(&w->moved, false, memory_order_relaxed);
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
  bool timed, hooked; /* they are on, or have gone off */
};

/* True: w was still queued, and is not any more.  Those that have stayed in the parent of a fork are in no queue here. */
static __attribute__((noinline)) bool give_up(struct waiter *w, int why) {
  struct lot *l = lot_lock(key_of(w));
  bool was = w->queued && w->forks == light_forks;
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

/* No handler comes between what these do and what they note of it (m_hold): it would find what is not so.  Not inline: they use the thread pointer, and their caller parks. */
static __attribute__((noinline)) int limits_on(struct limited *p, const struct limit *lim) {
  int err = limit_passed(lim);
  if (err) return err;
  m_hold(m_self);
  p->timed = lim->until != UINT64_MAX;
  if (p->timed) timer_start_parks(&p->timer, lim->until);
  if (lim->ctx) {
    err = context_hook_add(lim->ctx, &p->hook);
    p->hooked = !err;
  }
  m_release(m_self);
  return err;
}

/* False: it has gone off, and its callback's end is to be waited for. */
static __attribute__((noinline)) bool timer_off(struct limited *p) {
  m_hold(m_self);
  bool off = !p->timed || timer_stop(&p->timer);
  if (off) p->timed = false;
  m_release(m_self);
  return off;
}

static __attribute__((noinline)) bool hook_off(struct limited *p) {
  m_hold(m_self);
  bool off = !p->hooked || context_hook_remove(&p->hook);
  if (off) p->hooked = false;
  m_release(m_self);
  return off;
}

static void limits_off(struct limited *p, enum wait_reason why) {
  if (!timer_off(p)) note_wait(&p->timer_over, key_of(p->w), why);
  if (!hook_off(p)) note_wait(&p->hook_over, key_of(p->w), why);
}

static int lot_wait_limited(struct waiter *w, const struct limit *lim, enum wait_reason why, struct stoppable *s) {
  struct limited p = {.w = w};
  p.timer.fn = limit_timer;
  p.hook.fn = limit_hook;
  p.timer.arg = p.hook.arg = &p;
  w->limits = &p;
  int err = limits_on(&p, lim);
  if (!err || !give_up(w, err)) wait_note(&w->note, key_of(w), why, s);
  limits_off(&p, why);
  w->limits = NULL;
  return w->result;
}

static int lot_wait_unarmed(struct waiter *w, const struct limit *lim, enum wait_reason why, struct stoppable *s) {
  if (lim) return lot_wait_limited(w, lim, why, s);
  wait_note(&w->note, key_of(w), why, s);
  return w->result;
}

/* --- stand-ins --- */

#define STAND_INS (4096 / sizeof(struct waiter))

static struct {
  struct lock lock; /* a leaf */
  struct waiter *free;
} stand_ins;

/* Not inline, as lot_unlock. */
static __attribute__((noinline)) struct waiter *stand_in_get(void) {
  run_lock(&stand_ins.lock);
  if (!stand_ins.free) {
    long at = raw_syscall6(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; at > 0 && i < STAND_INS; i++) {
      struct waiter *w = (struct waiter *)at + i;
      w->next = stand_ins.free;
      stand_ins.free = w;
    }
  }
  struct waiter *w = stand_ins.free;
  if (w) {
    stand_ins.free = w->next;
    memset(w, 0, sizeof *w);
  }
  run_unlock(&stand_ins.lock);
  return w;
}

static __attribute__((noinline)) void stand_in_put(struct waiter *w) {
  run_lock(&stand_ins.lock);
  w->next = stand_ins.free;
  stand_ins.free = w;
  run_unlock(&stand_ins.lock);
}

/* Its stand-in gives the place back.  False: that has been woken for it. */
static __attribute__((noinline)) bool place_again(struct waiter *w) {
  struct waiter *in = w->stand_in;
  struct lot *l = lot_lock(key_of(w));
  bool queued = in->queued;
  if (queued) {
    lot_remove(l, in);
    w->note = (struct note){0};
    w->result = 0;
    lot_push(l, w, false);
  }
  lot_unlock(l);
  if (queued) return true;
  while (atomic_load_explicit(&in->note.state, memory_order_acquire) != NOTE_SET)
    g_yield(); /* pairs with note_set: whoever wakes it is done with it */
  return false;
}

void lot_wait_in_place(struct waiter *w, enum wait_reason why) {
  w->interruptible = w->keeps_place = true;
  while (lot_wait(w, NULL, why) == -EINTR) {
    stop_notice();
    if (!place_again(w)) break;
    stand_in_put(w->stand_in);
    w->stand_in = NULL;
  }
  if (w->stand_in) stand_in_put(w->stand_in);
}

/* --- signals --- */

/* With a stand-in, if it is to have one. */
static bool may_go(struct waiter *w) {
  if (!w->interruptible) return false;
  if (w->keeps_place && !w->stand_in) w->stand_in = stand_in_get();
  return !w->keeps_place || w->stand_in;
}

/* True: it is in no queue any more, and the caller sets its note.  False: somebody else has it in hand, and will set it, or move it. */
static __attribute__((noinline)) bool take_out(struct waiter *w) {
  const void *key = key_of(w);
  struct lot *l = lot_lock(key);
  bool moved = atomic_load_explicit(&w->moved, memory_order_acquire) && key_of(w) == key; /* pairs with lot_move */
  bool was = w->queued;
  if (was || moved) lot_remove(l, w);
  if (moved) { /* as if it had been woken by who has the lock, with others behind it: those the word tells of */
    w->handoff = false;
    w->n = 0;
  }
  if (was) w->result = -EINTR;
  if (was && w->keeps_place) {
    atomic_store_explicit(&w->stand_in->key, key, memory_order_relaxed);
    w->stand_in->priority = w->priority;
    w->stand_in->queued = true;
    enqueue(l, w->stand_in, false);
  }
  lot_unlock(l);
  return was || moved;
}

static void stop_waiter(struct stop *s) {
  struct waiter *w = ((struct stoppable *)s)->w;
  if (may_go(w) && take_out(w))
    note_set(&w->note, false);
  else
    note_poke(&w->note);
}

static void leave_waiter(struct stop *s) {
  struct waiter *w = ((struct stoppable *)s)->w;
  if (!may_go(w)) return;
  while (atomic_load_explicit(&w->note.state, memory_order_acquire) != NOTE_SET) { /* pairs with note_set */
    if (take_out(w))
      note_set(&w->note, false);
    else
      g_yield();
  }
  no_strays(g_self()); /* the handler may leave */
  if (w->limits) limits_off(w->limits, WAIT_NONE);
}

/* A wired G's handlers run in between anyway; only what they interrupt has to be armed. */
static __attribute__((noinline)) int lot_wait_armed(struct waiter *w, const struct limit *lim, enum wait_reason why) {
  struct g *g = g_self();
  struct stoppable s = {{stop_waiter, leave_waiter}, w, g};
  if (g->kind == G_LIGHT || (g->kind == G_WIRED && !w->interruptible)) return lot_wait_unarmed(w, lim, why, NULL);
  if (!stop_arm(g, &s.stop)) stop_waiter(&s.stop);
  int r = lot_wait_unarmed(w, lim, why, &s);
  stop_disarm(g, &s.stop);
  no_strays(g); /* of who has poked it */
  return r;
}

int lot_wait(struct waiter *w, const struct limit *lim, enum wait_reason why) {
  return __builtin_expect(stop_used, 0) ? lot_wait_armed(w, lim, why) : lot_wait_unarmed(w, lim, why, NULL);
}

uint32_t lot_generation(void) { return generation; }

/* In the child of a fork: those who wait, and whoever held a lock, are the parent's. */
void sync_fork_child(void);
void sync_fork_child(void) {
  generation++;
  memset(lots, 0, sizeof lots);
  memset(&stand_ins, 0, sizeof stand_ins);
  interrupt_fork_child();
}
