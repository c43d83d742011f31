/* SPDX-License-Identifier: Apache-2.0 */
/* Who is woken on the waker's CPU (core/place.c): real threads, whose masks the kernel tells. */
#include "core/place.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include "core/sched.h"
#include "unit.h"

#define ROUNDS 20000
#define ENOUGH_NS 3000000000u /* beside other load a round takes a ms */

static cpu_set_t whole;

/* A thread that sleeps as an M does, until word is not 0. */
static struct sleeper {
  struct m m;
  pthread_t thread;
  _Atomic uint32_t word, up;
  _Atomic bool end;
  cpu_set_t awake; /* its mask when it had been woken */
  _Atomic unsigned rounds, handled, deferred, narrow;
} s;

static cpu_set_t mask_of(uint32_t tid) {
  cpu_set_t c;
  ck_assert_int_eq(sched_getaffinity((pid_t)tid, sizeof c, &c), 0);
  return c;
}

static bool is_whole(const cpu_set_t *c) { return CPU_EQUAL(c, &whole); }

static cpu_set_t one(int cpu) {
  cpu_set_t c;
  CPU_ZERO(&c);
  CPU_SET(cpu, &c);
  return c;
}

static int a_cpu(int n) {
  for (int i = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &whole) && n-- == 0) return i;
  return -1;
}

static void sleep_once(void) {
  place_asleep(&s.m);
  while (!atomic_load(&s.word)) sys_futex_wait(&s.word, 0, SYS_FOREVER, false);
  atomic_store(&s.word, 0);
  place_awake(&s.m);
}

static void *sleeper_main(void *arg) {
  s.m.tid = sys_gettid();
  s.m.slot = &s.m.own_slot;
  m_self = &s.m;
  atomic_store(&s.up, 1);
  do {
    sleep_once();
    s.awake = mask_of(0);
    atomic_fetch_add(&s.narrow, !is_whole(&s.awake));
    atomic_fetch_add(&s.rounds, 1);
  } while (!atomic_load(&s.end));
  return arg;
}

/* Until it sleeps in the kernel, as /proc has it. */
static void await_sleep(void) {
  char path[64], line[512];
  snprintf(path, sizeof path, "/proc/self/task/%u/stat", s.m.tid);
  for (int i = 0; i < 10000; i++) {
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = 0;
    const char *p = strrchr(line, ')');
    if (__atomic_load_n(&s.m.place_ok, __ATOMIC_RELAXED) && p && p[2] == 'S') return;
    struct timespec ts = {0, 100000};
    nanosleep(&ts, NULL);
  }
  ck_abort_msg("it does not sleep");
}

static void begin(void) {
  sched_lock();
  place_measure(sys_now());
  sched_unlock();
  whole = mask_of(0);
  ck_assert_int_eq(pthread_create(&s.thread, NULL, sleeper_main, NULL), 0);
  while (!atomic_load(&s.up)) sched_yield();
  await_sleep();
}

/* Among all Ms. */
static void list_it(void) {
  sched_lock();
  s.m.next = sched.allm;
  sched.allm = &s.m;
  sched_unlock();
}

static void place(void) {
  sched_lock();
  place_m(&s.m);
  sched_unlock();
}

static uint32_t placed(void) { return __atomic_load_n(&s.m.placed, __ATOMIC_RELAXED); }

static void rouse(void) {
  atomic_store(&s.word, 1);
  sys_futex_wake(&s.word, 1, false);
}

static void wake(void) {
  unsigned before = atomic_load(&s.rounds);
  rouse();
  while (atomic_load(&s.rounds) == before) sched_yield();
}

/* It may see the end in the round before, and make no other. */
static void finish(void) {
  atomic_store(&s.end, true);
  rouse();
  pthread_join(s.thread, NULL);
}

START_TEST(it_has_one_cpu_until_it_is_awake) {
  begin();
  cpu_set_t here = one(a_cpu(1));
  ck_assert_int_eq(sched_setaffinity(0, sizeof here, &here), 0);
  place();
  cpu_set_t has = mask_of(s.m.tid);
  ck_assert(CPU_EQUAL(&has, &here));
  wake();
  ck_assert(is_whole(&s.awake));
  ck_assert_uint_eq(placed(), 0);
  finish();
}
END_TEST

START_TEST(who_has_cpus_of_its_own_keeps_them) {
  begin();
  cpu_set_t own = one(a_cpu(0));
  ck_assert_int_eq(sched_setaffinity((pid_t)s.m.tid, sizeof own, &own), 0);
  place();
  ck_assert_uint_eq(placed(), 0);
  wake();
  ck_assert(CPU_EQUAL(&s.awake, &own));
  finish();
}
END_TEST

START_TEST(what_another_sets_meanwhile_stays) {
  begin();
  cpu_set_t here = one(a_cpu(1)), theirs = one(a_cpu(0));
  ck_assert_int_eq(sched_setaffinity(0, sizeof here, &here), 0);
  place();
  ck_assert_uint_ne(placed(), 0);
  ck_assert_int_eq(sched_setaffinity((pid_t)s.m.tid, sizeof theirs, &theirs), 0);
  wake();
  ck_assert(CPU_EQUAL(&s.awake, &theirs));
  finish();
}
END_TEST

START_TEST(what_the_program_sets_is_its_own) {
  begin();
  cpu_set_t here = one(a_cpu(1));
  ck_assert_int_eq(sched_setaffinity(0, sizeof here, &here), 0);
  place();
  ck_assert_uint_ne(placed(), 0);
  place_sets(s.m.tid); /* not in the list of Ms: nothing happens */
  list_it();
  place_sets(s.m.tid);
  cpu_set_t has = mask_of(s.m.tid);
  ck_assert(is_whole(&has));
  ck_assert_int_eq(sched_setaffinity((pid_t)s.m.tid, sizeof here, &here), 0);
  wake();
  place();
  ck_assert_uint_eq(placed(), 0);
  finish();
}
END_TEST

START_TEST(the_program_does_not_see_it) {
  begin();
  list_it();
  ck_assert(!place_hides(s.m.tid));
  place();
  ck_assert(place_hides(s.m.tid));
  cpu_set_t has = mask_of(s.m.tid);
  ck_assert(is_whole(&has));
  wake();
  ck_assert(is_whole(&s.awake));
  finish();
}
END_TEST

START_TEST(nobody_is_placed_after_the_end) {
  begin();
  list_it();
  place();
  ck_assert_uint_ne(placed(), 0);
  place_stop();
  cpu_set_t has = mask_of(s.m.tid);
  ck_assert(is_whole(&has));
  ck_assert_uint_eq(placed(), 0);
  place();
  ck_assert_uint_eq(placed(), 0);
  finish();
}
END_TEST

static void on_usr1(int sig) {
  if (m_self->locks) { /* in scheduler code: put off, as gate_defer has it */
    atomic_fetch_add(&s.deferred, 1);
    return;
  }
  (void)sig;
  uint32_t was = place_handler_begins(m_self);
  cpu_set_t c;
  for (int i = 0; i < 20; i++) {
    if (sched_getaffinity(0, sizeof c, &c) != 0 || !is_whole(&c)) atomic_fetch_add(&s.narrow, 1);
  }
  atomic_fetch_add(&s.handled, 1);
  place_handler_ends(m_self, was);
}

/* One after another: who has always the next one pending does nothing but handle them. */
static void *signals(void *arg) {
  while (!atomic_load(&s.end)) {
    unsigned seen = atomic_load(&s.handled) + atomic_load(&s.deferred);
    pthread_kill(s.thread, SIGUSR1);
    do sched_yield();
    while (!atomic_load(&s.end) && atomic_load(&s.handled) + atomic_load(&s.deferred) == seen);
  }
  return arg;
}

/* Neither it nor its handlers, which come at any moment, ever run on the one CPU. */
START_TEST(nothing_runs_with_our_mask) {
  struct sigaction sa = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &sa, NULL);
  begin();
  pthread_t t;
  ck_assert_int_eq(pthread_create(&t, NULL, signals, NULL), 0);
  unsigned n = 0;
  uint64_t enough = sys_now() + ENOUGH_NS;
  for (unsigned i = 0; i < ROUNDS && (i < ROUNDS / 40 || sys_now() < enough); i++) {
    place();
    n += placed() != 0;
    wake();
  }
  finish();
  pthread_join(t, NULL);
  ck_assert_uint_gt(n, 0);
  ck_assert_uint_gt(atomic_load(&s.handled), 0);
  ck_assert_uint_eq(atomic_load(&s.narrow), 0);
}
END_TEST

int main(void) {
  cpu_set_t c;
  if (sched_getaffinity(0, sizeof c, &c) != 0 || CPU_COUNT(&c) < 2) {
    puts("one CPU only: nobody can be placed");
    return UNIT_SKIP;
  }
  const TTest *const tests[] = {it_has_one_cpu_until_it_is_awake, who_has_cpus_of_its_own_keeps_them, what_another_sets_meanwhile_stays,
                                what_the_program_sets_is_its_own, the_program_does_not_see_it,        nobody_is_placed_after_the_end,
                                nothing_runs_with_our_mask};
  return unit_run("place", tests, sizeof tests / sizeof *tests);
}
