/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pthread objects of free mode, on real pthread_mutex_t, ..., made by glibc's own init functions and initialisers: what POSIX and glibc promise of them.  Most
 * cases run light Gs and plain threads against each other; the case itself is a plain thread.
 */
#include "free/psync.h"
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include "free/free.h"
#include "sync/lot.h"
#include "sync/stop.h"
#include "sync_rig.h"

/* --- free.h, for light Gs and plain threads --- */

bool free_mode = true;

uint32_t free_self_id(void) {
  struct g *g = g_self();
  return g->kind == G_LIGHT ? (uint32_t)g->id | 0x80000000u : sys_gettid();
}

/* Of plain threads. */
static __thread struct ration_context *cancelled_by;
bool free_cancel_is_async(void) { return false; }
struct ration_context *free_cancel_context(void) {
  return g_self()->kind == G_LIGHT ? NULL : cancelled_by;
}
void free_testcancel(void) {
  struct ration_context *ctx = free_cancel_context();
  if (ctx && ration_context_err(ctx)) pthread_exit(PTHREAD_CANCELED);
}

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static sem_t sem;
static _Atomic int started, ended, stop, errors, order_at;
static _Atomic int order[64];
static long total; /* under what the case is about */

/* So many wait at it (of a readers-writer lock: readers). */
static int waiters(const void *key) {
  int n = 0;
  struct lot *l = lot_lock(key);
  for (struct waiter *w = lot_first(l, key); w; w = w->next) n++;
  lot_unlock(l);
  return n;
}
static int writers_wait(void) { return waiters((char *)&rw + 1); }

static struct timespec from_now(clockid_t clock, ration_ns d) {
  struct timespec ts;
  clock_gettime(clock, &ts);
  int64_t ns = ts.tv_nsec + d % RATION_SECOND;
  ts.tv_sec += d / RATION_SECOND + (ns >= RATION_SECOND) - (ns < 0);
  ts.tv_nsec = (ns + RATION_SECOND) % RATION_SECOND;
  return ts;
}
static int mutex_within(pthread_mutex_t *m, clockid_t clock, ration_ns d) {
  struct timespec ts = from_now(clock, d);
  return free_mutex_timed(m, clock, &ts);
}
static int cond_within(clockid_t clock, ration_ns d) {
  struct timespec ts = from_now(clock, d);
  return free_cond_clock(&cond, &mu, clock, &ts);
}

static void make_mutex(int type) {
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  ck_assert_int_eq(pthread_mutexattr_settype(&a, type), 0);
  ck_assert_int_eq(pthread_mutex_init(&mu, &a), 0);
  pthread_mutexattr_destroy(&a);
  ck_assert(!free_mutex_is_kernels(&mu));
}
static void make_rwlock(int kind) {
  pthread_rwlockattr_t a;
  pthread_rwlockattr_init(&a);
  ck_assert_int_eq(pthread_rwlockattr_setkind_np(&a, kind), 0);
  ck_assert_int_eq(pthread_rwlock_init(&rw, &a), 0);
  pthread_rwlockattr_destroy(&a);
  ck_assert(!free_rwlock_is_kernels(&rw));
}
static void ck_free(void) { ck_assert_int_eq(mu.__data.__lock, 0); }

static const struct timespec bad_ns = {.tv_sec = 1, .tv_nsec = 1000000000}, below_ns = {.tv_sec = 1, .tv_nsec = -1},
                             long_ago = {.tv_sec = -5};

/* Calls fn(arg) in a plain thread and waits for it. */
struct aside {
  int (*fn)(void *);
  void *arg;
  int r;
};
static void *aside_run(void *arg) {
  struct aside *a = arg;
  a->r = a->fn(a->arg);
  return NULL;
}
static int aside(int (*fn)(void *), void *arg) {
  struct aside a = {fn, arg, 0};
  pthread_t t;
  ck_assert_int_eq(pthread_create(&t, NULL, aside_run, &a), 0);
  pthread_join(t, NULL);
  return a.r;
}
static int unlock_mu(void *arg) { return (void)arg, free_mutex_unlock(&mu); }
static int trylock_mu(void *arg) { return (void)arg, free_mutex_trylock(&mu); }

/* --- mutex --- */

static void hammer(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    if (i % 5 == 0   ? free_mutex_trylock(&mu)
        : i % 5 == 1 ? mutex_within(&mu, i % 2 ? CLOCK_REALTIME : CLOCK_MONOTONIC, i % 40 * RATION_US)
                     : free_mutex_lock(&mu))
      continue;
    long was = total;
    if (i % 16 == 0) ration_yield();
    total = was + 1;
    if (free_mutex_unlock(&mu)) atomic_fetch_add(&errors, 1);
    atomic_fetch_add(&ended, 1);
  }
}
static void hammer_type(int type) {
  make_mutex(type);
  go_mixed(16, hammer, (void *)1500);
  wait_all();
  ck_assert_int_eq(total, atomic_load(&ended));
  ck_assert_int_eq(atomic_load(&errors), 0);
  ck_free();
  ck_assert_int_eq(mu.__data.__owner, 0);
  ck_assert_int_eq(waiters(&mu), 0);
}

START_TEST(mutex_keeps_others_out) {
  ck_assert(!free_mutex_is_kernels(&mu));
  go_mixed(16, hammer, (void *)3000);
  wait_all();
  ck_assert_int_eq(total, atomic_load(&ended));
  ck_free();
}
END_TEST
START_TEST(adaptive_mutex_keeps_others_out) { hammer_type(PTHREAD_MUTEX_ADAPTIVE_NP); }
END_TEST
START_TEST(recursive_mutex_keeps_others_out) { hammer_type(PTHREAD_MUTEX_RECURSIVE); }
END_TEST
START_TEST(checking_mutex_keeps_others_out) { hammer_type(PTHREAD_MUTEX_ERRORCHECK); }
END_TEST

static void unlock_it(void *arg) { free_mutex_unlock(arg); }

START_TEST(normal_mutex_belongs_to_no_one) {
  free_mutex_lock(&mu);
  go(unlock_it, &mu);
  free_mutex_lock(&mu);
  go_thread(unlock_it, &mu);
  free_mutex_lock(&mu);
  wait_all();
  ck_assert_int_eq(free_mutex_trylock(&mu), EBUSY);
  free_mutex_unlock(&mu);
  ck_assert_int_eq(free_mutex_unlock(&mu), 0); /* not locked: nothing */
  ck_free();
  ck_assert_int_eq(free_mutex_trylock(&mu), 0);
}
END_TEST

START_TEST(recursive_mutex_counts) {
  make_mutex(PTHREAD_MUTEX_RECURSIVE);
  ck_assert_int_eq(free_mutex_unlock(&mu), EPERM);
  ck_assert_int_eq(free_mutex_lock(&mu), 0);
  ck_assert_int_eq(free_mutex_lock(&mu), 0);
  ck_assert_int_eq(free_mutex_trylock(&mu), 0);
  ck_assert_int_eq(free_mutex_timed(&mu, CLOCK_REALTIME, &bad_ns), 0); /* it does not wait, so it does not look */
  ck_assert_int_eq(aside(trylock_mu, NULL), EBUSY);
  ck_assert_int_eq(aside(unlock_mu, NULL), EPERM);
  for (int i = 0; i < 4; i++) {
    ck_assert_int_eq(free_mutex_destroy(&mu), EBUSY);
    ck_assert_int_eq(free_mutex_unlock(&mu), 0);
  }
  ck_assert_int_eq(free_mutex_unlock(&mu), EPERM);
  ck_free();
  free_mutex_lock(&mu);
  mu.__data.__count = UINT_MAX;
  ck_assert_int_eq(free_mutex_lock(&mu), EAGAIN);
  ck_assert_int_eq(free_mutex_trylock(&mu), EAGAIN);
  ck_assert_int_eq(mutex_within(&mu, CLOCK_MONOTONIC, 0), EAGAIN);
  ck_assert_uint_eq(mu.__data.__count, UINT_MAX);
}
END_TEST

START_TEST(checking_mutex_says_what_is_wrong) {
  make_mutex(PTHREAD_MUTEX_ERRORCHECK);
  ck_assert_int_eq(free_mutex_unlock(&mu), EPERM);
  ck_assert_int_eq(free_mutex_lock(&mu), 0);
  ck_assert_int_eq(free_mutex_lock(&mu), EDEADLK);
  ck_assert_int_eq(free_mutex_timed(&mu, CLOCK_REALTIME, &bad_ns), EDEADLK);
  ck_assert_int_eq(free_mutex_trylock(&mu), EBUSY);
  ck_assert_int_eq(aside(unlock_mu, NULL), EPERM);
  ck_assert_int_eq(free_mutex_unlock(&mu), 0);
  ck_assert_int_eq(free_mutex_unlock(&mu), EPERM);
  ck_assert_int_eq(aside(trylock_mu, NULL), 0); /* and its thread is gone: still locked, by no one that is */
  ck_assert_int_eq(free_mutex_unlock(&mu), EPERM);
}
END_TEST

START_TEST(destroyed_mutex_is_nobodys) {
  free_mutex_lock(&mu);
  ck_assert_int_eq(free_mutex_destroy(&mu), EBUSY);
  free_mutex_unlock(&mu);
  ck_assert_int_eq(free_mutex_destroy(&mu), 0);
  ck_assert(free_mutex_is_kernels(&mu));
#ifndef RATION_SAN_thread /* it wants to say so itself */
  ck_assert_int_eq(pthread_mutex_lock(&mu), EINVAL);
#endif
  ck_assert_int_eq(pthread_mutex_init(&mu, NULL), 0);
  ck_assert(!free_mutex_is_kernels(&mu));
}
END_TEST

static bool kernels_mutex(int (*set)(pthread_mutexattr_t *, int), int to) {
  pthread_mutexattr_t a;
  pthread_mutex_t m;
  pthread_mutexattr_init(&a);
  ck_assert_int_eq(set(&a, to), 0);
  ck_assert_int_eq(pthread_mutex_init(&m, &a), 0);
  bool is = free_mutex_is_kernels(&m);
  pthread_mutex_destroy(&m);
  pthread_mutexattr_destroy(&a);
  return is;
}

START_TEST(objects_of_the_kernel_are_known) {
  ck_assert(kernels_mutex(pthread_mutexattr_setrobust, PTHREAD_MUTEX_ROBUST));
  ck_assert(kernels_mutex(pthread_mutexattr_setprotocol, PTHREAD_PRIO_INHERIT));
  ck_assert(kernels_mutex(pthread_mutexattr_setprotocol, PTHREAD_PRIO_PROTECT));
  ck_assert(kernels_mutex(pthread_mutexattr_setpshared, PTHREAD_PROCESS_SHARED));
  ck_assert(!kernels_mutex(pthread_mutexattr_setpshared, PTHREAD_PROCESS_PRIVATE));
  ck_assert(!kernels_mutex(pthread_mutexattr_settype, PTHREAD_MUTEX_NORMAL));
  pthread_mutex_t adaptive = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP, recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
  ck_assert(!free_mutex_is_kernels(&adaptive) && !free_mutex_is_kernels(&recursive));

  pthread_condattr_t ca;
  pthread_condattr_init(&ca);
  pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
  pthread_cond_init(&cond, &ca);
  ck_assert(!free_cond_is_kernels(&cond) && free_cond_clock_of(&cond) == CLOCK_MONOTONIC);
  pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
  pthread_cond_init(&cond, &ca);
  ck_assert(free_cond_is_kernels(&cond));

  pthread_rwlockattr_t ra;
  pthread_rwlockattr_init(&ra);
  pthread_rwlockattr_setpshared(&ra, PTHREAD_PROCESS_SHARED);
  pthread_rwlock_init(&rw, &ra);
  ck_assert(free_rwlock_is_kernels(&rw));

  pthread_barrierattr_t ba;
  pthread_barrierattr_init(&ba);
  pthread_barrier_init(&barrier, &ba, 3);
  ck_assert(!free_barrier_is_kernels(&barrier) && ((struct free_barrier *)&barrier)->count == 3);
  pthread_barrierattr_setpshared(&ba, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&barrier, &ba, 3);
  ck_assert(free_barrier_is_kernels(&barrier));

  sem_init(&sem, 0, 7);
  ck_assert(!free_sem_is_kernels(&sem) && (uint32_t)atomic_load(&((struct free_sem *)&sem)->data) == 7);
  sem_init(&sem, 1, 7);
  ck_assert(free_sem_is_kernels(&sem));
}
END_TEST

static void hog(void *arg) {
  (void)arg;
  while (!atomic_load(&stop)) {
    free_mutex_lock(&mu);
    ration_sleep(100 * RATION_US);
    free_mutex_unlock(&mu);
  }
}
static void ten_times(void *arg) {
  (void)arg;
  for (int i = 0; i < 10; i++) {
    ration_sleep(100 * RATION_US);
    free_mutex_lock(&mu);
    free_mutex_unlock(&mu);
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
  ck_free();
}
END_TEST

static void lock_in_order(void *arg) {
  free_mutex_lock(&mu);
  order[atomic_fetch_add(&order_at, 1)] = (int)(intptr_t)arg;
  free_mutex_unlock(&mu);
}

START_TEST(starved_waiters_are_served_in_the_order_they_came) {
  free_mutex_lock(&mu);
  for (int i = 0; i < 8; i++) {
    go_as(i % 2, lock_in_order, (void *)(intptr_t)i);
    EVENTUALLY(waiters(&mu) == i + 1);
  }
  ration_sleep(3 * RATION_MS);
  free_mutex_unlock(&mu);
  wait_all();
  for (int i = 0; i < 8; i++) ck_assert_int_eq(order[i], i);
  ck_free();
}
END_TEST

static void lock_for_a_while(void *arg) {
  int r = mutex_within(&mu, CLOCK_MONOTONIC, (ration_ns)(intptr_t)arg);
  atomic_fetch_add(r ? &errors : &ended, 1);
  if (r) {
    ck_assert_int_eq(r, ETIMEDOUT);
    return;
  }
  total++;
  free_mutex_unlock(&mu);
}

START_TEST(lock_gives_up_in_time) {
  ck_assert_int_eq(free_mutex_timed(&mu, CLOCK_MONOTONIC, &bad_ns), 0); /* free: the time is not looked at */
  ck_assert_int_eq(free_mutex_timed(&mu, CLOCK_MONOTONIC, &bad_ns), EINVAL);
  ck_assert_int_eq(free_mutex_timed(&mu, CLOCK_MONOTONIC, &below_ns), EINVAL);
  ck_assert_int_eq(free_mutex_timed(&mu, CLOCK_MONOTONIC, &long_ago), ETIMEDOUT);
  ck_assert_int_eq(free_mutex_timed(&mu, CLOCK_PROCESS_CPUTIME_ID, &long_ago), EINVAL);
  for (int i = 0; i < 2; i++) {
    clockid_t clock = i ? CLOCK_MONOTONIC : CLOCK_REALTIME;
    ck_assert_int_eq(mutex_within(&mu, clock, 0), ETIMEDOUT);
    ck_assert_int_eq(mutex_within(&mu, clock, -RATION_SECOND), ETIMEDOUT);
    ration_ns before = ration_now();
    ck_assert_int_eq(mutex_within(&mu, clock, 5 * RATION_MS), ETIMEDOUT);
    ck_assert_int_ge(ration_now() - before, 4 * RATION_MS); /* the clocks may drift apart a little */
  }
  go(lock_for_a_while, (void *)(3 * RATION_MS));
  go_thread(lock_for_a_while, (void *)(3 * RATION_MS));
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), 2);
  ck_assert_int_eq(mu.__data.__lock, 1); /* no trace of them */
  struct timespec never = {.tv_sec = LONG_MAX, .tv_nsec = 5};
  go_as(true, unlock_it, &mu);
  ck_assert_int_eq(free_mutex_timed(&mu, CLOCK_REALTIME, &never), 0);
  wait_all();
}
END_TEST

START_TEST(who_gives_up_on_a_mutex_leaves_the_others_queued) {
  for (int i = 0; i < 2; i++) {
    free_mutex_lock(&mu);
    go_as(i, lock_in_order, (void *)1);
    EVENTUALLY(waiters(&mu) == 1);
    ck_assert_int_eq(mutex_within(&mu, CLOCK_MONOTONIC, RATION_MS), ETIMEDOUT);
    free_mutex_unlock(&mu);
    wait_all();
  }
  ck_free();
}
END_TEST

static void lock_shortly(void *arg) {
  for (int i = 0; i < 300; i++) lock_for_a_while((void *)((ration_ns)(i % 7) * 30 * RATION_US));
  (void)arg;
}
static void hold_now_and_then(void *arg) {
  (void)arg;
  for (int i = 0; i < 100; i++) {
    free_mutex_lock(&mu);
    ration_sleep(i % 10 ? 40 * RATION_US : 2 * RATION_MS);
    free_mutex_unlock(&mu);
  }
}

START_TEST(lost_waits_leave_the_mutex_whole) {
  go(hold_now_and_then, NULL);
  go_mixed(12, lock_shortly, NULL);
  wait_all();
  ck_assert_int_eq(total, atomic_load(&ended));
  ck_assert_int_eq(atomic_load(&ended) + atomic_load(&errors), 12 * 300);
  ck_assert_int_eq(waiters(&mu), 0);
  ck_assert_int_eq(mu.__data.__lock & 1, 0);
  lock_for_a_while((void *)0);
  ck_assert_int_eq(total, atomic_load(&ended));
}
END_TEST

/* The unlock of one thread and the free of the next: ASan's business. */
struct freed {
  pthread_mutex_t mu;
  pthread_rwlock_t rw;
  int users;
};
static void use_and_free(void *arg) {
  struct freed *f = arg;
  free_mutex_lock(&f->mu);
  bool last = --f->users == 0;
  free_mutex_unlock(&f->mu);
  if (last) free(f);
}
static void write_and_free(void *arg) {
  struct freed *f = arg;
  free_rwlock_wrlock(&f->rw);
  bool last = --f->users == 0;
  free_rwlock_unlock(&f->rw);
  if (last) free(f);
}
static struct freed *to_be_freed(int users) {
  struct freed *f = calloc(1, sizeof *f);
  f->users = users;
  return f;
}

START_TEST(locks_may_be_freed_by_their_last_user) {
  for (int i = 0; i < 500; i++) {
    ration_fn *fn = i % 2 ? use_and_free : write_and_free;
    struct freed *f = to_be_freed(3);
    go(fn, f);
    go_as(i % 50 < 2, fn, f);
    fn(f);
  }
  wait_all();
}
END_TEST

/* A mutex that is locked while another G is on its way to it, forked, and unlocked in the child: as pthread_atfork's handlers do. */
void sync_fork_child(void);
static void *lock_many(void *arg) {
  for (int i = 0; i < 2000; i++) {
    free_mutex_lock(&mu);
    total++;
    if (i % 100 == 0) usleep(10);
    free_mutex_unlock(&mu);
  }
  return arg;
}
#if defined(RATION_SAN_thread) || defined(__aarch64__) /* TSan wants no threads in the forked child of several, qemu-user falls over them */
#define FORKS 0
#else
#define FORKS 20
#endif
static int child_of_fork(void) {
  sync_fork_child();
  free_mutex_unlock(&mu);
  total = 0;
  pthread_t t[2];
  for (int i = 0; i < 2; i++)
    if (pthread_create(&t[i], NULL, lock_many, NULL)) return 1;
  for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
  return total == 4000 && mu.__data.__lock == 0 ? 0 : 2;
}
static void lock_until_stop(void *arg) {
  (void)arg;
  atomic_fetch_add(&started, 1);
  while (!atomic_load(&stop)) {
    free_mutex_lock(&mu);
    free_mutex_unlock(&mu);
  }
}

START_TEST(mutex_works_in_the_child_of_a_fork) {
  /* Plain threads only: the fork of a unit test is not that of the shim. */
  for (int i = 0; i < 3; i++) go_thread(lock_until_stop, NULL);
  /* A thread that is being born under ASan may hold the lock of ASan's allocator, for ever in the child. */
  EVENTUALLY(atomic_load(&started) == 3);
  for (int i = 0; i < FORKS; i++) {
    free_mutex_lock(&mu);
    usleep(i % 3 * 500);
    pid_t pid = fork();
    if (pid == 0) {
      alarm(10);
      _exit(child_of_fork());
    }
    free_mutex_unlock(&mu);
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
  }
  atomic_store(&stop, 1);
  wait_all();
}
END_TEST

/* --- conditions --- */

static int awake; /* under mu */
static void wait_for_signal(void *arg) {
  free_mutex_lock(&mu);
  atomic_fetch_add(&started, 1);
  if (free_cond_wait(&cond, &mu)) atomic_fetch_add(&errors, 1);
  order[awake++] = (int)(intptr_t)arg;
  free_mutex_unlock(&mu);
}
static int awake_now(void) {
  free_mutex_lock(&mu);
  int n = awake;
  free_mutex_unlock(&mu);
  return n;
}

START_TEST(signal_wakes_one_in_order) {
  ck_assert_int_eq(free_cond_signal(&cond), 0); /* nobody: nothing */
  for (int i = 0; i < 6; i++) {
    go_as(i % 3 == 2, wait_for_signal, (void *)(intptr_t)i);
    EVENTUALLY(waiters(&cond) == i + 1);
  }
  for (int i = 0; i < 6; i++) {
    ck_assert_int_eq(awake_now(), i);
    if (i % 2) free_mutex_lock(&mu);
    free_cond_signal(&cond);
    if (i % 2) free_mutex_unlock(&mu);
    EVENTUALLY(awake_now() == i + 1);
    ration_sleep(300 * RATION_US);
    ck_assert_int_eq(awake_now(), i + 1);
    ck_assert_int_eq(order[i], i);
  }
  wait_all();
  ck_free();
}
END_TEST

START_TEST(broadcast_moves_those_that_wait_to_the_mutex) {
  for (int i = 0; i < 10; i++) {
    go_as(i % 4 == 3, wait_for_signal, (void *)(intptr_t)i);
    EVENTUALLY(waiters(&cond) == i + 1);
  }
  free_mutex_lock(&mu);
  free_cond_broadcast(&cond);
  ck_assert_int_eq(waiters(&cond), 0);
  ck_assert_int_eq(waiters(&mu), 10); /* nobody was woken */
  free_mutex_unlock(&mu);
  wait_all();
  ck_assert_int_eq(awake, 10);
  ck_assert_int_eq(order[0], 0);
  ck_assert_int_eq(atomic_load(&errors), 0);
  ck_free();
}
END_TEST

START_TEST(broadcast_wakes_those_that_wait_now) {
  go_mixed(10, wait_for_signal, NULL);
  EVENTUALLY(waiters(&cond) == 10);
  free_cond_broadcast(&cond);
  EVENTUALLY(awake_now() == 10);
  wait_all();
  go(wait_for_signal, NULL);
  EVENTUALLY(waiters(&cond) == 1);
  ration_sleep(RATION_MS);
  ck_assert_int_eq(awake_now(), 10); /* the broadcast before was not for it */
  free_cond_broadcast(&cond);
  wait_all();
  ck_free();
}
END_TEST

/* All kinds of mutex, signals with and without it, some waits limited. */
static int tokens; /* under mu */
static void consume(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    free_mutex_lock(&mu);
    while (!tokens) {
      int r = i % 3 ? free_cond_wait(&cond, &mu) : cond_within(i % 2 ? CLOCK_REALTIME : CLOCK_MONOTONIC, i % 10 * 20 * RATION_US);
      if (r && r != ETIMEDOUT) atomic_fetch_add(&errors, 1);
    }
    tokens--;
    total++;
    free_mutex_unlock(&mu);
  }
}
static void produce(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    free_mutex_lock(&mu);
    tokens++;
    if (i % 2) free_cond_signal(&cond);
    free_mutex_unlock(&mu);
    if (i % 2 == 0) free_cond_signal(&cond);
    if (i % 64 == 0) free_cond_broadcast(&cond);
  }
}
static void produce_and_consume(void) {
  go_mixed(8, consume, (void *)500);
  go_mixed(8, produce, (void *)500);
  wait_all();
  ck_assert_int_eq(total, 4000);
  ck_assert_int_eq(tokens, 0);
  ck_assert_int_eq(atomic_load(&errors), 0);
  ck_assert_int_eq(waiters(&cond) + waiters(&mu), 0);
  ck_free();
}

START_TEST(no_signal_is_lost) { produce_and_consume(); }
END_TEST
START_TEST(no_signal_is_lost_with_a_recursive_mutex) {
  make_mutex(PTHREAD_MUTEX_RECURSIVE);
  produce_and_consume();
}
END_TEST
START_TEST(no_signal_is_lost_with_a_checking_mutex) {
  make_mutex(PTHREAD_MUTEX_ERRORCHECK);
  produce_and_consume();
}
END_TEST

/* Each token is signalled once, so a signal that goes to one that gave up would leave the other for ever. */
static void consume_within(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg;) {
    free_mutex_lock(&mu);
    while (!tokens && cond_within(CLOCK_MONOTONIC, 15 * RATION_US) == 0)
      ;
    if (tokens) {
      tokens--;
      total++;
      i++;
    }
    free_mutex_unlock(&mu);
  }
}
static void produce_signal(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    free_mutex_lock(&mu);
    tokens++;
    free_cond_signal(&cond);
    free_mutex_unlock(&mu);
    if (i % 16 == 0) ration_sleep(30 * RATION_US);
  }
}
static void consume_patiently(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    free_mutex_lock(&mu);
    while (!tokens) free_cond_wait(&cond, &mu);
    tokens--;
    total++;
    free_mutex_unlock(&mu);
  }
}

START_TEST(no_signal_goes_to_one_that_gave_up) {
  go_mixed(4, consume_within, (void *)300);
  go_mixed(4, consume_patiently, (void *)300);
  go_mixed(8, produce_signal, (void *)300);
  wait_all();
  ck_assert_int_eq(total, 2400);
  ck_free();
}
END_TEST

START_TEST(timed_wait_gives_up_with_the_mutex_held) {
  free_mutex_lock(&mu);
  ck_assert_int_eq(free_cond_timed(&cond, &mu, &bad_ns), EINVAL);
  ck_assert_int_eq(free_cond_timed(&cond, &mu, &below_ns), EINVAL);
  ck_assert_int_eq(free_cond_clock(&cond, &mu, CLOCK_BOOTTIME, &long_ago), EINVAL);
  ck_assert_int_eq(free_cond_timed(&cond, &mu, &long_ago), ETIMEDOUT);
  struct timespec ts = from_now(CLOCK_REALTIME, 5 * RATION_MS);
  ration_ns before = ration_now();
  ck_assert_int_eq(free_cond_timed(&cond, &mu, &ts), ETIMEDOUT);
  ck_assert_int_ge(ration_now() - before, 4 * RATION_MS);
  pthread_condattr_t a;
  pthread_condattr_init(&a);
  pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
  pthread_cond_init(&cond, &a);
  ts = from_now(CLOCK_MONOTONIC, 5 * RATION_MS);
  before = ration_now();
  ck_assert_int_eq(free_cond_timed(&cond, &mu, &ts), ETIMEDOUT);
  ck_assert_int_ge(ration_now() - before, 5 * RATION_MS);
  ck_assert_int_eq(free_mutex_trylock(&mu), EBUSY);
  free_mutex_unlock(&mu);
  ck_assert_int_eq(waiters(&cond), 0);
  ck_assert_int_eq(pthread_cond_destroy(&cond), 0);
  ck_free();
}
END_TEST

START_TEST(wait_without_the_mutex_is_refused) {
  make_mutex(PTHREAD_MUTEX_ERRORCHECK);
  ck_assert_int_eq(free_cond_wait(&cond, &mu), EPERM);
  ck_assert_int_eq(waiters(&cond), 0);
}
END_TEST

/* glibc: the wait gives up one lock of the two, and the waiter keeps it. */
static void *signal_often(void *arg) {
  while (!atomic_load(&stop)) {
    free_cond_signal(&cond);
    usleep(200);
  }
  return arg;
}

START_TEST(wait_with_a_mutex_locked_twice_ends) {
  make_mutex(PTHREAD_MUTEX_RECURSIVE);
  pthread_t t;
  pthread_create(&t, NULL, signal_often, NULL);
  free_mutex_lock(&mu);
  free_mutex_lock(&mu);
  ck_assert_int_eq(free_cond_wait(&cond, &mu), 0);
  ck_assert_int_eq(aside(trylock_mu, NULL), EBUSY);
  atomic_store(&stop, 1);
  pthread_join(t, NULL);
  ck_assert_int_eq(free_mutex_unlock(&mu), 0);
  ck_assert_int_eq(free_mutex_unlock(&mu), 0);
  ck_assert_int_eq(free_mutex_unlock(&mu), EPERM);
  ck_free();
}
END_TEST

static pthread_mutex_t robust;
static void *wait_with_robust(void *arg) {
  pthread_mutex_lock(&robust);
  atomic_fetch_add(&started, 1);
  while (!atomic_load(&stop)) free_cond_wait(&cond, &robust);
  total++;
  pthread_mutex_unlock(&robust);
  return arg;
}

START_TEST(condition_goes_with_a_mutex_of_the_kernel) {
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&robust, &a);
  pthread_t t[4];
  for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, wait_with_robust, NULL);
  EVENTUALLY(waiters(&cond) == 4);
  pthread_mutex_lock(&robust);
  atomic_store(&stop, 1);
  free_cond_broadcast(&cond);
  pthread_mutex_unlock(&robust);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
  ck_assert_int_eq(total, 4);
#ifndef RATION_SAN_thread
  ck_assert_int_eq(free_cond_wait(&cond, &robust), EPERM); /* not locked */
#endif
  ck_assert_int_eq(waiters(&cond), 0);
  ck_assert_int_eq(pthread_mutex_destroy(&robust), 0);
}
END_TEST

START_TEST(condition_of_the_kernel_goes_with_our_mutex) {
  free_mutex_lock(&mu);
  ck_assert_int_eq(free_cond_poll(&mu, CLOCK_REALTIME, NULL), 0);
  ck_assert_int_eq(free_mutex_trylock(&mu), EBUSY);
  struct timespec ts = from_now(CLOCK_MONOTONIC, 3 * RATION_MS);
  int r;
  while (!(r = free_cond_poll(&mu, CLOCK_MONOTONIC, &ts)))
    ;
  ck_assert_int_eq(r, ETIMEDOUT);
  ck_assert_int_eq(free_cond_poll(&mu, CLOCK_MONOTONIC, &bad_ns), EINVAL);
  free_mutex_unlock(&mu);
  ck_free();
}
END_TEST

/* The cleanup handler of a cancelled wait has the mutex. */
static void had_mutex(void *arg) {
  (void)arg;
  if (free_mutex_unlock(&mu)) atomic_fetch_add(&errors, 1);
  atomic_fetch_add(&ended, 1);
}
static void *wait_cancelled(void *ctx) {
  cancelled_by = ctx;
  free_mutex_lock(&mu);
  pthread_cleanup_push(had_mutex, NULL);
  free_cond_wait(&cond, &mu);
  atomic_fetch_add(&started, 1);
  pthread_cleanup_pop(1);
  return NULL;
}

START_TEST(cancelled_wait_has_the_mutex_and_no_signal) {
  make_mutex(PTHREAD_MUTEX_ERRORCHECK);
  struct ration_context *ctx = ration_context_with_cancel(NULL);
  pthread_t t;
  void *how;
  pthread_create(&t, NULL, wait_cancelled, ctx);
  EVENTUALLY(waiters(&cond) == 1);
  go(wait_for_signal, NULL);
  EVENTUALLY(waiters(&cond) == 2);
  ration_context_cancel(ctx);
  pthread_join(t, &how);
  ck_assert_ptr_eq(how, PTHREAD_CANCELED);
  ck_assert_int_eq(atomic_load(&ended), 1);
  free_cond_signal(&cond);
  wait_all();
  pthread_create(&t, NULL, wait_cancelled, ctx); /* it has ended before the wait begins */
  pthread_join(t, &how);
  ck_assert_ptr_eq(how, PTHREAD_CANCELED);
  ck_assert_int_eq(atomic_load(&ended), 2);
  ck_assert_int_eq(atomic_load(&errors), 0);
  ck_free();
  ration_context_unref(ctx);
}
END_TEST

START_TEST(signal_beats_cancellation) {
  for (int i = 0; i < 50; i++) {
    struct ration_context *ctx = ration_context_with_cancel(NULL);
    atomic_store(&started, 0);
    pthread_t t;
    void *how;
    pthread_create(&t, NULL, wait_cancelled, ctx);
    EVENTUALLY(waiters(&cond) == 1);
    free_mutex_lock(&mu);
    free_cond_signal(&cond);
    ration_context_cancel(ctx);
    free_mutex_unlock(&mu);
    pthread_join(t, &how);
    ck_assert_ptr_null(how);
    ck_assert_int_eq(atomic_load(&started), 1);
    ration_context_unref(ctx);
  }
  ck_free();
}
END_TEST

struct freed_cond {
  pthread_mutex_t mu;
  pthread_cond_t cond;
  int waiting, left;
};
static void wait_freed(void *arg) {
  struct freed_cond *f = arg;
  free_mutex_lock(&f->mu);
  f->waiting++;
  free_cond_wait(&f->cond, &f->mu);
  bool last = --f->left == 0;
  free_mutex_unlock(&f->mu);
  if (last) free(f);
}

START_TEST(condition_may_be_destroyed_after_a_broadcast) {
  for (int i = 0; i < 200; i++) {
    struct freed_cond *f = calloc(1, sizeof *f);
    f->left = 3;
    for (int k = 0; k < 3; k++) go_as(i % 20 == 0 && k == 0, wait_freed, f);
    for (bool all = false; !all; ration_yield()) {
      free_mutex_lock(&f->mu);
      all = f->waiting == 3;
      if (all) {
        free_cond_broadcast(&f->cond);
        ck_assert_int_eq(pthread_cond_destroy(&f->cond), 0);
        memset(&f->cond, 0xa5, sizeof f->cond);
      }
      free_mutex_unlock(&f->mu);
    }
  }
  wait_all();
}
END_TEST

/* --- readers and writers --- */

static int rd_within(ration_ns d) {
  struct timespec ts = from_now(CLOCK_MONOTONIC, d);
  return free_rwlock_timed_rdlock(&rw, CLOCK_MONOTONIC, &ts);
}
static int wr_within(ration_ns d) {
  struct timespec ts = from_now(CLOCK_REALTIME, d);
  return free_rwlock_timed_wrlock(&rw, CLOCK_REALTIME, &ts);
}

static void read_and_wait(void *arg) {
  (void)arg;
  free_rwlock_rdlock(&rw);
  atomic_fetch_add(&started, 1);
  while (!atomic_load(&stop)) ration_sleep(100 * RATION_US);
  free_rwlock_unlock(&rw);
}

START_TEST(readers_read_together) {
  go_mixed(8, read_and_wait, NULL);
  EVENTUALLY(atomic_load(&started) == 8);
  ck_assert_int_eq(free_rwlock_trywrlock(&rw), EBUSY);
  ck_assert_int_eq(free_rwlock_tryrdlock(&rw), 0);
  free_rwlock_unlock(&rw);
  atomic_store(&stop, 1);
  wait_all();
  ck_assert_int_eq(free_rwlock_trywrlock(&rw), 0);
}
END_TEST

static _Atomic int readers, writers;
static void check_inside(int readers_now, int writers_now) {
  if (writers_now > 1 || (writers_now && readers_now)) atomic_fetch_add(&errors, 1);
}
static int read_somehow(int i) {
  return i % 7 == 0 ? free_rwlock_tryrdlock(&rw) : i % 5 == 0 ? rd_within(i % 4 * 20 * RATION_US) : free_rwlock_rdlock(&rw);
}
static int write_somehow(int i) {
  return i % 7 == 0 ? free_rwlock_trywrlock(&rw) : i % 5 == 0 ? wr_within(i % 4 * 20 * RATION_US) : free_rwlock_wrlock(&rw);
}
static void reader(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    if (read_somehow(i)) continue;
    int n = atomic_fetch_add(&readers, 1) + 1;
    check_inside(n, atomic_load(&writers));
    if (i % 8 == 0) ration_yield();
    atomic_fetch_sub(&readers, 1);
    free_rwlock_unlock(&rw);
  }
}
static void writer(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    if (write_somehow(i)) continue;
    int n = atomic_fetch_add(&writers, 1) + 1;
    check_inside(atomic_load(&readers), n);
    total++;
    if (i % 8 == 0) ration_yield();
    atomic_fetch_sub(&writers, 1);
    atomic_fetch_add(&ended, 1);
    free_rwlock_unlock(&rw);
  }
}
static void writers_alone(int kind) {
  make_rwlock(kind);
  go_mixed(4, writer, (void *)500);
  go_mixed(12, reader, (void *)1000);
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), 0);
  ck_assert_int_eq(total, atomic_load(&ended));
  ck_assert_int_eq(waiters(&rw) + writers_wait(), 0);
  ck_assert_uint_eq(rw.__data.__readers, 0);
  ck_assert_int_eq(rw.__data.__cur_writer, 0);
}

START_TEST(writers_are_alone) { writers_alone(PTHREAD_RWLOCK_PREFER_READER_NP); }
END_TEST
START_TEST(writers_are_alone_where_they_are_preferred) { writers_alone(PTHREAD_RWLOCK_PREFER_WRITER_NP); }
END_TEST
START_TEST(writers_are_alone_where_they_keep_readers_out) { writers_alone(PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP); }
END_TEST

static void write_in_order(void *arg) {
  free_rwlock_wrlock(&rw);
  order[atomic_fetch_add(&order_at, 1)] = (int)(intptr_t)arg;
  free_rwlock_unlock(&rw);
}
static void read_in_order(void *arg) {
  free_rwlock_rdlock(&rw);
  order[atomic_fetch_add(&order_at, 1)] = (int)(intptr_t)arg;
  ration_sleep(RATION_MS);
  free_rwlock_unlock(&rw);
}

START_TEST(readers_pass_a_waiting_writer) {
  for (int kind = PTHREAD_RWLOCK_PREFER_READER_NP; kind <= PTHREAD_RWLOCK_PREFER_WRITER_NP; kind++) {
    make_rwlock(kind);
    free_rwlock_rdlock(&rw);
    go(write_in_order, (void *)1);
    EVENTUALLY(writers_wait() == 1);
    ck_assert_int_eq(free_rwlock_tryrdlock(&rw), 0);
    ck_assert_int_eq(free_rwlock_rdlock(&rw), 0); /* the same thread: without it this would hang */
    ck_assert_int_eq(free_rwlock_trywrlock(&rw), EBUSY);
    for (int i = 0; i < 3; i++) free_rwlock_unlock(&rw);
    wait_all();
    ck_assert_uint_eq(rw.__data.__readers, 0);
  }
}
END_TEST

START_TEST(waiting_writer_keeps_readers_out_where_it_is_to) {
  make_rwlock(PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  free_rwlock_rdlock(&rw);
  go(write_in_order, (void *)1);
  EVENTUALLY(writers_wait() == 1);
  ck_assert_int_eq(free_rwlock_tryrdlock(&rw), EBUSY);
  ck_assert_int_eq(rd_within(RATION_MS), ETIMEDOUT);
  go(read_in_order, (void *)2);
  EVENTUALLY(waiters(&rw) == 1);
  free_rwlock_unlock(&rw);
  wait_all();
  ck_assert_int_eq(order[0], 1);
  ck_assert_int_eq(order[1], 2);
  ck_assert_uint_eq(rw.__data.__readers, 0);
}
END_TEST

/* A writer unlocks; a writer and three readers wait. */
static void who_is_next(int kind, int reads_first) {
  make_rwlock(kind);
  free_rwlock_wrlock(&rw);
  go(write_in_order, (void *)9);
  EVENTUALLY(writers_wait() == 1);
  for (int i = 0; i < 3; i++) go_as(i == 2, read_in_order, (void *)1);
  EVENTUALLY(waiters(&rw) == 3);
  free_rwlock_unlock(&rw);
  wait_all();
  for (int i = 0; i < 4; i++) ck_assert_int_eq(order[i], i == (reads_first ? 3 : 0) ? 9 : 1);
}

START_TEST(readers_that_waited_go_before_the_next_writer) { who_is_next(PTHREAD_RWLOCK_PREFER_READER_NP, true); }
END_TEST
START_TEST(preferred_writers_go_before_readers) { who_is_next(PTHREAD_RWLOCK_PREFER_WRITER_NP, false); }
END_TEST

static void write_shortly(void *wait) { atomic_store(&errors, wr_within((ration_ns)wait)); }

START_TEST(writer_that_gives_up_lets_readers_in) {
  make_rwlock(PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  free_rwlock_rdlock(&rw);
  bool seen = false;
  for (ration_ns wait = 5 * RATION_MS; !seen && wait < 6 * RATION_SECOND; wait *= 4) { /* on a slow machine it has come and gone */
    wait_all();
    atomic_store(&errors, 0);
    go(write_shortly, (void *)wait);
    EVENTUALLY((seen = writers_wait() == 1) || atomic_load(&errors));
  }
  ck_assert(seen);
  go(read_in_order, (void *)1);
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), ETIMEDOUT);
  free_rwlock_unlock(&rw);
  ck_assert_uint_eq(rw.__data.__readers, 0);
}
END_TEST

START_TEST(rwlock_says_what_is_wrong) {
  ck_assert_int_eq(free_rwlock_timed_rdlock(&rw, CLOCK_REALTIME, &bad_ns), EINVAL); /* also when it is free */
  ck_assert_int_eq(free_rwlock_timed_wrlock(&rw, CLOCK_REALTIME, &below_ns), EINVAL);
  ck_assert_int_eq(free_rwlock_timed_wrlock(&rw, CLOCK_BOOTTIME, &long_ago), EINVAL);
  ck_assert_int_eq(free_rwlock_timed_wrlock(&rw, CLOCK_REALTIME, &long_ago), 0);
  ck_assert_int_eq(free_rwlock_rdlock(&rw), EDEADLK);
  ck_assert_int_eq(free_rwlock_wrlock(&rw), EDEADLK);
  ck_assert_int_eq(rd_within(0), EDEADLK);
  ck_assert_int_eq(wr_within(0), EDEADLK);
  ck_assert_int_eq(free_rwlock_tryrdlock(&rw), EBUSY);
  ck_assert_int_eq(free_rwlock_trywrlock(&rw), EBUSY);
  ck_assert_int_eq(free_rwlock_unlock(&rw), 0);
  ck_assert_int_eq(free_rwlock_unlock(&rw), 0); /* not locked: nothing */
  ck_assert_int_eq(free_rwlock_timed_rdlock(&rw, CLOCK_REALTIME, &long_ago), 0);
  ck_assert_int_eq(wr_within(RATION_MS), ETIMEDOUT);
  ck_assert_int_eq(free_rwlock_timed_wrlock(&rw, CLOCK_REALTIME, &long_ago), ETIMEDOUT);
  ck_assert_int_eq(free_rwlock_unlock(&rw), 0);
  ck_assert_uint_eq(rw.__data.__readers, 0);
}
END_TEST

/* --- barriers --- */

#define ROUNDS 300
#define PARTIES 6
static _Atomic int there[ROUNDS], serial[ROUNDS];
static void meet(void *arg) {
  (void)arg;
  for (int i = 0; i < ROUNDS; i++) {
    atomic_fetch_add(&there[i], 1);
    int r = free_barrier_wait(&barrier);
    if (r == PTHREAD_BARRIER_SERIAL_THREAD) atomic_fetch_add(&serial[i], 1);
    if ((r && r != PTHREAD_BARRIER_SERIAL_THREAD) || atomic_load(&there[i]) != PARTIES) atomic_fetch_add(&errors, 1);
  }
}

START_TEST(barrier_lets_all_go_together) {
  ck_assert_int_eq(pthread_barrier_init(&barrier, NULL, PARTIES), 0);
  ck_assert(!free_barrier_is_kernels(&barrier));
  go_mixed(PARTIES, meet, NULL);
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), 0);
  for (int i = 0; i < ROUNDS; i++) ck_assert_int_eq(serial[i], 1);
  ck_assert_int_eq(pthread_barrier_destroy(&barrier), 0);
  ck_assert_int_eq(pthread_barrier_init(&barrier, NULL, 1), 0);
  for (int i = 0; i < 3; i++) ck_assert_int_eq(free_barrier_wait(&barrier), PTHREAD_BARRIER_SERIAL_THREAD);
}
END_TEST

static void meet_and_free(void *arg) {
  pthread_barrier_t *b = arg;
  if (free_barrier_wait(b) != PTHREAD_BARRIER_SERIAL_THREAD) return;
  pthread_barrier_destroy(b);
  free(b);
}

static _Atomic int round_over, destroyed_after;
static void destroy_barrier(void *arg) {
  ck_assert_int_eq(free_barrier_destroy(arg), 0);
  atomic_store(&destroyed_after, atomic_load(&round_over));
}
static void wait_at_barrier(void *arg) { free_barrier_wait(arg); }

START_TEST(barrier_is_destroyed_after_its_round) {
  for (int i = 0; i < 4; i++) {
    atomic_store(&round_over, 0);
    pthread_barrier_init(&barrier, NULL, 2);
    go_as(i & 1, wait_at_barrier, &barrier);
    EVENTUALLY(waiters(&barrier) == 1);
    go_as(i & 2, destroy_barrier, &barrier);
    EVENTUALLY(waiters((char *)&barrier + 1) == 1);
    atomic_store(&round_over, 1);
    ck_assert_int_eq(free_barrier_wait(&barrier), PTHREAD_BARRIER_SERIAL_THREAD);
    wait_all();
    ck_assert_int_eq(atomic_load(&destroyed_after), 1);
  }
}
END_TEST

START_TEST(barrier_may_be_freed_by_who_returns_first) {
  for (int i = 0; i < 200; i++) {
    pthread_barrier_t *b = malloc(sizeof *b);
    pthread_barrier_init(b, NULL, 4);
    for (int k = 0; k < 4; k++) go_as(i % 40 == 0 && k == 1, meet_and_free, b);
    wait_all();
  }
}
END_TEST

/* --- semaphores --- */

static int sem_within(ration_ns d) {
  struct timespec ts = from_now(CLOCK_MONOTONIC, d);
  return free_sem_timed(&sem, CLOCK_MONOTONIC, &ts);
}
static void use_sem(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    if (i % 4 == 0 ? sem_within(i % 3 * 30 * RATION_US) : i % 9 == 0 ? free_sem_trywait(&sem) : free_sem_wait(&sem)) continue;
    if (atomic_fetch_add(&readers, 1) >= 3) atomic_fetch_add(&errors, 1);
    if (i % 8 == 0) ration_yield();
    atomic_fetch_sub(&readers, 1);
    if (free_sem_post(&sem)) atomic_fetch_add(&errors, 1);
  }
}

START_TEST(no_more_is_held_than_there_is) {
  sem_init(&sem, 0, 3);
  go_mixed(16, use_sem, (void *)1500);
  wait_all();
  int value = -1;
  sem_getvalue(&sem, &value);
  ck_assert_int_eq(value, 3);
  ck_assert_int_eq(atomic_load(&errors), 0);
  ck_assert_int_eq(waiters(&sem), 0);
}
END_TEST

static void post_many(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) {
    free_sem_post(&sem);
    if (i % 32 == 0) ration_yield();
  }
}
static void take_many(void *arg) {
  for (int i = 0; i < (int)(intptr_t)arg; i++) ck_assert_int_eq(free_sem_wait(&sem), 0);
}

START_TEST(no_post_is_lost) {
  sem_init(&sem, 0, 0);
  go_mixed(8, take_many, (void *)1000);
  go_mixed(8, post_many, (void *)1000);
  wait_all();
  int value = -1;
  sem_getvalue(&sem, &value);
  ck_assert_int_eq(value, 0);
  ck_assert_int_eq(waiters(&sem), 0);
}
END_TEST

START_TEST(semaphore_says_what_is_wrong) {
  sem_init(&sem, 0, 1);
  ck_assert_int_eq(free_sem_timed(&sem, CLOCK_REALTIME, &bad_ns), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_int_eq(free_sem_timed(&sem, CLOCK_BOOTTIME, &long_ago), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_int_eq(free_sem_timed(&sem, CLOCK_REALTIME, &long_ago), 0);
  ck_assert_int_eq(free_sem_trywait(&sem), -1);
  ck_assert_int_eq(errno, EAGAIN);
  ck_assert_int_eq(free_sem_timed(&sem, CLOCK_REALTIME, &long_ago), -1);
  ck_assert_int_eq(errno, ETIMEDOUT);
  ration_ns before = ration_now();
  ck_assert_int_eq(sem_within(5 * RATION_MS), -1);
  ck_assert_int_eq(errno, ETIMEDOUT);
  ck_assert_int_ge(ration_now() - before, 5 * RATION_MS);
  sem_init(&sem, 0, SEM_VALUE_MAX);
  ck_assert_int_eq(free_sem_post(&sem), -1);
  ck_assert_int_eq(errno, EOVERFLOW);
  ck_assert_int_eq(free_sem_wait(&sem), 0);
  ck_assert_int_eq(free_sem_post(&sem), 0);
}
END_TEST

START_TEST(who_gives_up_on_a_semaphore_leaves_the_others_queued) {
  sem_init(&sem, 0, 0);
  for (int i = 0; i < 2; i++) {
    go_as(i, take_many, (void *)1);
    EVENTUALLY(waiters(&sem) == 1);
    ck_assert_int_eq(sem_within(RATION_MS), -1);
    free_sem_post(&sem);
    wait_all();
  }
}
END_TEST

static void post_it(void *arg) { free_sem_post(arg); }

START_TEST(semaphore_may_be_freed_by_its_waiter) {
  for (int i = 0; i < 500; i++) {
    sem_t *s = malloc(sizeof *s);
    sem_init(s, 0, 0);
    go_as(i % 50 == 0, post_it, s);
    ck_assert_int_eq(free_sem_wait(s), 0);
    free(s);
  }
  wait_all();
}
END_TEST

static void *take_cancelled(void *ctx) {
  cancelled_by = ctx;
  free_sem_wait(&sem);
  atomic_fetch_add(&started, 1);
  return NULL;
}

START_TEST(cancelled_wait_takes_nothing) {
  sem_init(&sem, 0, 0);
  struct ration_context *ctx = ration_context_with_cancel(NULL);
  pthread_t t;
  void *how;
  pthread_create(&t, NULL, take_cancelled, ctx);
  EVENTUALLY(waiters(&sem) == 1);
  ration_context_cancel(ctx);
  pthread_join(t, &how);
  ck_assert_ptr_eq(how, PTHREAD_CANCELED);
  free_sem_post(&sem);
  pthread_create(&t, NULL, take_cancelled, ctx); /* it has ended before: not even what is there */
  pthread_join(t, &how);
  ck_assert_ptr_eq(how, PTHREAD_CANCELED);
  ck_assert_int_eq(atomic_load(&started), 0);
  ck_assert_int_eq(free_sem_trywait(&sem), 0);
  ration_context_unref(ctx);
}
END_TEST

/* --- once --- */

static void slowly(void) {
  ration_sleep(3 * RATION_MS);
  atomic_fetch_add(&started, 1);
}
static void do_once(void *arg) {
  (void)arg;
  if (free_once(&once, slowly) || atomic_load(&started) != 1) atomic_fetch_add(&errors, 1);
}

START_TEST(once_runs_once_and_all_wait_for_it) {
  go_mixed(12, do_once, NULL);
  wait_all();
  ck_assert_int_eq(atomic_load(&started), 1);
  ck_assert_int_eq(atomic_load(&errors), 0);
  ck_assert_int_eq(once, 2); /* as glibc has it */
#ifndef RATION_SAN_thread    /* it has a once of its own */
  ck_assert_int_eq(pthread_once(&once, slowly), 0);
  ck_assert_int_eq(atomic_load(&started), 1);
#endif
}
END_TEST

static pthread_once_t inner = PTHREAD_ONCE_INIT;
static void in_vain(void) {
  ration_sleep(2 * RATION_MS);
  atomic_fetch_add(&ended, 1);
  pthread_exit(NULL);
}
static void inside(void) { free_once(&inner, in_vain); }
static void *once_in_vain(void *arg) {
  free_once(&once, inside);
  atomic_fetch_add(&errors, 1);
  return arg;
}

START_TEST(once_that_was_left_begins_anew) {
  pthread_t t[3];
  for (int i = 0; i < 3; i++) pthread_create(&t[i], NULL, once_in_vain, NULL);
  for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
  ck_assert_int_eq(atomic_load(&ended), 3); /* each one after the other was the first */
  ck_assert_int_eq(atomic_load(&errors), 0);
  ck_assert_int_eq(once, 0);
  ck_assert_int_eq(inner, 0);
  go_mixed(8, do_once, NULL);
  wait_all();
  ck_assert_int_eq(atomic_load(&errors), 0);
}
END_TEST

START_TEST(once_of_the_parent_begins_anew_in_the_child) {
  pthread_once_t o = 1; /* somebody is at it: in the parent */
  pid_t pid = fork();
  if (pid == 0) {
    alarm(5);
    sync_fork_child();
    _exit(free_once(&o, slowly) || atomic_load(&started) != 1 || o != 2);
  }
  int status = 0;
  ck_assert_int_eq(waitpid(pid, &status, 0), pid);
  ck_assert_int_eq(status, 0);
}
END_TEST

/* --- a handler that waits itself may have the wake-up of the wait that it interrupts: then that looks again (free_handler_ends) --- */

#define HANDLED_ROUNDS 30000
static sem_t answered;

static void looks_again(int sig) {
  (void)sig;
  struct g *g = g_self();
  if (g->note) atomic_store(&g->wake, THREAD_READIED);
}

/* The notes of its waits lie one after the other in the same place, and what is not theirs in between. */
static __attribute__((noinline)) void use_the_stack(void) {
  char used[1024];
  memset(used, 0, sizeof used);
  __asm__ volatile("" ::"r"(used) : "memory");
}
static void *wait_and_answer(void *arg) {
  for (int i = 0; i < HANDLED_ROUNDS; i++) {
    free_sem_wait(&sem);
    if (atomic_load(&g_self()->wake)) atomic_fetch_add(&errors, 1); /* the next wait would end for nothing */
    use_the_stack();
    free_sem_post(&answered);
  }
  atomic_store(&ended, 1);
  return arg;
}
static void *post_and_wait(void *arg) {
  for (int i = 0; i < HANDLED_ROUNDS; i++) {
    free_sem_post(&sem);
    free_sem_wait(&answered);
  }
  return arg;
}

START_TEST(wait_that_a_handler_wakes_is_for_its_setter_to_end) {
  pthread_t waiter, poster;
  struct sigaction sa = {.sa_handler = looks_again, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &sa, NULL);
  sem_init(&sem, 0, 0);
  sem_init(&answered, 0, 0);
  pthread_create(&waiter, NULL, wait_and_answer, NULL);
  pthread_create(&poster, NULL, post_and_wait, NULL);
  while (!atomic_load(&ended)) pthread_kill(waiter, SIGUSR1);
  pthread_join(waiter, NULL);
  pthread_join(poster, NULL);
  ck_assert_int_eq(errors, 0);
}
END_TEST

/* --- a handler that may leave a wait which somebody else is ending, or has (sync/stop.h) --- */

static struct g *_Atomic leaver;
static sigjmp_buf out_of_wait;
enum { ENDING = 1, HAS_ENDED = 2 };
static _Atomic int ending, may_end, left_at;

static void ends_slowly(struct stop *s) {
  (void)s;
  atomic_store(&ending, ENDING);
  while (!atomic_load(&may_end)) usleep(500);
  atomic_store(&ending, HAS_ENDED);
}
static void is_left(struct stop *s) {
  (void)s;
  atomic_store(&left_at, atomic_load(&ending));
}
static void leaves(int sig) {
  stop_leave(g_self());
  siglongjmp(out_of_wait, sig);
}
static void *wait_and_leave(void *arg) {
  struct stop s = {ends_slowly, is_left};
  if (sigsetjmp(out_of_wait, 1)) return arg;
  ck_assert(stop_arm(g_self(), &s));
  atomic_store(&leaver, g_self());
  for (;;) pause();
}
static void *end_its_wait(void *arg) {
  stop_call(atomic_load(&leaver));
  return arg;
}
static pthread_t begin_leaver(void) {
  pthread_t t;
  struct sigaction sa = {.sa_handler = leaves};
  sigaction(SIGUSR1, &sa, NULL);
  pthread_create(&t, NULL, wait_and_leave, NULL);
  while (!atomic_load(&leaver)) usleep(500);
  return t;
}

START_TEST(who_leaves_a_wait_comes_after_who_is_ending_it) {
  pthread_t waiter = begin_leaver(), ender;
  pthread_create(&ender, NULL, end_its_wait, NULL);
  while (!atomic_load(&ending)) usleep(500);
  pthread_kill(waiter, SIGUSR1);
  usleep(20000);
  ck_assert_int_eq(left_at, 0);
  atomic_store(&may_end, 1);
  pthread_join(waiter, NULL);
  ck_assert_int_eq(left_at, HAS_ENDED);
  pthread_join(ender, NULL);
}
END_TEST

START_TEST(who_leaves_a_wait_that_another_has_ended_looks_itself) {
  pthread_t waiter = begin_leaver();
  atomic_store(&may_end, 1);
  end_its_wait(NULL);
  pthread_kill(waiter, SIGUSR1);
  pthread_join(waiter, NULL);
  ck_assert_int_eq(left_at, HAS_ENDED);
}
END_TEST

UNIT_MAIN("psync", mutex_keeps_others_out, adaptive_mutex_keeps_others_out, recursive_mutex_keeps_others_out,
          checking_mutex_keeps_others_out, normal_mutex_belongs_to_no_one, recursive_mutex_counts, checking_mutex_says_what_is_wrong,
          destroyed_mutex_is_nobodys, objects_of_the_kernel_are_known, mutex_starves_nobody,
          starved_waiters_are_served_in_the_order_they_came, lock_gives_up_in_time, who_gives_up_on_a_mutex_leaves_the_others_queued,
          lost_waits_leave_the_mutex_whole, locks_may_be_freed_by_their_last_user, mutex_works_in_the_child_of_a_fork,
          signal_wakes_one_in_order, broadcast_moves_those_that_wait_to_the_mutex, broadcast_wakes_those_that_wait_now, no_signal_is_lost,
          no_signal_is_lost_with_a_recursive_mutex, no_signal_is_lost_with_a_checking_mutex, no_signal_goes_to_one_that_gave_up,
          timed_wait_gives_up_with_the_mutex_held, wait_without_the_mutex_is_refused, wait_with_a_mutex_locked_twice_ends,
          condition_goes_with_a_mutex_of_the_kernel, condition_of_the_kernel_goes_with_our_mutex,
          cancelled_wait_has_the_mutex_and_no_signal, signal_beats_cancellation, condition_may_be_destroyed_after_a_broadcast,
          readers_read_together, writers_are_alone, writers_are_alone_where_they_are_preferred,
          writers_are_alone_where_they_keep_readers_out, readers_pass_a_waiting_writer, waiting_writer_keeps_readers_out_where_it_is_to,
          readers_that_waited_go_before_the_next_writer, preferred_writers_go_before_readers, writer_that_gives_up_lets_readers_in,
          rwlock_says_what_is_wrong, barrier_lets_all_go_together, barrier_is_destroyed_after_its_round,
          barrier_may_be_freed_by_who_returns_first, no_more_is_held_than_there_is, no_post_is_lost, semaphore_says_what_is_wrong,
          who_gives_up_on_a_semaphore_leaves_the_others_queued, semaphore_may_be_freed_by_its_waiter, cancelled_wait_takes_nothing,
          once_runs_once_and_all_wait_for_it, once_that_was_left_begins_anew, once_of_the_parent_begins_anew_in_the_child,
          wait_that_a_handler_wakes_is_for_its_setter_to_end, who_leaves_a_wait_comes_after_who_is_ending_it,
          who_leaves_a_wait_that_another_has_ended_looks_itself)
