/* SPDX-License-Identifier: Apache-2.0 */
/* The threads of C11. */
#include <stdatomic.h>
#include <threads.h>
#include "checks.h"

static mtx_t lock;
static cnd_t cond;
static _Atomic int ended, ready;
static bool open;

static const char *res(int r) {
  return r == thrd_success    ? "success"
         : r == thrd_busy     ? "busy"
         : r == thrd_timedout ? "timedout"
         : r == thrd_error    ? "error"
         : r == thrd_nomem    ? "nomem"
                              : "?";
}
#define SAY_RES(what, call) say("%s: %s", what, res(call))

static thrd_t begin(thrd_start_t fn, void *arg) {
  thrd_t t;
  MUST(thrd_create(&t, fn, arg) == thrd_success);
  return t;
}
static int result_of(thrd_t t) {
  int r = -1;
  MUST(thrd_join(t, &r) == thrd_success);
  return r;
}

static int echo(void *arg) { return (int)(intptr_t)arg; }
static int exit_deep(void *arg) { thrd_exit((int)(intptr_t)arg + 1); }

static void create_and_join(void) {
  static const int values[] = {0, 1, -1, 2147483647, -2147483647 - 1};
  for (int i = 0; i < 5; i++)
    say("%d %d", result_of(begin(echo, (void *)(intptr_t)values[i])), result_of(begin(exit_deep, (void *)(intptr_t)i)));
  SAY_RES("no value wanted", thrd_join(begin(echo, NULL), NULL));
  long sum = 0;
  for (intptr_t i = 0; i < 500; i++) sum += result_of(begin(echo, (void *)i));
  say("sum %ld", sum);
}

static int wait_open(void *arg) {
  mtx_lock(&lock);
  ready++;
  while (!open) cnd_wait(&cond, &lock);
  mtx_unlock(&lock);
  ended++;
  return (int)(intptr_t)arg;
}
static void let_go(void) {
  mtx_lock(&lock);
  open = true;
  cnd_broadcast(&cond);
  mtx_unlock(&lock);
}
static void init_both(int type) {
  MUST(mtx_init(&lock, type) == thrd_success && cnd_init(&cond) == thrd_success);
  open = false;
  ready = 0;
}

static thrd_t seen;
static int see_self(void *arg) {
  seen = thrd_current();
  return pthread_equal((pthread_t)thrd_current(), pthread_self()) + (int)(intptr_t)arg;
}
static void equal_current(void) {
  init_both(mtx_plain);
  thrd_t t = begin(see_self, NULL);
  int same = result_of(t);
  say("same as pthread's %d, as created %d, as main %d", same != 0, thrd_equal(t, seen) != 0, thrd_equal(seen, thrd_current()) != 0);
}

static void detach(void) {
  init_both(mtx_plain);
  thrd_t t = begin(wait_open, NULL);
  SAY_RES("detach", thrd_detach(t));
  UNTIL(ready == 1);
  SAY_RES("join", thrd_join(t, NULL));
  let_go();
  UNTIL(ended == 1);
  for (int i = 0; i < 100; i++) MUST(thrd_detach(begin(wait_open, NULL)) == thrd_success);
  UNTIL(ended == 101);
  say("ended %d", ended);
}

static void sleeping(void) {
  struct timespec ts = {0, 20000000}, bad = {0, -1}, rest = {3, 3};
  int64_t since = now_ns();
  say("%d", thrd_sleep(&ts, &rest));
  say("at least 20 ms: %d, rest untouched %d", at_least_ms(since, 20), rest.tv_sec == 3);
  say("bad %d", thrd_sleep(&bad, NULL) < -1);
  thrd_yield();
}

static int try_lock(void *arg) { return mtx_trylock(arg); }
static void mutex_kinds(void) {
  static const int kinds[] = {mtx_plain, mtx_timed, mtx_plain | mtx_recursive, mtx_timed | mtx_recursive};
  for (int i = 0; i < 4; i++) {
    mtx_t m;
    int r = mtx_init(&m, kinds[i]);
    SAY_RES("init", r);
    if (r != thrd_success) continue;
    SAY_RES("lock", mtx_lock(&m));
    say("other's try %s", res(result_of(begin(try_lock, &m))));
    if (kinds[i] & mtx_recursive) {
      SAY_RES("again", mtx_lock(&m));
      SAY_RES("try", mtx_trylock(&m));
      SAY_RES("unlock", mtx_unlock(&m));
      SAY_RES("unlock", mtx_unlock(&m));
    } else {
      SAY_RES("try", mtx_trylock(&m));
    }
    if (kinds[i] & mtx_timed) {
      struct timespec past = {1, 0};
      if (!(kinds[i] & mtx_recursive)) SAY_RES("timed", mtx_timedlock(&m, &past));
    }
    SAY_RES("unlock", mtx_unlock(&m));
    say("other's try %s", res(result_of(begin(try_lock, &m))));
    if (kinds[i] == mtx_plain) mtx_destroy(&m);
  }
}

static long count;
static int count_up(void *arg) {
  struct timespec at = in_ms(CLOCK_REALTIME, 60000);
  for (int i = 0; i < 1500; i++) {
    if (i % 3 == 0) mtx_lock(&lock);
    if (i % 3 == 1) MUST(mtx_timedlock(&lock, &at) == thrd_success);
    if (i % 3 == 2)
      while (mtx_trylock(&lock) == thrd_busy) thrd_yield();
    long n = count;
    if (i % 100 == 0) thrd_yield();
    count = n + 1;
    mtx_unlock(&lock);
  }
  (void)arg;
  return 0;
}
static void mutex_counts(void) {
  thrd_t t[4];
  init_both(mtx_timed);
  for (int i = 0; i < 4; i++) t[i] = begin(count_up, NULL);
  for (int i = 0; i < 4; i++) result_of(t[i]);
  say("count %ld", count);
}

static int tokens;
static int take_token(void *arg) {
  mtx_lock(&lock);
  ready++;
  while (tokens == 0) cnd_wait(&cond, &lock);
  tokens--;
  ended++;
  mtx_unlock(&lock);
  (void)arg;
  return 0;
}
static void conditions(void) {
  thrd_t t[6];
  init_both(mtx_timed);
  for (int i = 0; i < 6; i++) t[i] = begin(take_token, NULL);
  UNTIL(ready == 6);
  for (int i = 1; i <= 3; i++) {
    mtx_lock(&lock);
    tokens++;
    SAY_RES("signal", cnd_signal(&cond));
    mtx_unlock(&lock);
    UNTIL(ended == i);
  }
  mtx_lock(&lock);
  tokens = 3;
  SAY_RES("broadcast", cnd_broadcast(&cond));
  mtx_unlock(&lock);
  for (int i = 0; i < 6; i++) result_of(t[i]);
  say("ended %d", ended);
  struct timespec at = in_ms(CLOCK_REALTIME, 20), past = {1, 0};
  int64_t since = now_ns();
  mtx_lock(&lock);
  SAY_RES("timed", cnd_timedwait(&cond, &lock, &at));
  say("at least 15 ms: %d", at_least_ms(since, 15));
  SAY_RES("past", cnd_timedwait(&cond, &lock, &past));
  SAY_RES("unlock", mtx_unlock(&lock));
  cnd_destroy(&cond);
  mtx_destroy(&lock);
}

static tss_t key, second;
static void on_end(void *arg) {
  say("destructor %ld", (long)(intptr_t)arg);
  if ((intptr_t)arg < 3) tss_set(key, (void *)((intptr_t)arg + 1));
}
static int use_tss(void *arg) {
  say("at first %d", tss_get(key) == NULL);
  SAY_RES("set", tss_set(key, arg));
  SAY_RES("set", tss_set(second, (void *)9));
  thrd_yield();
  say("get %d", tss_get(key) == arg);
  if (arg == (void *)2) thrd_exit(5);
  return 4;
}
static void specific(void) {
  SAY_RES("create", tss_create(&key, on_end));
  SAY_RES("create", tss_create(&second, NULL));
  for (intptr_t i = 1; i < 4; i++) say("%d", result_of(begin(use_tss, (void *)i)));
  SAY_RES("main's", tss_set(key, (void *)1));
  tss_delete(key);
  SAY_RES("deleted", tss_set(key, (void *)1));
}

static once_flag once = ONCE_FLAG_INIT;
static _Atomic int initialised;
static void init_slowly(void) {
  nap(20);
  initialised++;
}
static int call_it(void *arg) {
  (void)arg;
  call_once(&once, init_slowly);
  return initialised;
}
static void once_for_all(void) {
  thrd_t t[8];
  for (int i = 0; i < 8; i++) t[i] = begin(call_it, NULL);
  for (int i = 0; i < 8; i++) say("%d", result_of(t[i]));
}

/* They are pthreads, and pthreads are they. */
static void *as_pthread(void *arg) { thrd_exit(arg ? 5 : 6); }
static int cancelled_point(void *arg) {
  (void)arg;
  for (;;) thrd_sleep(&(struct timespec){100, 0}, NULL);
  return 0;
}
static void mixed(void) {
  void *r = NULL;
  thrd_t t = begin(echo, (void *)7);
  SAY_ERR("pthread_join", pthread_join(t, &r));
  say("%d", (int)(intptr_t)r);
  pthread_t p = start(as_pthread, NULL);
  say("thrd_join %d", result_of(p));
  t = begin(cancelled_point, NULL);
  SAY_ERR("cancel", pthread_cancel(t));
  say("%d", result_of(t));
}

static int outlive(void *arg) {
  for (int i = 0; i < 3; i++) nap(3);
  say("after main");
  return (int)(intptr_t)arg;
}
static void main_exits(void) {
  begin(outlive, NULL);
  thrd_exit(3);
}

const struct check c11_checks[] = {
    CHECK(create_and_join), CHECK(equal_current), CHECK(detach),       CHECK(sleeping), CHECK(mutex_kinds), CHECK(mutex_counts),
    CHECK(conditions),      CHECK(specific),      CHECK(once_for_all), CHECK(mixed),    CHECK(main_exits),  CHECKS_END,
};
