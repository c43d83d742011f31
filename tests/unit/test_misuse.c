/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bad arguments: what Go does, or where C has a better way (an error instead of a panic), what the headers say.  Misuse of one kind of
 * object alone is tested with it: closed channels in test_chan.c, unlocked locks in test_sync.c.  Waits that nobody can end: tests/integration/deadlock.c.
 */
#include "ration/chan.h"
#include "ration/group.h"
#include "ration/map.h"
#include "ration/objpool.h"
#include "ration/timer.h"
#include "ration/workers.h"
#include "sync_rig.h"

static void nothing(void *arg) { (void)arg; }

/* --- functions that are none --- */

static struct ration_waitgroup wg;
static struct ration_mutex mu;
static struct ration_once once;
static struct ration_sema sema = RATION_SEMA_INIT(1);

static void go_nil(void) { ration_go(NULL, NULL); }
static void go_attr_nil(void) { ration_go_attr(NULL, NULL, NULL); }
static void waitgroup_go_nil(void) { ration_waitgroup_go(&wg, NULL, NULL); }
static void group_go_nil(void) { ration_group_go(ration_group_new(NULL), NULL, NULL); }
static void group_try_go_nil(void) { ration_group_try_go(ration_group_new(NULL), NULL, NULL); }
static void submit_nil(void) { ration_workers_submit(ration_workers_new(NULL), NULL, NULL); }
static void run_nil(void) { ration_workers_run(ration_workers_new(NULL), NULL, NULL); }
static void once_nil(void) { ration_once_do(&once, NULL, NULL); }
static void after_func_nil(void) { ration_after_func(0, NULL, NULL); }

START_TEST(nil_function_is_fatal) {
  ends_the_program(go_nil, "go of nil func value");
  ends_the_program(go_attr_nil, "go of nil func value");
  ends_the_program(waitgroup_go_nil, "go of nil func value");
  ends_the_program(group_go_nil, "go of nil func value");
  ends_the_program(group_try_go_nil, "go of nil func value");
  ends_the_program(submit_nil, "submit of nil func value");
  ends_the_program(run_nil, "submit of nil func value");
  ends_the_program(once_nil, "once of nil func value");
  ends_the_program(after_func_nil, "after_func of nil func value");
}
END_TEST

static void unlocks(void *arg) {
  (void)arg;
  ration_mutex_unlock(&mu);
}
static void named_unlocks(void) {
  ration_go_attr(unlocks, NULL, &(struct ration_attr){.name = "culprit"});
  ration_sleep(10 * RATION_SECOND);
}

START_TEST(fatal_misuse_names_its_g) {
  ends_the_program(named_unlocks, "unlock of unlocked mutex");
  ends_the_program(named_unlocks, "\"culprit\"");
}
END_TEST

/* --- numbers out of range --- */

START_TEST(semaphore_refuses_what_it_can_never_give) {
  struct ration_sema s;
  ck_assert_int_eq(ration_sema_init(&s, -1), -EINVAL);
  ck_assert_int_eq(ration_sema_init(&s, 2), 0);
  ck_assert_int_eq(ration_sema_acquire(&s, -1), -EINVAL);
  ck_assert_int_eq(ration_sema_acquire_timeout(&s, -1, RATION_SECOND), -EINVAL);
  ck_assert_int_eq(ration_sema_acquire_ctx(&s, -1, NULL), -EINVAL);
  ck_assert_int_eq(ration_sema_tryacquire(&s, -1), -EINVAL);
  ck_assert_int_eq(ration_sema_acquire(&s, 3), -E2BIG);
  ck_assert_int_eq(ration_sema_acquire_timeout(&s, INT64_MAX, RATION_SECOND), -E2BIG);
  ck_assert_int_eq(ration_sema_tryacquire(&s, 3), -EAGAIN);
  ck_assert_int_eq(ration_sema_acquire(&s, 2), 0); /* all of it is still there */
}
END_TEST

static void release_negative(void) { ration_sema_release(&sema, -1); }
static void add_least(void) { ration_waitgroup_add(&wg, INT32_MIN); }
static void add_below(void) { ration_waitgroup_add(&wg, -1); }

START_TEST(negative_count_is_fatal) {
  ends_the_program(release_negative, "semaphore: released more than held");
  ends_the_program(add_least, "negative WaitGroup counter");
  ends_the_program(add_below, "negative WaitGroup counter");
}
END_TEST

START_TEST(negative_times_are_over) {
  struct ration_chan *c = ration_chan_new(0, 0), *after = ration_after(INT64_MIN);
  struct ration_timer *t = ration_timer_new(-RATION_SECOND);
  ration_waitgroup_add(&wg, 1);
  ration_mutex_lock(&mu);
  ration_sleep(INT64_MIN);
  ck_assert(ration_chan_recv(after, NULL));
  ck_assert(ration_chan_recv(ration_timer_chan(t), NULL));
  (void)ration_timer_reset(t, INT64_MIN);
  ck_assert(ration_chan_recv(ration_timer_chan(t), NULL));
  ck_assert_int_eq(ration_chan_recv_timeout(c, NULL, INT64_MIN), -ETIMEDOUT);
  ck_assert_int_eq(ration_waitgroup_wait_timeout(&wg, INT64_MIN), -ETIMEDOUT);
  ck_assert_int_eq(ration_mutex_lock_timeout(&mu, INT64_MIN), -ETIMEDOUT);
  struct ration_context *ctx = ration_context_with_timeout(NULL, INT64_MIN);
  ck_assert_int_eq(ration_context_err(ctx), -ETIMEDOUT);
  ration_context_unref(ctx);
  ration_timer_free(t);
  ration_chan_unref(after);
  ration_chan_unref(c);
}
END_TEST

/* Go panics; here it is an error. */
START_TEST(ticker_refuses_what_is_no_interval) {
  const ration_ns bad[] = {0, -1, INT64_MIN};
  struct ration_ticker *t = ration_ticker_new(RATION_SECOND);
  for (int i = 0; i < 3; i++) {
    errno = 0;
    ck_assert_ptr_null(ration_ticker_new(bad[i]));
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_int_eq(ration_ticker_reset(t, bad[i]), -EINVAL);
  }
  ration_ticker_free(t);
}
END_TEST

START_TEST(stack_of_no_sensible_size_is_refused) {
  const size_t bad[] = {1, 16383, ((size_t)1 << 30) + 1, SIZE_MAX, SIZE_MAX - 4095};
  for (int i = 0; i < 5; i++) ck_assert_int_eq(ration_go_attr(nothing, NULL, &(struct ration_attr){.stack = bad[i]}), -EINVAL);
  ck_assert_int_eq(ration_go_attr(nothing, NULL, &(struct ration_attr){.stack = 16384}), 0);
}
END_TEST

/* --- no memory --- */

static _Atomic long ran;
static void parks(void *c) {
  ration_chan_recv(c, NULL);
  ran++;
}

START_TEST(no_memory_for_a_stack_is_said) {
#if defined(__aarch64__) || defined(RATION_SAN_address) || defined(RATION_SAN_thread)
  return; /* qemu-user does not keep the limit; and they need more address space than we can take away */
#endif
  struct ration_chan *c = ration_chan_new(0, 0);
  ck_assert_int_eq(ration_go(parks, c), 0); /* there is a slab */
  ration_sleep(RATION_MS);
  ck_assert_int_eq(setrlimit(RLIMIT_AS, &(struct rlimit){1, 1}), 0);
  ck_assert_int_eq(ration_go_attr(parks, c, &(struct ration_attr){.stack = 1 << 20}), -EAGAIN);
  long n = 1;
  int r;
  while ((r = ration_go(parks, c)) == 0) ck_assert_int_lt(++n, 2000);
  ck_assert_int_eq(r, -EAGAIN);
  ck_assert_int_gt(n, 1000); /* all of the slab */
  ration_chan_close(c);
  EVENTUALLY(ran == n);
  ck_assert_int_eq(ration_go(nothing, NULL), 0); /* their stacks are free again */
}
END_TEST

/* --- null where that has a meaning --- */

START_TEST(null_is_nothing) {
  ration_chan_unref(NULL);
  ck_assert_ptr_null(ration_chan_ref(NULL));
  ration_timer_free(NULL);
  ration_ticker_free(NULL);
  ration_workers_free(NULL);
  ration_group_free(NULL);
  ration_map_free(NULL);
  ration_objpool_free(NULL);
  ration_context_unref(NULL);
}
END_TEST

/* Go panics for a nil parent; here null is the background everywhere. */
START_TEST(null_context_is_the_background) {
  static const int key;
  int v = 1;
  ration_context_cancel(NULL);
  ck_assert_int_eq(ration_context_err(NULL), 0);
  ck_assert_ptr_null(ration_context_done(NULL));
  ck_assert_ptr_null(ration_context_value(NULL, &key));
  ck_assert(!ration_context_deadline(NULL, NULL));
  ck_assert_ptr_null(ration_context_with_value(NULL, NULL, &v)); /* a key must be one: Go panics */
  struct ration_context *c = ration_context_with_value(NULL, &key, &v);
  ck_assert_ptr_eq(ration_context_value(c, &key), &v);
  ck_assert_int_eq(ration_context_err(c), 0);
  ration_context_unref(c);
  ck_assert_int_eq(ration_context_sleep(NULL, RATION_MS), 0);
}
END_TEST

UNIT_MAIN("misuse", nil_function_is_fatal, fatal_misuse_names_its_g, semaphore_refuses_what_it_can_never_give, negative_count_is_fatal,
          negative_times_are_over, ticker_refuses_what_is_no_interval, stack_of_no_sensible_size_is_refused, no_memory_for_a_stack_is_said,
          null_is_nothing, null_context_is_the_background)
