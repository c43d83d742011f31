/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers and tickers on the core's struct timer.
 *
 *   active   [lock] it is to fire at `at`
 *   armed    [lock] the core has it, or is about to call us
 *
 *             reset                      the core calls: active and due: fire; a ticker goes on
 *   (-, -) ----------> active, armed ------------------------------------------------------------> (-, -)
 *     ^                   |    ^
 *     |         stop: the core gives it back: (-, -).  It does not, the call is under way: (-, armed)
 *     '--the call comes, finds nothing to do---'  or reset came meanwhile: it is armed again for the new time
 *
 * Firing happens under the lock: what stop and reset take out of the channel after it is all there was.  Free leaves a timer whose call is under
 * way to that call (orphan), which may not free on the scheduler stack: later_push.
 *
 * Locks: the timer's, then the core's heap or the channel's.
 */
#include "ration/timer.h"
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include "sync/later.h"
#include "sync/lot.h"

#define TRY_AGAIN_NS 1000000u

struct ration_timer {
  struct lock lock;
  bool active, armed, orphan;
  uint64_t at;
  uint64_t period; /* 0: once */
  ration_fn *fn;   /* null: it sends */
  void *arg;
  struct ration_chan *chan;
  struct timer timer;
  struct later later;
};
struct ration_ticker {
  struct ration_timer t;
};

static void destroy(struct later *l) {
  struct ration_timer *t = (struct ration_timer *)((char *)l - offsetof(struct ration_timer, later));
  ration_chan_unref(t->chan);
  free(t);
}

/* Under the lock. */
static void arm(struct ration_timer *t) {
  t->armed = true;
  timer_start(&t->timer, t->at);
}

static void fire(struct ration_timer *t, uint64_t now) {
  if (t->fn) {
    t->active = ration_go(t->fn, t->arg) != 0;
    if (t->active) t->at = now + TRY_AGAIN_NS;
    return;
  }
  ration_ns time = (ration_ns)now;
  (void)ration_chan_try_send(t->chan, &time);
  t->active = t->period != 0;
  if (t->active) t->at += t->period * (1 + (now - t->at) / t->period);
}

static void due(struct timer *core) {
  struct ration_timer *t = core->arg;
  run_lock(&t->lock);
  t->armed = false;
  uint64_t now = sys_now();
  if (t->active && now >= t->at) fire(t, now);
  if (t->active) arm(t);
  bool orphan = t->orphan && !t->armed;
  run_unlock(&t->lock);
  if (orphan) later_push(&t->later);
}

/* Under the lock: nothing will come of what was.  True: something would have. */
static bool call_off(struct ration_timer *t) {
  bool was = t->active;
  t->active = false;
  if (t->armed && timer_stop(&t->timer)) t->armed = false;
  if (t->chan && ration_chan_try_recv(t->chan, NULL) == 0) was = true;
  return was;
}

static bool set(struct ration_timer *t, ration_ns d, uint64_t period) {
  uint64_t at = limit_after(d).until;
  run_lock(&t->lock);
  bool was = call_off(t);
  t->at = at;
  t->period = period;
  t->active = at != UINT64_MAX;
  if (t->active && !t->armed) arm(t); /* else the call that is under way does it */
  run_unlock(&t->lock);
  return was;
}

static struct ration_timer *make(size_t size, ration_ns d, ration_fn *fn, void *arg, uint64_t period) {
  later_run();
  if (ration_start() < 0) return NULL;
  struct ration_timer *t = calloc(1, size);
  if (!t) return NULL;
  if (!fn && !(t->chan = ration_chan_new(sizeof(ration_ns), 1))) {
    free(t);
    return NULL;
  }
  t->fn = fn;
  t->arg = arg;
  t->later.fn = destroy;
  t->timer.fn = due;
  t->timer.arg = t;
  (void)set(t, d, period);
  return t;
}

bool ration_timer_reset(struct ration_timer *t, ration_ns d) { return set(t, d, 0); }

bool ration_timer_stop(struct ration_timer *t) {
  run_lock(&t->lock);
  bool was = call_off(t);
  run_unlock(&t->lock);
  return was;
}

void ration_timer_free(struct ration_timer *t) {
  later_run();
  if (!t) return;
  run_lock(&t->lock);
  (void)call_off(t);
  bool ours = !t->armed;
  t->orphan = true;
  run_unlock(&t->lock);
  if (ours) destroy(&t->later);
}

struct ration_timer *ration_after_func(ration_ns d, ration_fn *fn, void *arg) {
  if (!fn) g_fatal("after_func of nil func value");
  return make(sizeof(struct ration_timer), d, fn, arg, 0);
}

struct ration_timer *ration_timer_new(ration_ns d) {
  return make(sizeof(struct ration_timer), d, NULL, NULL, 0);
}
struct ration_chan *ration_timer_chan(struct ration_timer *t) {
  return t->chan;
}

struct ration_chan *ration_after(ration_ns d) {
  struct ration_timer *t = make(sizeof *t, RATION_FOREVER, NULL, NULL, 0);
  if (!t) return NULL;
  struct ration_chan *c = ration_chan_ref(t->chan);
  t->orphan = true;
  if (d == RATION_FOREVER)
    destroy(&t->later);
  else
    (void)set(t, d, 0); /* the last touch */
  return c;
}

struct ration_ticker *ration_ticker_new(ration_ns d) {
  if (d <= 0) {
    errno = EINVAL;
    return NULL;
  }
  return (struct ration_ticker *)make(sizeof(struct ration_ticker), d, NULL, NULL, (uint64_t)d);
}
struct ration_chan *ration_ticker_chan(struct ration_ticker *t) {
  return t->t.chan;
}
void ration_ticker_stop(struct ration_ticker *t) { (void)ration_timer_stop(&t->t); }
int ration_ticker_reset(struct ration_ticker *t, ration_ns d) {
  if (d <= 0) return -EINVAL;
  (void)set(&t->t, d, (uint64_t)d);
  return 0;
}
void ration_ticker_free(struct ration_ticker *t) { ration_timer_free((struct ration_timer *)t); }
