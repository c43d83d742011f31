/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Go's package context.
 *
 *     background (null)      A context that can end is a `stem`: it has a lock, a list of hooks, a channel, perhaps a timer.  One that only
 *         |                  carries a value, or leaves off cancellation, leads to the stem above it, or to none.
 *      cancel A   <------ hooks of A: child B, child D, a G in ration_sema_acquire_ctx, ...
 *       |     |
 *     value  cancel D        Each context holds a reference to its parent.  A parent knows its children by their hooks only, and
 *       |                    holds none: a child whose last reference is dropped takes its hook out.
 *     deadline B
 *
 * Ending A:   lock A; err = why; close the channel; take the hooks out, one by one: of a child: a reference to it, unless its last one has just been
 *             dropped, and onto the list of what ends next; of others: unlock, call it, lock.  unlock; stop the timer.  Next on the list.  When that is empty, `over` is set in all that were on it.
 * Who finds that somebody else is ending A, or one below, waits for `over`, if he has promised that all below have ended.  Who asks for err and finds the channel open yet waits
 * for the lock: as in Go, the one is never seen without the other.
 *
 * Not recursive: it may run on a scheduler stack (deadlines), and trees may be deep.  There nothing is freed either: later_push.
 *
 * err is written once, under the lock, so who finds it 0 under the lock and adds a hook will see it called.
 *
 * Locks: that of a stem is a leaf.
 */
#include "ration/context.h"
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include "ration/chan.h"
#include "sync/context.h"
#include "sync/later.h"
#include "sync/lot.h"

struct ration_context {
  _Atomic uint32_t refs;
  struct ration_context *parent; /* null: background */
  struct ration_context *stem;   /* the next one up that can end, itself included; null: none */
  const void *key;               /* null: no value */
  void *value;
  uint64_t deadline;           /* ns; UINT64_MAX: none, also above */
  struct ration_context *next; /* while it is being ended */
  struct later later;
  /* of stems */
  struct lock lock;
  _Atomic int err;           /* [lock to write] */
  _Atomic uint32_t over;     /* OVER_*: with it all below, so far as its ender knows of them */
  bool has_children;         /* [lock] or has had some */
  int cause;                 /* [before err] */
  struct context_hook hooks; /* [lock] a ring */
  struct context_hook up;    /* in the parent's stem */
  struct ration_chan *done;
  bool timed; /* the timer was armed, and cancel has not stopped it */
  struct timer timer;
  struct note timer_over;
};

enum { OVER_NOT, OVER_AWAITED, OVER };

static struct ration_context background = {.deadline = UINT64_MAX};

#define OF(ptr, field) ((struct ration_context *)((char *)(ptr)-offsetof(struct ration_context, field)))

_Atomic(struct later *) later_list;

void later_push(struct later *l) {
  l->next = atomic_load_explicit(&later_list, memory_order_relaxed);
  /* release: pairs with later_run_all */
  while (!atomic_compare_exchange_weak_explicit(&later_list, &l->next, l, memory_order_release, memory_order_relaxed))
    ;
}

void later_run_all(void) {
  struct later *l = atomic_exchange_explicit(&later_list, NULL, memory_order_acquire), *next;
  for (; l; l = next) {
    next = l->next;
    l->fn(l);
  }
}

/* --- hooks --- */

int context_hook_add(struct ration_context *ctx, struct context_hook *h) {
  struct ration_context *s = ctx ? ctx->stem : NULL;
  h->in = s;
  h->next = NULL;
  if (!s) return 0;
  run_lock(&s->lock);
  int err = atomic_load_explicit(&s->err, memory_order_relaxed);
  if (!err) {
    s->has_children |= h->child;
    h->next = &s->hooks;
    h->prev = s->hooks.prev;
    h->prev->next = s->hooks.prev = h;
  }
  run_unlock(&s->lock);
  return err;
}

/* Under the lock. */
static void take_out(struct context_hook *h) {
  h->prev->next = h->next;
  h->next->prev = h->prev;
  h->next = NULL;
}

/* Not inline: see lot_unlock. */
__attribute__((noinline)) bool context_hook_remove(struct context_hook *h) {
  struct ration_context *s = h->in;
  if (!s) return true;
  run_lock(&s->lock);
  bool was = h->next != NULL;
  if (was) take_out(h);
  run_unlock(&s->lock);
  return was;
}

int context_err(const struct ration_context *ctx) {
  /* pairs with cancel_one */
  return ctx && ctx->stem ? atomic_load_explicit(&ctx->stem->err, memory_order_acquire) : 0;
}

/* --- references --- */

static bool ref_unless_dead(struct ration_context *c) {
  uint32_t n = atomic_load_explicit(&c->refs, memory_order_relaxed);
  while (n)
    if (atomic_compare_exchange_weak_explicit(&c->refs, &n, n + 1, memory_order_relaxed, memory_order_relaxed)) return true;
  return false;
}

static bool unref_is_last(struct ration_context *c) {
  /* release: what was done with it; acquire: before it is freed.  Both pair with this same line. */
  return atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1;
}

/* Frees c, and those above that it was the last to refer to. */
static void destroy(struct ration_context *c) {
  while (c) {
    if (c->stem == c) {
      (void)context_hook_remove(&c->up); /* false: who ends the parent found us dead, and is done with us */
      if (c->timed && !timer_stop(&c->timer)) note_wait(&c->timer_over, c, WAIT_CONTEXT);
      ration_chan_unref(c->done);
    }
    struct ration_context *parent = c->parent;
    free(c);
    c = parent && unref_is_last(parent) ? parent : NULL;
  }
}

static void destroy_later(struct later *l) { destroy(OF(l, later)); }

static void unref_anywhere(struct ration_context *c) {
  if (!unref_is_last(c)) return;
  c->later.fn = destroy_later;
  later_push(&c->later);
}

struct ration_context *ration_context_ref(struct ration_context *ctx) {
  if (ctx && ctx != &background) atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed); /* the caller has one */
  return ctx;
}

void ration_context_unref(struct ration_context *ctx) {
  later_run();
  if (ctx && ctx != &background && unref_is_last(ctx)) destroy(ctx);
}

/* --- ending --- */

/* Takes the hooks out; children come before *list, each with a reference.  Lock held, but for the calls. */
static void call_hooks(struct ration_context *c, int err, struct ration_context **list) {
  for (struct context_hook *h; (h = c->hooks.next) != &c->hooks;) {
    take_out(h);
    if (h->child) {
      struct ration_context *child = OF(h, up);
      if (ref_unless_dead(child)) {
        child->next = *list;
        *list = child;
      }
      continue;
    }
    run_unlock(&c->lock);
    h->fn(h, err);
    run_lock(&c->lock);
  }
}

/* Ends c; false: somebody else has, or is about to. */
static bool cancel_one(struct ration_context *c, int err, int cause, struct ration_context **list) {
  run_lock(&c->lock);
  if (atomic_load_explicit(&c->err, memory_order_relaxed)) {
    run_unlock(&c->lock);
    return false;
  }
  c->cause = cause;
  atomic_store_explicit(&c->err, err, memory_order_release); /* pairs with context_err */
  ration_chan_close(c->done);
  call_hooks(c, err, list);
  run_unlock(&c->lock);
  if (c->timed && timer_stop(&c->timer)) c->timed = false;
  return true;
}

static void set_over(struct ration_context *c) {
  /* release: what was done to those below; pairs with wait_over */
  if (atomic_exchange_explicit(&c->over, OVER, memory_order_acq_rel) != OVER_AWAITED) return;
  struct lot *l = lot_lock(&c->over);
  struct waiter *w = lot_pop_all(l, &c->over);
  lot_unlock(l);
  lot_wake_all(w);
}

/* Somebody else ends c: until all below have ended too.  One without children is not waited for, so none that ends a call is, whose handler may come back here. */
static void wait_over(struct ration_context *c) {
  if (!c->has_children) return;
  struct waiter w = WAITER_INIT(&c->over);
  struct lot *l = lot_lock(w.key);
  uint32_t was = OVER_NOT;
  /* acquire: pairs with set_over */
  bool waits = atomic_compare_exchange_strong_explicit(&c->over, &was, OVER_AWAITED, memory_order_acquire, memory_order_acquire) ||
               was == OVER_AWAITED;
  if (waits) lot_push(l, &w, false);
  lot_unlock(l);
  if (waits) lot_wait(&w, NULL, WAIT_CONTEXT);
}

/*
 * Any stack; the caller has a reference, or keeps the last one from going.  False: c was somebody else's to end.  *others: those below of which that is true, each with a
 * reference.
 */
static bool cancel_tree(struct ration_context *top, int err, int cause, struct ration_context **others) {
  struct ration_context *list = NULL, *mine = NULL, *c;
  *others = NULL;
  bool did = cancel_one(top, err, cause, &list);
  while ((c = list)) {
    list = c->next;
    struct ration_context **to = cancel_one(c, err, cause, &list) ? &mine : others;
    c->next = *to;
    *to = c;
  }
  while ((c = mine)) {
    mine = c->next;
    set_over(c);
    unref_anywhere(c);
  }
  if (did) set_over(top);
  return did;
}

static void end_without_waiting(struct ration_context *c, int err, int cause) {
  struct ration_context *others, *o;
  cancel_tree(c, err, cause, &others);
  while ((o = others)) {
    others = o->next;
    unref_anywhere(o);
  }
}

void ration_context_cancel_cause(struct ration_context *ctx, int cause) {
  if (!ctx || ctx->stem != ctx) return;
  struct ration_context *others, *o;
  if (!cancel_tree(ctx, -ECANCELED, cause ? cause : -ECANCELED, &others)) wait_over(ctx);
  (void)context_hook_remove(&ctx->up); /* after it: who ends the parent meanwhile waits for us */
  while ((o = others)) {
    others = o->next;
    wait_over(o);
    unref_anywhere(o);
  }
  later_run();
}

void context_end(struct ration_context *ctx) {
  if (!ctx) return;
  end_without_waiting(ctx, -ECANCELED, -ECANCELED);
  (void)context_hook_remove(&ctx->up); /* as above */
  later_run();
}

void ration_context_cancel(struct ration_context *ctx) { ration_context_cancel_cause(ctx, -ECANCELED); }

/* It stays in its parent's list, for it may not be there yet. */
static void deadline_came(struct timer *t) {
  struct ration_context *c = t->arg;
  end_without_waiting(c, -ETIMEDOUT, -ETIMEDOUT);
  note_set(&c->timer_over, false);
}

/* --- making --- */

struct ration_context *ration_context_background(void) {
  return &background;
}

static struct ration_context *new_below(struct ration_context *parent) {
  later_run();
  struct ration_context *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  if (!parent) parent = &background;
  atomic_init(&c->refs, 1);
  c->parent = parent == &background ? NULL : ration_context_ref(parent);
  c->stem = parent->stem;
  c->deadline = parent->deadline;
  return c;
}

/* -ETIMEDOUT: it is over.  (That of one above may be, and its timer not yet have been seen to: c ends with that one, not before it.) */
static int set_deadline(struct ration_context *c, uint64_t deadline) {
  if (deadline == UINT64_MAX) return 0;
  bool first = deadline < c->deadline;
  if (first) c->deadline = deadline;
  if (deadline <= sys_now()) return -ETIMEDOUT;
  if (!first) return 0;
  c->timer.fn = deadline_came;
  c->timer.arg = c;
  c->timed = true;
  timer_start(&c->timer, deadline);
  return 0;
}

/* `deadline`: UINT64_MAX: only those above. */
static struct ration_context *new_stem(struct ration_context *parent, uint64_t deadline) {
  struct ration_context *c = new_below(parent);
  if (!c) return NULL;
  c->stem = NULL;
  c->done = ration_chan_new(0, 0);
  if (!c->done) {
    destroy(c);
    return NULL;
  }
  c->stem = c;
  c->hooks.next = c->hooks.prev = &c->hooks;
  c->up.child = true;
  int err = context_err(parent);
  if (!err) err = set_deadline(c, deadline);
  if (!err) err = context_hook_add(parent, &c->up); /* the last: the parent may end c at once */
  if (err) end_without_waiting(c, err, context_err(parent) ? ration_context_cause(parent) : err);
  return c;
}

struct ration_context *ration_context_with_cancel(struct ration_context *parent) {
  return new_stem(parent, UINT64_MAX);
}

struct ration_context *ration_context_with_deadline(struct ration_context *parent, ration_ns at) {
  return new_stem(parent, at == RATION_FOREVER ? UINT64_MAX : at < 0 ? 0 : (uint64_t)at);
}

struct ration_context *ration_context_with_timeout(struct ration_context *parent, ration_ns d) {
  ration_ns now = ration_now(), at;
  if (d == RATION_FOREVER || __builtin_add_overflow(now, d, &at)) at = d < 0 ? 0 : RATION_FOREVER;
  return ration_context_with_deadline(parent, at);
}

struct ration_context *ration_context_with_value(struct ration_context *parent, const void *key, void *value) {
  struct ration_context *c = key ? new_below(parent) : NULL;
  if (!key) errno = EINVAL;
  if (!c) return NULL;
  c->key = key;
  c->value = value;
  return c;
}

struct ration_context *ration_context_without_cancel(struct ration_context *parent) {
  struct ration_context *c = new_below(parent);
  if (!c) return NULL;
  c->stem = NULL;
  c->deadline = UINT64_MAX;
  return c;
}

/* --- bound to the calls of a G: preload/lightio.c asks --- */

static int bind_io(struct g *g, struct ration_context *ctx) {
  struct ration_context *was = g->io_ctx;
  g->io_ctx = ctx == &background ? NULL : ration_context_ref(ctx);
  ration_context_unref(was); /* may park: the last */
  return 0;
}

int ration_io_context(struct ration_context *ctx) {
  struct g *g = g_self();
  return g->kind == G_LIGHT ? bind_io(g, ctx) : -EINVAL;
}

struct ration_context *ration_io_context_bound(void) {
  struct g *g = g_self();
  return g->kind == G_LIGHT ? g->io_ctx : NULL;
}

void sync_g_unbinds(struct g *g) { bind_io(g, NULL); }

/* --- asking --- */

int ration_context_err(const struct ration_context *ctx) {
  int err = context_err(ctx);
  if (!err || ration_chan_try_recv(ctx->stem->done, NULL) == -EPIPE) return err;
  run_lock(&ctx->stem->lock); /* whose holder is about to close it */
  run_unlock(&ctx->stem->lock);
  return err;
}

int ration_context_cause(const struct ration_context *ctx) { return context_err(ctx) ? ctx->stem->cause : 0; }

struct ration_chan *ration_context_done(const struct ration_context *ctx) {
  return ctx && ctx->stem ? ctx->stem->done : NULL;
}

bool ration_context_deadline(const struct ration_context *ctx, ration_ns *at) {
  if (!ctx || ctx->deadline == UINT64_MAX) return false;
  if (at) *at = (ration_ns)ctx->deadline;
  return true;
}

void *ration_context_value(const struct ration_context *ctx, const void *key) {
  for (; ctx; ctx = ctx->parent)
    if (ctx->key && ctx->key == key) return ctx->value;
  return NULL;
}

/* A waiter that nobody takes out but its limit. */
static int wait_out(const struct limit *lim, enum wait_reason why, bool interruptible) {
  struct waiter w = WAITER_INIT(&w);
  w.interruptible = interruptible;
  struct lot *lot = lot_lock(w.key);
  lot_push(lot, &w, false);
  lot_unlock(lot);
  return lot_wait(&w, lim, why);
}

int ration_context_wait(struct ration_context *ctx) {
  struct limit lim = {UINT64_MAX, ctx};
  return wait_out(&lim, WAIT_CONTEXT, false);
}

static int sleep_until(struct ration_context *ctx, uint64_t until, bool interruptible) {
  int err = context_err(ctx);
  struct limit lim = {until, ctx};
  int r = err ? err : wait_out(&lim, WAIT_SLEEP, interruptible);
  return r == -ETIMEDOUT ? context_err(ctx) : r;
}

int context_sleep_until(struct ration_context *ctx, uint64_t until) { return sleep_until(ctx, until, true); }

int ration_context_sleep(struct ration_context *ctx, ration_ns d) {
  return d <= 0 ? context_err(ctx) : sleep_until(ctx, limit_after(d).until, false);
}
