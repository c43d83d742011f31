/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts, groups, timers and tickers: what Go's packages context and time, and x/sync/errgroup, promise.
 */
#include "core/light.h"
#include "ration/group.h"
#include "ration/timer.h"
#include "sync/task.h"
#include "sync_rig.h"

typedef struct ration_context ctx_t;
static _Atomic int started, ended, errors, stop;

static bool closed(struct ration_chan *c) { return ration_chan_try_recv(c, NULL) == -EPIPE; }
static bool goes_on(ctx_t *c) {
  return ration_context_err(c) == 0 && ration_context_cause(c) == 0 && ration_chan_try_recv(ration_context_done(c), NULL) == -EAGAIN;
}
static bool has_ended(ctx_t *c, int err) { return ration_context_err(c) == err && closed(ration_context_done(c)); }

/* --- contexts --- */

START_TEST(background_never_ends) {
  ctx_t *b = ration_context_background();
  ration_context_cancel(b);
  ration_context_unref(ration_context_ref(b));
  ration_context_cancel(NULL);
  ration_context_unref(NULL);
  ration_ns at;
  ck_assert_int_eq(ration_context_err(b), 0);
  ck_assert_int_eq(ration_context_err(NULL), 0);
  ck_assert_ptr_null(ration_context_done(b));
  ck_assert_ptr_null(ration_context_done(NULL));
  ck_assert(!ration_context_deadline(b, &at));
  ck_assert_ptr_null(ration_context_value(b, &at));
  ck_assert_ptr_null(ration_context_value(NULL, &at));
}
END_TEST

START_TEST(cancel_ends_all_below_and_none_above) {
  ctx_t *a = ration_context_with_cancel(NULL), *b = ration_context_with_cancel(a), *c = ration_context_with_cancel(b);
  ctx_t *v = ration_context_with_value(b, &started, &ended), *d = ration_context_with_cancel(v), *side = ration_context_with_cancel(a);
  ck_assert(goes_on(a) && goes_on(c) && goes_on(v) && goes_on(d));
  ration_context_cancel(v); /* has no end of its own */
  ck_assert(goes_on(b) && goes_on(v));
  ration_context_cancel(b);
  ck_assert(has_ended(b, -ECANCELED) && has_ended(c, -ECANCELED) && has_ended(v, -ECANCELED) && has_ended(d, -ECANCELED));
  ck_assert(goes_on(a) && goes_on(side));
  ration_context_cancel(b);
  ctx_t *late = ration_context_with_cancel(d);
  ck_assert(has_ended(late, -ECANCELED));
  ctx_t *all[] = {a, b, c, v, d, side, late};
  for (unsigned i = 0; i < 7; i++) ration_context_unref(all[i]);
}
END_TEST

START_TEST(children_keep_their_parents) {
  ctx_t *a = ration_context_with_cancel(NULL), *b = ration_context_with_value(a, &started, &ended), *c = ration_context_with_cancel(b);
  ration_context_unref(b);
  ck_assert_ptr_eq(ration_context_value(c, &started), &ended);
  ration_context_cancel(a);
  ck_assert(has_ended(c, -ECANCELED));
  ration_context_unref(a);
  ck_assert(has_ended(c, -ECANCELED));
  ration_context_unref(c);
  /* A child that goes first leaves nothing behind. */
  a = ration_context_with_cancel(NULL);
  ration_context_unref(ration_context_with_cancel(a));
  ration_context_cancel(a);
  ration_context_unref(a);
}
END_TEST

START_TEST(nearest_value_counts) {
  static int key, other, x, y, z;
  ctx_t *a = ration_context_with_value(NULL, &key, &x), *b = ration_context_with_value(a, &other, &y);
  ctx_t *c = ration_context_with_value(b, &key, &z);
  ck_assert_ptr_eq(ration_context_value(b, &key), &x);
  ck_assert_ptr_eq(ration_context_value(c, &key), &z);
  ck_assert_ptr_eq(ration_context_value(c, &other), &y);
  ck_assert_ptr_null(ration_context_value(c, &x));
  ck_assert_ptr_null(ration_context_with_value(c, NULL, &x));
  ck_assert_ptr_null(ration_context_done(c));
  ration_context_unref(a);
  ration_context_unref(b);
  ration_context_unref(c);
}
END_TEST

/* It goes on before its deadline; on a slow machine we may come to look after that. */
static bool goes_on_until(ctx_t *c, ration_ns at) { return goes_on(c) || ration_now() >= at; }

START_TEST(deadline_ends_it_and_all_below) {
  ck_assert_int_eq(ration_start(), 0); /* which takes as long as the deadline, in an emulator */
  ration_ns before = ration_now(), at;
  ctx_t *a = ration_context_with_timeout(NULL, 100 * RATION_MS), *b = ration_context_with_timeout(a, 10 * RATION_SECOND);
  ctx_t *c = ration_context_with_cancel(b);
  ck_assert(ration_context_deadline(c, &at)); /* that of a */
  ck_assert(goes_on_until(a, at) && goes_on_until(c, at));
  ck_assert_int_ge(at, before + 100 * RATION_MS);
  ck_assert_int_lt(at, before + 10 * RATION_SECOND);
  ck_assert(!ration_chan_recv(ration_context_done(c), NULL));
  ck_assert_int_ge(ration_now(), at);
  ck_assert(has_ended(c, -ETIMEDOUT));
  ck_assert(has_ended(a, -ETIMEDOUT) && has_ended(b, -ETIMEDOUT));
  ration_context_cancel(a);
  ck_assert(has_ended(a, -ETIMEDOUT));
  ration_context_unref(c);
  ration_context_unref(b);
  ration_context_unref(a);
}
END_TEST

START_TEST(cancel_comes_before_the_deadline) {
  ration_ns at;
  ctx_t *a;
  bool before = false;
  for (int i = 0; i < 20 && !before; i++) { /* a slow machine may come too late */
    a = ration_context_with_timeout(NULL, 100 * RATION_MS);
    ck_assert(ration_context_deadline(a, &at));
    ration_context_cancel(a);
    before = ration_now() < at;
    ration_sleep(110 * RATION_MS);
    ck_assert(has_ended(a, -ECANCELED) || (!before && has_ended(a, -ETIMEDOUT)));
    ration_context_unref(a);
  }
  ck_assert(before);
  a = ration_context_with_timeout(NULL, RATION_SECOND * 100);
  ration_context_unref(a);
}
END_TEST

START_TEST(deadlines_of_the_past_have_ended) {
  ctx_t *c[] = {ration_context_with_timeout(NULL, 0), ration_context_with_timeout(NULL, -RATION_SECOND),
                ration_context_with_timeout(NULL, INT64_MIN), ration_context_with_deadline(NULL, ration_now()),
                ration_context_with_deadline(NULL, -5)};
  for (unsigned i = 0; i < 5; i++) {
    ck_assert(has_ended(c[i], -ETIMEDOUT));
    ration_context_unref(c[i]);
  }
  ration_ns at;
  for (int i = 0; i < 100; i++) { /* also below one whose timer nobody has seen to yet */
    ctx_t *parent = ration_context_with_timeout(NULL, 100 * RATION_US);
    ck_assert(ration_context_deadline(parent, &at));
    while (ration_now() <= at) continue;
    ctx_t *below = ration_context_with_timeout(parent, 0), *later = ration_context_with_timeout(parent, RATION_SECOND);
    ck_assert(has_ended(below, -ETIMEDOUT));
    bool first = ration_context_err(later) && !ration_context_err(parent);
    ck_assert(!first); /* that one ends with its parent */
    ration_context_unref(later);
    ration_context_unref(below);
    ration_context_unref(parent);
  }
  ctx_t *never = ration_context_with_timeout(NULL, RATION_FOREVER);
  ck_assert(goes_on(never) && !ration_context_deadline(never, &at));
  ration_context_unref(never);
}
END_TEST

START_TEST(cause_goes_down_the_tree) {
  ctx_t *a = ration_context_with_cancel(NULL), *b = ration_context_with_cancel(a);
  ration_context_cancel_cause(a, 42);
  ctx_t *c = ration_context_with_timeout(b, RATION_SECOND);
  ck_assert_int_eq(ration_context_err(c), -ECANCELED);
  ck_assert_int_eq(ration_context_cause(a), 42);
  ck_assert_int_eq(ration_context_cause(b), 42);
  ck_assert_int_eq(ration_context_cause(c), 42);
  ration_context_unref(a);
  ration_context_unref(b);
  ration_context_unref(c);
}
END_TEST

START_TEST(without_cancel_keeps_values_only) {
  ctx_t *a = ration_context_with_timeout(NULL, RATION_SECOND), *v = ration_context_with_value(a, &started, &ended);
  ctx_t *w = ration_context_without_cancel(v), *c = ration_context_with_cancel(w);
  ration_context_cancel(a);
  ck_assert_int_eq(ration_context_err(w), 0);
  ck_assert(goes_on(c));
  ck_assert(!ration_context_deadline(c, NULL));
  ck_assert_ptr_eq(ration_context_value(c, &started), &ended);
  ration_context_unref(c);
  ration_context_unref(w);
  ration_context_unref(v);
  ration_context_unref(a);
}
END_TEST

#define DEEP 20000
START_TEST(deep_trees_end_on_small_stacks) {
  ctx_t *root = ration_context_with_timeout(NULL, 50 * RATION_MS), *c = root;
  for (int i = 0; i < DEEP; i++) {
    ctx_t *below = ration_context_with_cancel(c);
    if (c != root) ration_context_unref(c);
    c = below;
  }
  ck_assert_int_eq(ration_context_wait(c), -ETIMEDOUT);
  ration_context_unref(c);
  ration_context_unref(root);
}
END_TEST

static void wait_for_end(void *c) {
  atomic_fetch_add(&started, 1);
  if (ration_context_wait(c) != -ECANCELED) atomic_fetch_add(&errors, 1);
}
static void recv_end(void *c) {
  struct ration_chan *other = ration_chan_new(0, 0);
  struct ration_case cases[] = {ration_case_recv(other, NULL), ration_case_recv(ration_context_done(c), NULL)};
  atomic_fetch_add(&started, 1);
  if (ration_select(cases, 2, RATION_FOREVER) != 1) atomic_fetch_add(&errors, 1);
  ration_chan_unref(other);
}

START_TEST(end_wakes_all_who_wait) {
  ctx_t *a = ration_context_with_cancel(NULL), *b = ration_context_with_cancel(a);
  go_mixed(8, wait_for_end, b);
  go_mixed(8, recv_end, b);
  EVENTUALLY(atomic_load(&started) == 16);
  ration_sleep(RATION_MS);
  ration_context_cancel(a);
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), 0);
  ration_context_unref(b);
  ration_context_unref(a);
}
END_TEST

START_TEST(sleep_ends_with_the_context) {
  ck_assert_int_eq(ration_start(), 0);
  ration_ns at;
  ctx_t *a = ration_context_with_timeout(NULL, 300 * RATION_MS);
  ck_assert(ration_context_deadline(a, &at));
  ck_assert(ration_context_sleep(a, RATION_MS) == 0 || ration_now() >= at);
  ck_assert_int_eq(ration_context_sleep(a, 10 * RATION_SECOND), -ETIMEDOUT);
  ck_assert_int_eq(ration_context_sleep(a, RATION_MS), -ETIMEDOUT);
  ck_assert_int_eq(ration_context_sleep(NULL, RATION_MS), 0);
  ration_context_unref(a);
}
END_TEST

/* Ends, children, waits and last references, all at once. */
static void make_and_drop(void *root) {
  for (int i = 0; i < 150; i++) {
    ctx_t *a = i % 3 ? ration_context_with_cancel(root) : ration_context_with_timeout(root, (i % 7) * 20 * RATION_US);
    ctx_t *b = ration_context_with_cancel(a), *c = ration_context_with_timeout(b, (i % 5) * 30 * RATION_US);
    if (i % 4 == 0) ration_context_unref(a);
    if (i % 2) ration_context_sleep(c, (i % 6) * 15 * RATION_US);
    if (i % 4 == 1) ration_context_cancel(a);
    ration_context_unref(c);
    if (i % 4) ration_context_unref(a);
    ration_context_cancel(b);
    ration_context_unref(b);
  }
}
static void end_again_and_again(void *arg) {
  while (!atomic_load(&stop)) {
    ctx_t *root = ration_context_with_cancel(arg);
    struct ration_waitgroup wg = RATION_WAITGROUP_INIT;
    if (ration_waitgroup_go(&wg, make_and_drop, root)) atomic_fetch_add(&errors, 1);
    ration_sleep(300 * RATION_US);
    ration_context_cancel(root);
    ration_waitgroup_wait(&wg);
    ration_context_unref(root);
  }
}

START_TEST(ends_and_last_references_race) {
  ctx_t *root = ration_context_with_cancel(NULL);
  go_mixed(6, end_again_and_again, root);
  go_mixed(6, make_and_drop, root);
  ration_sleep(300 * RATION_MS);
  ration_context_cancel(root);
  atomic_store(&stop, 1);
  wait_all();
  ration_context_unref(root);
  ck_assert_int_eq(atomic_load(&errors), 0);
}
END_TEST

/* Whoever sees the error finds the channel closed; the more there is to end below, the longer the time in between. */
#define BELOW 100
static ctx_t *_Atomic looked_at, *_Atomic looks_at;
static void *looks(void *arg) {
  ctx_t *c;
  while ((c = atomic_load(&looked_at)) != arg) {
    if (!c) {
      sched_yield();
      continue;
    }
    atomic_store(&looks_at, c);
    while (!ration_context_err(c)) continue;
    if (!closed(ration_context_done(c))) atomic_fetch_add(&errors, 1);
    atomic_store(&looked_at, NULL);
  }
  return NULL;
}
static void make_below(ctx_t *c, ctx_t *below[BELOW]) {
  for (int i = 0; i < BELOW; i++) below[i] = ration_context_with_cancel(c);
}
static void drop_below(ctx_t *below[BELOW]) {
  for (int i = 0; i < BELOW; i++) ration_context_unref(below[i]);
}

START_TEST(error_and_channel_come_together) {
  ctx_t *below[BELOW];
  pthread_t t;
  pthread_create(&t, NULL, looks, ration_context_background());
  for (int i = 0; i < 1000; i++) {
    ctx_t *c = ration_context_with_cancel(NULL);
    make_below(c, below);
    atomic_store(&looks_at, NULL);
    atomic_store(&looked_at, c);
    while (!atomic_load(&looks_at)) sched_yield();
    ration_context_cancel(c);
    while (atomic_load(&looked_at)) sched_yield();
    drop_below(below);
    ration_context_unref(c);
  }
  atomic_store(&looked_at, ration_context_background());
  pthread_join(t, NULL);
  ck_assert_int_eq(atomic_load(&errors), 0);
}
END_TEST

/* The end of all below is there when cancel returns, also if somebody else has begun it, further up. */
static ctx_t *_Atomic to_cancel;
static void *cancels(void *arg) {
  for (ctx_t *c; (c = atomic_load(&to_cancel)) != arg;) {
    if (!c) {
      sched_yield();
      continue;
    }
    ration_context_cancel(c);
    atomic_store(&to_cancel, NULL);
  }
  return NULL;
}

START_TEST(cancel_waits_for_one_above) {
  ctx_t *below[BELOW];
  pthread_t t;
  pthread_create(&t, NULL, cancels, ration_context_background());
  for (int i = 0; i < 500; i++) {
    ctx_t *root = ration_context_with_cancel(NULL), *c = ration_context_with_cancel(root);
    make_below(c, below);
    atomic_store(&to_cancel, root);
    while (!ration_context_err(c)) continue;
    ration_context_cancel(c);
    for (int k = 0; k < BELOW; k++) atomic_fetch_add(&errors, ration_context_err(below[k]) == 0);
    while (atomic_load(&to_cancel)) sched_yield();
    drop_below(below);
    ration_context_unref(c);
    ration_context_unref(root);
  }
  atomic_store(&to_cancel, ration_context_background());
  pthread_join(t, NULL);
  ck_assert_int_eq(atomic_load(&errors), 0);
}
END_TEST

/* --- groups --- */

static int say(void *arg) {
  atomic_fetch_add(&ended, 1);
  return (int)(intptr_t)arg;
}

START_TEST(group_waits_for_all) {
  struct ration_group *grp = ration_group_new(NULL);
  ck_assert_int_eq(ration_group_wait(grp), 0);
  ration_group_free(grp);
  grp = ration_group_new(NULL);
  for (int i = 0; i < 50; i++) ck_assert_int_eq(ration_group_go(grp, say, NULL), 0);
  ck_assert_int_eq(ration_group_wait(grp), 0);
  ck_assert_int_eq(atomic_load(&ended), 50);
  ck_assert_int_eq(ration_context_err(ration_group_context(grp)), -ECANCELED);
  ration_group_free(grp);
}
END_TEST

static int wait_group_end(void *grp) {
  int r = ration_context_wait(ration_group_context(grp));
  return r ? -EIO : 0;
}

START_TEST(first_error_ends_the_group) {
  struct ration_group *grp = ration_group_new(NULL);
  for (int i = 0; i < 10; i++) ck_assert_int_eq(ration_group_go(grp, wait_group_end, grp), 0);
  ck_assert_int_eq(ration_group_go(grp, say, (void *)7), 0);
  ck_assert_int_eq(ration_group_wait(grp), 7);
  ck_assert_int_eq(ration_context_cause(ration_group_context(grp)), 7);
  ration_group_free(grp);
}
END_TEST

static int stay_within(void *arg) {
  int n = atomic_fetch_add(&started, 1) + 1;
  if (n > (int)(intptr_t)arg) atomic_fetch_add(&errors, 1);
  ration_sleep(100 * RATION_US);
  atomic_fetch_sub(&started, 1);
  return 0;
}
static int wait_stop(void *arg) {
  (void)arg;
  while (!atomic_load(&stop)) ration_sleep(100 * RATION_US);
  return 0;
}

START_TEST(limit_holds) {
  struct ration_group *grp = ration_group_new(NULL);
  ck_assert_int_eq(ration_group_set_limit(grp, 3), 0);
  for (int i = 0; i < 60; i++) ck_assert_int_eq(ration_group_go(grp, stay_within, (void *)3), 0);
  ck_assert_int_eq(ration_group_wait(grp), 0);
  ck_assert_int_eq(atomic_load(&errors), 0);
  for (int i = 0; i < 3; i++) ck_assert_int_eq(ration_group_try_go(grp, wait_stop, NULL), 0);
  ck_assert_int_eq(ration_group_try_go(grp, wait_stop, NULL), -EBUSY);
  ck_assert_int_eq(ration_group_set_limit(grp, 5), -EBUSY);
  atomic_store(&stop, 1);
  ck_assert_int_eq(ration_group_wait(grp), 0);
  ck_assert_int_eq(ration_group_set_limit(grp, 0), 0);
  ck_assert_int_eq(ration_group_go(grp, say, NULL), -EBUSY);
  ck_assert_int_eq(ration_group_try_go(grp, say, NULL), -EBUSY);
  ck_assert_int_eq(ration_group_set_limit(grp, -1), 0);
  ck_assert_int_eq(ration_group_try_go(grp, say, NULL), 0);
  ration_group_free(grp);
}
END_TEST

static int exits(void *arg) {
  (void)arg;
  sync_g_exits(g_self()); /* what ration_exit does */
  ration_exit();
}
static void exits_too(void *arg) { exits(arg); }

START_TEST(exit_counts_as_an_end) {
  struct ration_group *grp = ration_group_new(NULL);
  ration_group_set_limit(grp, 1);
  for (int i = 0; i < 5; i++) ck_assert_int_eq(ration_group_go(grp, exits, NULL), 0);
  ck_assert_int_eq(ration_group_wait(grp), 0);
  ration_group_free(grp);
  struct ration_waitgroup wg = RATION_WAITGROUP_INIT;
  ck_assert_int_eq(ration_waitgroup_go(&wg, exits_too, NULL), 0);
  ck_assert_int_eq(ration_waitgroup_wait_timeout(&wg, 5 * RATION_SECOND), 0);
}
END_TEST

START_TEST(group_ends_with_its_parent) {
  ctx_t *a = ration_context_with_cancel(NULL);
  struct ration_group *grp = ration_group_new(a);
  ck_assert_int_eq(ration_group_go(grp, wait_group_end, grp), 0);
  ration_context_cancel(a);
  ck_assert_int_eq(ration_group_wait(grp), -EIO);
  ration_group_free(grp);
  ration_context_unref(a);
}
END_TEST

/* --- timers --- */

static void count(void *arg) { atomic_fetch_add((_Atomic int *)arg, 1); }

START_TEST(after_func_runs_once_in_a_g) {
  struct ration_timer *t = ration_after_func(2 * RATION_MS, count, &ended);
  ck_assert_ptr_null(ration_timer_chan(t));
  EVENTUALLY(atomic_load(&ended) == 1);
  ck_assert(!ration_timer_stop(t));
  ck_assert(!ration_timer_reset(t, RATION_MS));
  EVENTUALLY(atomic_load(&ended) == 2);
  ration_timer_reset(t, 100 * RATION_SECOND);
  ck_assert(ration_timer_stop(t));
  ck_assert(!ration_timer_stop(t));
  ration_timer_free(t);
  ration_timer_free(ration_after_func(0, count, &ended)); /* may or may not run */
  ration_timer_free(NULL);
}
END_TEST

START_TEST(timer_sends_the_time) {
  ration_ns before = ration_now(), at = 0;
  struct ration_timer *t = ration_timer_new(2 * RATION_MS);
  ck_assert(ration_chan_recv(ration_timer_chan(t), &at));
  ck_assert_int_ge(at, before + 2 * RATION_MS);
  ck_assert_int_le(at, ration_now());
  ck_assert(!ration_timer_stop(t));
  ration_timer_free(t);
}
END_TEST

/* Go 1.23: nothing of before is received after stop or reset. */
START_TEST(no_stale_time_after_stop_or_reset) {
  struct ration_timer *t = ration_timer_new(0);
  EVENTUALLY(ration_chan_len(ration_timer_chan(t)) == 1);
  ck_assert(ration_timer_stop(t)); /* it was not received, and won't be */
  ck_assert_int_eq(ration_chan_try_recv(ration_timer_chan(t), NULL), -EAGAIN);
  ck_assert(!ration_timer_reset(t, 0));
  EVENTUALLY(ration_chan_len(ration_timer_chan(t)) == 1);
  ration_ns before = ration_now(), at;
  ck_assert(ration_timer_reset(t, 2 * RATION_MS));
  ck_assert(ration_chan_recv(ration_timer_chan(t), &at));
  ck_assert_int_ge(at, before + 2 * RATION_MS);
  ration_timer_free(t);
}
END_TEST

START_TEST(ticker_ticks_and_drops_what_nobody_takes) {
  ck_assert_ptr_null(ration_ticker_new(0));
  ration_ns last = ration_now(), at;
  struct ration_ticker *t = ration_ticker_new(RATION_MS);
  for (int i = 0; i < 5; i++) {
    ck_assert(ration_chan_recv(ration_ticker_chan(t), &at));
    ck_assert_int_gt(at, last);
    last = at;
  }
  ration_sleep(10 * RATION_MS);
  EVENTUALLY(ration_chan_len(ration_ticker_chan(t)) == 1);
  ration_ticker_stop(t);
  ck_assert_int_eq(ration_chan_len(ration_ticker_chan(t)), 0);
  ration_sleep(3 * RATION_MS);
  ck_assert_int_eq(ration_chan_len(ration_ticker_chan(t)), 0);
  ck_assert_int_eq(ration_ticker_reset(t, 0), -EINVAL);
  ck_assert_int_eq(ration_ticker_reset(t, 2 * RATION_MS), 0);
  ck_assert(ration_chan_recv(ration_ticker_chan(t), &at));
  ck_assert(ration_chan_recv(ration_ticker_chan(t), &at));
  ration_ticker_free(t);
}
END_TEST

START_TEST(after_needs_no_one_to_stop_it) {
  ration_ns at, before = ration_now();
  struct ration_chan *c = ration_after(2 * RATION_MS);
  ck_assert(ration_chan_recv(c, &at));
  ck_assert_int_ge(at, before + 2 * RATION_MS);
  ration_chan_unref(c);
  for (int i = 0; i < 100; i++) ration_chan_unref(ration_after(i * 20 * RATION_US));
  ration_chan_unref(ration_after(RATION_FOREVER));
  ration_sleep(5 * RATION_MS);
  ration_chan_unref(ration_after(0));
}
END_TEST

static void timers_at_random(void *arg) {
  (void)arg;
  for (int i = 0; i < 200; i++) {
    struct ration_timer *t =
        i % 2 ? ration_timer_new((i % 9) * 10 * RATION_US) : ration_after_func((i % 9) * 10 * RATION_US, count, &started);
    for (int k = 0; k < i % 4; k++) {
      ration_timer_reset(t, ((i + k) % 5) * 15 * RATION_US);
      if (k % 2) ration_timer_stop(t);
      if (i % 3 == 0) ration_sleep(20 * RATION_US);
    }
    ration_timer_free(t);
  }
}
static struct ration_timer *shared;
static void reset_shared(void *arg) {
  (void)arg;
  for (int i = 0; i < 300; i++) {
    if (i % 3)
      ration_timer_reset(shared, (i % 4) * 10 * RATION_US);
    else
      ration_timer_stop(shared);
    if (i % 5 == 0) ration_sleep(15 * RATION_US);
  }
}

START_TEST(stop_reset_and_free_race_with_the_time) {
  shared = ration_timer_new(0);
  go_mixed(8, timers_at_random, NULL);
  go_mixed(4, reset_shared, NULL);
  wait_all();
  ration_timer_reset(shared, RATION_MS);
  ck_assert(ration_chan_recv(ration_timer_chan(shared), NULL));
  ration_timer_free(shared);
}
END_TEST

UNIT_MAIN("context", background_never_ends, cancel_ends_all_below_and_none_above, children_keep_their_parents, nearest_value_counts,
          deadline_ends_it_and_all_below, cancel_comes_before_the_deadline, deadlines_of_the_past_have_ended, cause_goes_down_the_tree,
          without_cancel_keeps_values_only, deep_trees_end_on_small_stacks, end_wakes_all_who_wait, sleep_ends_with_the_context,
          ends_and_last_references_race, error_and_channel_come_together, cancel_waits_for_one_above, group_waits_for_all,
          first_error_ends_the_group, limit_holds, exit_counts_as_an_end, group_ends_with_its_parent, after_func_runs_once_in_a_g,
          timer_sends_the_time, no_stale_time_after_stop_or_reset, ticker_ticks_and_drops_what_nobody_takes, after_needs_no_one_to_stop_it,
          stop_reset_and_free_race_with_the_time)
