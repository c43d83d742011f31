/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mutex, readers-writer mutex, once, condition, wait group, semaphore: what Go's package sync and x/sync promise, and the limits of ours.  The ideas are those of
 * Go's own tests.  Most run light Gs and plain threads against each other; the case itself is a plain thread.
 */
#include "sync/lot.h"
#include "sync_rig.h"

static struct ration_mutex mu;
static struct ration_rwmutex rw;
static struct ration_cond cond;
static struct ration_once once;
static struct ration_waitgroup wg;
static struct ration_sema sema;
static _Atomic int started, ended, stop, errors, order_at;
static _Atomic int order[64];
static long total; /* under mu */

/* So many wait at it (of a readers-writer mutex: readers). */
static int waiters(const void *key) {
  int n = 0;
  struct lot *l = lot_lock(key);
  for (struct waiter *w = lot_first(l, key); w; w = w->next) n++;
  lot_unlock(l);
  return n;
}

/* --- mutex --- */

static void hammer(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    if (i % 3 == 0) {
      if (ration_mutex_trylock(&mu) != 0) continue;
    } else {
      ration_mutex_lock(&mu);
    }
    total++;
    ration_mutex_unlock(&mu);
    atomic_fetch_add(&ended, 1);
  }
}

START_TEST(mutex_keeps_others_out) {
  go_mixed(16, hammer, (void *)3000);
  wait_all();
  ck_assert_int_eq(total, atomic_load(&ended));
  ck_assert_uint_eq(mu.word, 0);
}
END_TEST

static void lock_twice_and_yield(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    ration_mutex_lock(&mu);
    long was = total;
    if (i % 4 == 0) ration_yield();
    total = was + 1;
    ration_mutex_unlock(&mu);
  }
}

START_TEST(mutex_is_held_across_yields) {
  go_mixed(24, lock_twice_and_yield, (void *)400);
  wait_all();
  ck_assert_int_eq(total, 24 * 400);
  ck_assert_uint_eq(mu.word, 0);
}
END_TEST

START_TEST(trylock_takes_what_is_free) {
  ck_assert_int_eq(ration_mutex_trylock(&mu), 0);
  ck_assert_int_eq(ration_mutex_trylock(&mu), -EBUSY);
  ration_mutex_unlock(&mu);
  ck_assert_int_eq(ration_mutex_trylock(&mu), 0);
}
END_TEST

static void unlock_it(void *arg) { ration_mutex_unlock(arg); }

START_TEST(mutex_belongs_to_no_one) {
  ration_mutex_lock(&mu);
  go(unlock_it, &mu);
  ration_mutex_lock(&mu);
  go_thread(unlock_it, &mu);
  ration_mutex_lock(&mu);
  wait_all();
}
END_TEST

/* Go's TestMutexFairness: one G that takes it for 100 us again and again, another that wants it now and then. */
static void hog(void *arg) {
  (void)arg;
  while (!atomic_load(&stop)) {
    ration_mutex_lock(&mu);
    ration_sleep(100 * RATION_US);
    ration_mutex_unlock(&mu);
  }
}
static void ten_times(void *arg) {
  (void)arg;
  for (int i = 0; i < 10; i++) {
    ration_sleep(100 * RATION_US);
    ration_mutex_lock(&mu);
    ration_mutex_unlock(&mu);
  }
  atomic_store(&ended, 1);
}

START_TEST(mutex_starves_nobody) {
  go(hog, NULL);
  go(hog, NULL);
  go(ten_times, NULL);
  EVENTUALLY(atomic_load(&ended));
  atomic_store(&stop, 1);
  wait_all();
  ck_assert_uint_eq(mu.word, 0);
}
END_TEST

static void lock_in_order(void *arg) {
  ration_mutex_lock(&mu);
  order[atomic_fetch_add(&order_at, 1)] = (int)(intptr_t)arg;
  ration_mutex_unlock(&mu);
}

START_TEST(starved_waiters_are_served_in_the_order_they_came) {
  ration_mutex_lock(&mu);
  for (int i = 0; i < 8; i++) {
    go_as(i % 2, lock_in_order, (void *)(intptr_t)i);
    EVENTUALLY(waiters(&mu) == i + 1);
  }
  ration_sleep(3 * RATION_MS);
  /* The first that wakes finds it locked, and has waited too long. */
  ration_mutex_unlock(&mu);
  wait_all();
  for (int i = 0; i < 8; i++) ck_assert_int_eq(order[i], i);
  ck_assert_uint_eq(mu.word, 0);
}
END_TEST

static void lock_for_a_while(void *arg) {
  int r = ration_mutex_lock_timeout(&mu, (ration_ns)(intptr_t)arg);
  atomic_fetch_add(r ? &errors : &ended, 1);
  if (r) {
    ck_assert_int_eq(r, -ETIMEDOUT);
    return;
  }
  total++;
  ration_mutex_unlock(&mu);
}

START_TEST(lock_gives_up_in_time) {
  ration_mutex_lock(&mu);
  ck_assert_int_eq(ration_mutex_lock_timeout(&mu, 0), -ETIMEDOUT);
  ck_assert_int_eq(ration_mutex_lock_timeout(&mu, -1), -ETIMEDOUT);
  ration_ns before = ration_now();
  ck_assert_int_eq(ration_mutex_lock_timeout(&mu, 5 * RATION_MS), -ETIMEDOUT);
  ck_assert_int_ge(ration_now() - before, 5 * RATION_MS);
  go(lock_for_a_while, (void *)(3 * RATION_MS));
  go_thread(lock_for_a_while, (void *)(3 * RATION_MS));
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), 2);
  ck_assert_uint_eq(mu.word, 1); /* no trace of them */
  ration_mutex_unlock(&mu);
  ck_assert_int_eq(ration_mutex_lock_timeout(&mu, -1), 0);
}
END_TEST

static void lock_shortly(void *arg) {
  for (int i = 0; i < 300; i++) {
    lock_for_a_while((void *)((ration_ns)(i % 7) * 30 * RATION_US));
    if (i % 50 == 0) lock_in_order(NULL), atomic_store(&order_at, 0);
  }
  (void)arg;
}
static void hold_now_and_then(void *arg) {
  (void)arg;
  for (int i = 0; i < 100; i++) {
    ration_mutex_lock(&mu);
    ration_sleep(i % 10 ? 40 * RATION_US : 2 * RATION_MS);
    ration_mutex_unlock(&mu);
  }
}

START_TEST(lost_waits_leave_the_mutex_whole) {
  go(hold_now_and_then, NULL);
  go_mixed(12, lock_shortly, NULL);
  wait_all();
  ck_assert_int_eq(total, atomic_load(&ended));
  ck_assert_int_eq(atomic_load(&ended) + atomic_load(&errors), 12 * 300);
  ck_assert_int_eq(waiters(&mu), 0);
  ck_assert_int_eq(mu.word & 1, 0);
  lock_for_a_while((void *)0);
  ck_assert_int_eq(total, atomic_load(&ended));
}
END_TEST

static void lock_with(void *ctx) { atomic_store(&errors, ration_mutex_lock_ctx(&mu, ctx)); }

START_TEST(lock_ends_with_its_context) {
  struct ration_context *ctx = ration_context_with_cancel(NULL);
  ration_mutex_lock(&mu);
  go(lock_with, ctx);
  EVENTUALLY(waiters(&mu) == 1);
  ration_context_cancel(ctx);
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), -ECANCELED);
  ck_assert_int_eq(ration_mutex_lock_ctx(&mu, ctx), -ECANCELED);
  ration_mutex_unlock(&mu);
  ck_assert_int_eq(ration_mutex_lock_ctx(&mu, ctx), 0); /* it is free, however late */
  ration_context_unref(ctx);
}
END_TEST

/* The unlock of one thread and the free of the next: valgrind's and ASan's business. */
struct freed {
  struct ration_mutex mu;
  int users;
};
static void use_and_free(void *arg) {
  struct freed *f = arg;
  ration_mutex_lock(&f->mu);
  bool last = --f->users == 0;
  ration_mutex_unlock(&f->mu);
  if (last) free(f);
}

START_TEST(mutex_may_be_freed_by_its_last_user) {
  for (int i = 0; i < 500; i++) {
    struct freed *f = calloc(1, sizeof *f);
    f->users = 3;
    go(use_and_free, f);
    if (i % 50 == 0)
      go_thread(use_and_free, f);
    else
      go(use_and_free, f);
    use_and_free(f);
  }
  wait_all();
}
END_TEST

static void unlock_unlocked(void) { ration_mutex_unlock(&mu); }
static void unlock_twice(void) {
  ration_mutex_lock(&mu);
  ration_mutex_unlock(&mu);
  ration_mutex_unlock(&mu);
}

START_TEST(unlock_of_unlocked_mutex_is_fatal) {
  ends_the_program(unlock_unlocked, "unlock of unlocked mutex");
  ends_the_program(unlock_twice, "unlock of unlocked mutex");
}
END_TEST

/* --- readers and writers --- */

static void read_and_wait(void *arg) {
  (void)arg;
  ration_rwmutex_rlock(&rw);
  atomic_fetch_add(&started, 1);
  while (!atomic_load(&stop)) ration_sleep(100 * RATION_US);
  ration_rwmutex_runlock(&rw);
}

START_TEST(readers_read_together) {
  go_mixed(8, read_and_wait, NULL);
  EVENTUALLY(atomic_load(&started) == 8);
  ck_assert_int_eq(ration_rwmutex_trylock(&rw), -EBUSY);
  ck_assert_int_eq(ration_rwmutex_tryrlock(&rw), 0);
  ration_rwmutex_runlock(&rw);
  atomic_store(&stop, 1);
  wait_all();
  ck_assert_int_eq(ration_rwmutex_trylock(&rw), 0);
}
END_TEST

static _Atomic int readers, writers;
static void check_inside(int readers_now, int writers_now) {
  if (writers_now > 1 || (writers_now && readers_now)) atomic_fetch_add(&errors, 1);
}
static void reader(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    if (i % 5 == 0 ? ration_rwmutex_rlock_timeout(&rw, (i % 4) * 20 * RATION_US) : (ration_rwmutex_rlock(&rw), 0)) continue;
    int n = atomic_fetch_add(&readers, 1) + 1;
    check_inside(n, atomic_load(&writers));
    if (i % 8 == 0) ration_yield();
    atomic_fetch_sub(&readers, 1);
    ration_rwmutex_runlock(&rw);
  }
}
static void writer(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    if (i % 5 == 0 ? ration_rwmutex_lock_timeout(&rw, (i % 4) * 20 * RATION_US) : (ration_rwmutex_lock(&rw), 0)) continue;
    int n = atomic_fetch_add(&writers, 1) + 1;
    check_inside(atomic_load(&readers), n);
    if (i % 8 == 0) ration_yield();
    atomic_fetch_sub(&writers, 1);
    ration_rwmutex_unlock(&rw);
  }
}

START_TEST(writers_are_alone) {
  go_mixed(4, writer, (void *)500);
  go_mixed(12, reader, (void *)1000);
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), 0);
  ck_assert_int_eq(ration_rwmutex_trylock(&rw), 0);
  ration_rwmutex_unlock(&rw);
  ck_assert_int_eq(rw.word, 0);
}
END_TEST

static void write_in_order(void *arg) {
  ration_rwmutex_lock(&rw);
  order[atomic_fetch_add(&order_at, 1)] = (int)(intptr_t)arg;
  ration_rwmutex_unlock(&rw);
}
static void read_in_order(void *arg) {
  ration_rwmutex_rlock(&rw);
  order[atomic_fetch_add(&order_at, 1)] = (int)(intptr_t)arg;
  ration_sleep(RATION_MS);
  ration_rwmutex_runlock(&rw);
}
static int writer_waits(void) { return waiters((char *)&rw.word + 1); }

START_TEST(waiting_writer_keeps_new_readers_out) {
  ration_rwmutex_rlock(&rw);
  go(write_in_order, (void *)1);
  EVENTUALLY(writer_waits() == 1);
  ck_assert_int_eq(ration_rwmutex_tryrlock(&rw), -EBUSY);
  ck_assert_int_eq(ration_rwmutex_rlock_timeout(&rw, RATION_MS), -ETIMEDOUT);
  go(read_in_order, (void *)2);
  EVENTUALLY(waiters(&rw.word) == 1);
  ration_rwmutex_runlock(&rw);
  wait_all();
  ck_assert_int_eq(order[0], 1);
  ck_assert_int_eq(order[1], 2);
}
END_TEST

START_TEST(readers_that_waited_go_before_the_next_writer) {
  ration_rwmutex_lock(&rw);
  go(write_in_order, (void *)9);
  EVENTUALLY(waiters(&rw.writers) == 1);
  for (int i = 0; i < 3; i++) go_as(i == 2, read_in_order, (void *)1);
  EVENTUALLY(waiters(&rw.word) == 3);
  ration_rwmutex_unlock(&rw);
  wait_all();
  for (int i = 0; i < 3; i++) ck_assert_int_eq(order[i], 1);
  ck_assert_int_eq(order[3], 9);
}
END_TEST

static void write_shortly(void *wait) { atomic_store(&errors, ration_rwmutex_lock_timeout(&rw, (ration_ns)wait)); }

START_TEST(writer_that_gives_up_lets_readers_in) {
  ration_rwmutex_rlock(&rw);
  bool seen = false;
  for (ration_ns wait = 5 * RATION_MS; !seen && wait < 6 * RATION_SECOND; wait *= 4) { /* on a slow machine it has come and gone */
    wait_all();
    atomic_store(&errors, 0);
    go(write_shortly, (void *)wait);
    EVENTUALLY((seen = writer_waits() == 1) || atomic_load(&errors));
  }
  ck_assert(seen);
  go(read_in_order, (void *)1);
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), -ETIMEDOUT);
  ration_rwmutex_runlock(&rw);
  ck_assert_int_eq(rw.word, 0);
  ck_assert_int_eq(ration_rwmutex_trylock(&rw), 0);
}
END_TEST

START_TEST(rwmutex_ends_with_its_context) {
  struct ration_context *ctx = ration_context_with_timeout(NULL, 3 * RATION_MS);
  ration_rwmutex_lock(&rw);
  ck_assert_int_eq(ration_rwmutex_rlock_ctx(&rw, ctx), -ETIMEDOUT);
  ck_assert_int_eq(ration_rwmutex_lock_ctx(&rw, ctx), -ETIMEDOUT);
  ration_rwmutex_unlock(&rw);
  ck_assert_int_eq(rw.word | rw.writers.word, 0);
  ration_context_unref(ctx);
}
END_TEST

static void rw_unlock_unlocked(void) { ration_rwmutex_unlock(&rw); }
static void rw_runlock_unlocked(void) { ration_rwmutex_runlock(&rw); }
static void rw_unlock_readers(void) {
  ration_rwmutex_rlock(&rw);
  ration_rwmutex_unlock(&rw);
}
static void rw_runlock_writers(void) {
  ration_rwmutex_lock(&rw);
  ration_rwmutex_runlock(&rw);
}

START_TEST(misuse_of_rwmutex_is_fatal) {
  ends_the_program(rw_unlock_unlocked, "unlock of unlocked rwmutex");
  ends_the_program(rw_unlock_readers, "unlock of unlocked rwmutex");
  ends_the_program(rw_runlock_unlocked, "runlock of unlocked rwmutex");
  ends_the_program(rw_runlock_writers, "runlock of unlocked rwmutex");
}
END_TEST

/* --- once --- */

static void slowly(void *arg) {
  ration_sleep(3 * RATION_MS);
  ++*(int *)arg;
}
static void do_once(void *arg) {
  ration_once_do(&once, slowly, arg);
  if (*(int *)arg != 1) atomic_fetch_add(&errors, 1);
}

START_TEST(once_runs_once_and_all_wait_for_it) {
  int n = 0;
  go_mixed(12, do_once, &n);
  wait_all();
  ck_assert_int_eq(n, 1);
  ck_assert_int_eq(atomic_load(&errors), 0);
  ration_once_do(&once, slowly, &n);
  ck_assert_int_eq(n, 1);
}
END_TEST

/* --- condition --- */

static int awake; /* under mu */
static void wait_for_signal(void *arg) {
  (void)arg;
  ration_mutex_lock(&mu);
  atomic_fetch_add(&started, 1);
  ration_cond_wait(&cond, &mu);
  order[awake++] = (int)(intptr_t)arg;
  ration_mutex_unlock(&mu);
}
static int awake_now(void) {
  ration_mutex_lock(&mu);
  int n = awake;
  ration_mutex_unlock(&mu);
  return n;
}

START_TEST(signal_wakes_one_in_order) {
  ration_cond_signal(&cond); /* nobody: nothing */
  for (int i = 0; i < 6; i++) {
    go_as(i % 3 == 2, wait_for_signal, (void *)(intptr_t)i);
    EVENTUALLY(waiters(&cond) == i + 1);
  }
  for (int i = 0; i < 6; i++) {
    ck_assert_int_eq(awake_now(), i);
    ration_mutex_lock(&mu);
    ration_cond_signal(&cond);
    ration_mutex_unlock(&mu);
    EVENTUALLY(awake_now() == i + 1);
    ration_sleep(300 * RATION_US);
    ck_assert_int_eq(awake_now(), i + 1);
    ck_assert_int_eq(order[i], i);
  }
  wait_all();
}
END_TEST

START_TEST(broadcast_wakes_those_that_wait_now) {
  go_mixed(10, wait_for_signal, NULL);
  EVENTUALLY(waiters(&cond) == 10);
  ration_cond_broadcast(&cond);
  EVENTUALLY(awake_now() == 10);
  wait_all();
  go(wait_for_signal, NULL);
  EVENTUALLY(waiters(&cond) == 1);
  ration_sleep(RATION_MS);
  ck_assert_int_eq(awake_now(), 10); /* the broadcast before was not for it */
  ration_cond_broadcast(&cond);
  wait_all();
}
END_TEST

/* Go's TestCondSignalGenerations, as a race: nobody who was signalled goes to sleep again, nor wakes for another. */
static int tokens; /* under mu */
static void consume(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    ration_mutex_lock(&mu);
    while (!tokens) ration_cond_wait(&cond, &mu);
    tokens--;
    total++;
    ration_mutex_unlock(&mu);
  }
}
static void produce(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    ration_mutex_lock(&mu);
    tokens++;
    if (i % 2) ration_cond_signal(&cond);
    ration_mutex_unlock(&mu);
    if (i % 2 == 0) ration_cond_signal(&cond);
  }
}

START_TEST(no_signal_is_lost) {
  go_mixed(8, consume, (void *)500);
  go_mixed(8, produce, (void *)500);
  wait_all();
  ck_assert_int_eq(total, 4000);
  ck_assert_int_eq(tokens, 0);
}
END_TEST

START_TEST(wait_for_a_signal_gives_up_with_the_mutex_held) {
  ration_mutex_lock(&mu);
  ck_assert_int_eq(ration_cond_wait_timeout(&cond, &mu, 2 * RATION_MS), -ETIMEDOUT);
  ck_assert_int_eq(ration_mutex_trylock(&mu), -EBUSY);
  struct ration_context *ctx = ration_context_with_timeout(NULL, RATION_MS);
  ck_assert_int_eq(ration_cond_wait_ctx(&cond, &mu, ctx), -ETIMEDOUT);
  ration_context_unref(ctx);
  ration_mutex_unlock(&mu);
  ck_assert_int_eq(waiters(&cond), 0);
  go(wait_for_signal, NULL);
  EVENTUALLY(waiters(&cond) == 1);
  ration_cond_signal(&cond);
  wait_all();
}
END_TEST

static void wait_shortly(void *arg) {
  (void)arg;
  for (int i = 0; i < 200; i++) {
    ration_mutex_lock(&mu);
    int r = ration_cond_wait_timeout(&cond, &mu, (i % 5) * 25 * RATION_US);
    ration_mutex_unlock(&mu);
    atomic_fetch_add(r ? &errors : &ended, 1);
  }
  atomic_fetch_add(&started, 1);
}

START_TEST(signals_race_with_time_limits) {
  go_mixed(8, wait_shortly, NULL);
  while (atomic_load(&started) < 8) {
    ration_cond_signal(&cond);
    ration_sleep(20 * RATION_US);
  }
  wait_all();
  ck_assert_int_eq(atomic_load(&errors) + atomic_load(&ended), 1600);
  ck_assert_int_eq(waiters(&cond), 0);
}
END_TEST

/* --- wait group --- */

static void finish_one(void *arg) {
  (void)arg;
  atomic_fetch_add(&ended, 1);
  ration_waitgroup_done(&wg);
}

START_TEST(wait_returns_when_all_are_done) {
  ration_waitgroup_wait(&wg); /* nothing to wait for */
  for (int round = 1; round <= 20; round++) {
    ration_waitgroup_add(&wg, 16);
    go_mixed(16, finish_one, NULL);
    ration_waitgroup_wait(&wg);
    ck_assert_int_eq(atomic_load(&ended), 16 * round);
  }
  wait_all();
  ck_assert_uint_eq(wg.word, 0);
}
END_TEST

static void wait_for_group(void *arg) {
  (void)arg;
  ration_waitgroup_wait(&wg);
  if (atomic_load(&ended) < 8) atomic_fetch_add(&errors, 1);
}

START_TEST(many_wait_for_one_group) {
  ration_waitgroup_add(&wg, 8);
  go_mixed(8, wait_for_group, NULL);
  EVENTUALLY(waiters(&wg) == 8);
  go_mixed(8, finish_one, NULL);
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), 0);
}
END_TEST

/* The next round begins while those of the last one are still on their way. */
static struct ration_waitgroup rounds[2];
static void take_part(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    ration_waitgroup_done(&rounds[i % 2]);
    ration_waitgroup_wait(&rounds[i % 2]);
    if (atomic_fetch_add(&ended, 1) % 4 == 3) ration_waitgroup_add(&rounds[i % 2], 4);
  }
}

START_TEST(group_is_used_again_at_once) {
  ration_waitgroup_add(&rounds[0], 4);
  ration_waitgroup_add(&rounds[1], 4);
  go_mixed(4, take_part, (void *)500);
  wait_all();
  ck_assert_int_eq(atomic_load(&ended), 2000);
}
END_TEST

START_TEST(wait_for_a_group_gives_up) {
  ration_waitgroup_add(&wg, 1);
  ck_assert_int_eq(ration_waitgroup_wait_timeout(&wg, 2 * RATION_MS), -ETIMEDOUT);
  ck_assert_int_eq(ration_waitgroup_wait_timeout(&wg, 0), -ETIMEDOUT);
  struct ration_context *ctx = ration_context_with_cancel(NULL);
  ration_context_cancel(ctx);
  ck_assert_int_eq(ration_waitgroup_wait_ctx(&wg, ctx), -ECANCELED);
  ration_waitgroup_done(&wg);
  ck_assert_int_eq(ration_waitgroup_wait_ctx(&wg, ctx), 0);
  ration_context_unref(ctx);
  ck_assert_uint_eq(wg.word, 0);
}
END_TEST

static void count(void *arg) { atomic_fetch_add((_Atomic int *)arg, 1); }

START_TEST(group_starts_gs_itself) {
  for (int i = 0; i < 100; i++) ck_assert_int_eq(ration_waitgroup_go(&wg, count, &ended), 0);
  ration_waitgroup_wait(&wg);
  ck_assert_int_eq(atomic_load(&ended), 100);
}
END_TEST

/* Freed by the waiter as soon as it returns. */
static void done_of(void *arg) { ration_waitgroup_done(arg); }

START_TEST(group_may_be_freed_after_wait) {
  for (int i = 0; i < 500; i++) {
    struct ration_waitgroup *g = calloc(1, sizeof *g);
    ration_waitgroup_add(g, 2);
    go(done_of, g);
    go(done_of, g);
    ration_waitgroup_wait(g);
    free(g);
  }
  wait_all();
}
END_TEST

static void below_zero(void) {
  ration_waitgroup_add(&wg, 1);
  ration_waitgroup_done(&wg);
  ration_waitgroup_done(&wg);
}
static void overflow(void) {
  ration_waitgroup_add(&wg, INT32_MAX);
  ration_waitgroup_add(&wg, 1);
}

START_TEST(misuse_of_group_is_fatal) {
  ends_the_program(below_zero, "negative WaitGroup counter");
  ends_the_program(overflow, "WaitGroup counter overflow");
}
END_TEST

/* --- semaphore --- */

static void use_sema(void *arg) {
  int64_t n = (intptr_t)arg;
  for (int i = 0; i < 300; i++) {
    if (i % 4 == 0 ? ration_sema_acquire_timeout(&sema, n, (i % 3) * 30 * RATION_US) : ration_sema_acquire(&sema, n)) continue;
    int now = atomic_fetch_add(&readers, (int)n) + (int)n;
    if (now > 10) atomic_fetch_add(&errors, 1);
    if (i % 8 == 0) ration_yield();
    atomic_fetch_sub(&readers, (int)n);
    ration_sema_release(&sema, n);
  }
}

START_TEST(no_more_is_held_than_there_is) {
  ration_sema_init(&sema, 10);
  for (int64_t n = 1; n <= 10; n++) go_mixed(2, use_sema, (void *)n);
  go_thread(use_sema, (void *)7);
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), 0);
  ck_assert_uint_eq(sema.state, 0);
  ck_assert_int_eq(ration_sema_tryacquire(&sema, 10), 0);
}
END_TEST

/* With a null context as with the background: for ever.  Nobody ever ends such a wait: it is of a G that is left where it is. */
static void wants_too_much(void *arg) {
  ration_sema_acquire_ctx(&sema, 2, arg);
  atomic_fetch_add(&errors, 1);
}
START_TEST(more_than_there_is_waits_for_the_context) {
  ration_sema_init(&sema, 1);
  ck_assert_int_eq(ration_go(wants_too_much, NULL), 0);
  ck_assert_int_eq(ration_go(wants_too_much, ration_context_background()), 0);
  ration_sleep(20 * RATION_MS);
  ck_assert_int_eq(atomic_load(&errors), 0);
}
END_TEST

START_TEST(try_takes_what_is_free) {
  ration_sema_init(&sema, 2);
  ck_assert_int_eq(ration_sema_acquire(&sema, 1), 0);
  ck_assert_int_eq(ration_sema_tryacquire(&sema, 1), 0);
  ck_assert_int_eq(ration_sema_tryacquire(&sema, 1), -EAGAIN);
  ration_sema_release(&sema, 2);
  ck_assert_int_eq(ration_sema_tryacquire(&sema, 3), -EAGAIN);
  ck_assert_int_eq(ration_sema_tryacquire(&sema, 2), 0);
  ck_assert_int_eq(ration_sema_tryacquire(&sema, 0), 0);
  ck_assert_int_eq(ration_sema_acquire(&sema, 3), -E2BIG);
  ck_assert_int_eq(ration_sema_acquire(&sema, -1), -EINVAL);
  ck_assert_int_eq(ration_sema_tryacquire(&sema, -1), -EINVAL);
  ck_assert_int_eq(ration_sema_acquire_timeout(&sema, 1, RATION_MS), -ETIMEDOUT);
  ck_assert_int_eq(ration_sema_init(&sema, -1), -EINVAL);
}
END_TEST

static void acquire_in_order(void *arg) {
  ck_assert_int_eq(ration_sema_acquire(&sema, (intptr_t)arg), 0);
  order[atomic_fetch_add(&order_at, 1)] = (int)(intptr_t)arg;
}

START_TEST(small_requests_do_not_overtake_a_large_one) {
  ration_sema_init(&sema, 10);
  ck_assert_int_eq(ration_sema_acquire(&sema, 5), 0);
  go(acquire_in_order, (void *)10);
  EVENTUALLY(waiters(&sema) == 1);
  ck_assert_int_eq(ration_sema_tryacquire(&sema, 1), -EAGAIN); /* 5 are free, but it is not its turn */
  for (int i = 1; i <= 4; i++) {
    go_as(i == 2, acquire_in_order, (void *)(intptr_t)i);
    EVENTUALLY(waiters(&sema) == 1 + i);
  }
  ration_sema_release(&sema, 5);
  EVENTUALLY(atomic_load(&order_at) == 1);
  ration_sleep(RATION_MS);
  ck_assert_int_eq(atomic_load(&order_at), 1);
  ck_assert_int_eq(order[0], 10);
  ration_sema_release(&sema, 10);
  wait_all();
  ration_sema_release(&sema, 10);
  ck_assert_uint_eq(sema.state, 0);
}
END_TEST

/* Go's TestLargeAcquireDoesntStarve. */
static void small_for_ever(void *arg) {
  (void)arg;
  ration_sema_acquire(&sema, 1);
  while (!atomic_load(&stop)) {
    ration_sleep(200 * RATION_US);
    ration_sema_release(&sema, 1);
    ration_sema_acquire(&sema, 1);
  }
  ration_sema_release(&sema, 1);
}

START_TEST(large_request_does_not_starve) {
  ration_sema_init(&sema, 4);
  go_mixed(8, small_for_ever, NULL);
  EVENTUALLY(waiters(&sema) > 0);
  ck_assert_int_eq(ration_sema_acquire(&sema, 4), 0);
  atomic_store(&stop, 1);
  ration_sema_release(&sema, 4);
  wait_all();
  ck_assert_uint_eq(sema.state, 0);
}
END_TEST

static void acquire_ctx(void *ctx) { atomic_store(&errors, ration_sema_acquire_ctx(&sema, 10, ctx)); }

START_TEST(who_gives_up_lets_those_behind_go) {
  ration_sema_init(&sema, 10);
  struct ration_context *ctx = ration_context_with_cancel(NULL);
  ck_assert_int_eq(ration_sema_acquire(&sema, 5), 0);
  go(acquire_ctx, ctx);
  EVENTUALLY(waiters(&sema) == 1);
  go(acquire_in_order, (void *)2);
  go_thread(acquire_in_order, (void *)3);
  EVENTUALLY(waiters(&sema) == 3);
  ration_context_cancel(ctx);
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), -ECANCELED);
  ck_assert_int_eq(ration_sema_tryacquire(&sema, 1), -EAGAIN);
  ration_sema_release(&sema, 10);
  ck_assert_uint_eq(sema.state, 0);
  ration_context_unref(ctx);
}
END_TEST

START_TEST(too_much_waits_for_its_context_in_nobodys_way) {
  ration_sema_init(&sema, 2);
  struct ration_context *ctx = ration_context_with_timeout(NULL, 5 * RATION_MS);
  go(acquire_ctx, ctx);
  ck_assert_int_eq(ration_sema_acquire(&sema, 2), 0);
  ck_assert_int_eq(ration_sema_acquire_ctx(&sema, 3, ctx), -ETIMEDOUT);
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), -ETIMEDOUT);
  ration_context_unref(ctx);
}
END_TEST

static void release_too_much(void) {
  ration_sema_init(&sema, 2);
  ration_sema_acquire(&sema, 1);
  ration_sema_release(&sema, 2);
}

START_TEST(release_of_what_is_not_held_is_fatal) { ends_the_program(release_too_much, "released more than held"); }
END_TEST

UNIT_MAIN("sync", mutex_keeps_others_out, mutex_is_held_across_yields, trylock_takes_what_is_free, mutex_belongs_to_no_one,
          mutex_starves_nobody, starved_waiters_are_served_in_the_order_they_came, lock_gives_up_in_time, lost_waits_leave_the_mutex_whole,
          lock_ends_with_its_context, mutex_may_be_freed_by_its_last_user, unlock_of_unlocked_mutex_is_fatal, readers_read_together,
          writers_are_alone, waiting_writer_keeps_new_readers_out, readers_that_waited_go_before_the_next_writer,
          writer_that_gives_up_lets_readers_in, rwmutex_ends_with_its_context, misuse_of_rwmutex_is_fatal,
          once_runs_once_and_all_wait_for_it, signal_wakes_one_in_order, broadcast_wakes_those_that_wait_now, no_signal_is_lost,
          wait_for_a_signal_gives_up_with_the_mutex_held, signals_race_with_time_limits, wait_returns_when_all_are_done,
          many_wait_for_one_group, group_is_used_again_at_once, wait_for_a_group_gives_up, group_starts_gs_itself,
          group_may_be_freed_after_wait, misuse_of_group_is_fatal, no_more_is_held_than_there_is, more_than_there_is_waits_for_the_context,
          try_takes_what_is_free, small_requests_do_not_overtake_a_large_one, large_request_does_not_starve,
          who_gives_up_lets_those_behind_go, too_much_waits_for_its_context_in_nobodys_way, release_of_what_is_not_held_is_fatal)
