/* SPDX-License-Identifier: Apache-2.0 */
/* Condition variables, read-write locks, barriers and semaphores. */
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include "checks.h"

static struct gate gate = GATE_CLOSED;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void *shared_page(void) {
  void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  MUST(p != MAP_FAILED);
  return p;
}

/* --- condition variables --- */

static void cond_attr(void) {
  pthread_condattr_t a;
  clockid_t clock = -1;
  int shared = -1;
  SAY_ERR("init", pthread_condattr_init(&a));
  pthread_condattr_getclock(&a, &clock);
  pthread_condattr_getpshared(&a, &shared);
  say("clock %d shared %d", clock, shared);
  SAY_ERR("cpu clock", pthread_condattr_setclock(&a, CLOCK_THREAD_CPUTIME_ID));
  SAY_ERR("boot time", pthread_condattr_setclock(&a, CLOCK_BOOTTIME));
  SAY_ERR("monotonic", pthread_condattr_setclock(&a, CLOCK_MONOTONIC));
  SAY_ERR("shared 9", pthread_condattr_setpshared(&a, 9));
  pthread_condattr_getclock(&a, &clock);
  say("clock %d", clock);
  SAY_ERR("destroy", pthread_condattr_destroy(&a));
}

static int tokens, waiting;
static _Atomic int through;

static void *take_token(void *arg) {
  pthread_mutex_lock(&lock);
  waiting++;
  while (tokens == 0) pthread_cond_wait(&cond, &lock);
  tokens--;
  through++;
  pthread_mutex_unlock(&lock);
  return arg;
}
static int now_waiting(void) {
  pthread_mutex_lock(&lock);
  int n = waiting;
  pthread_mutex_unlock(&lock);
  return n;
}

static void cond_counts(void) {
  pthread_t t[10];
  for (int i = 0; i < 10; i++) t[i] = start(take_token, NULL);
  UNTIL(now_waiting() == 10);
  for (int i = 1; i <= 4; i++) {
    pthread_mutex_lock(&lock);
    tokens++;
    SAY_ERR("signal", pthread_cond_signal(&cond));
    pthread_mutex_unlock(&lock);
    UNTIL(through == i);
  }
  nap(10);
  say("through %d", through);
  pthread_mutex_lock(&lock);
  tokens = 6;
  pthread_mutex_unlock(&lock);
  SAY_ERR("broadcast, unlocked", pthread_cond_broadcast(&cond));
  for (int i = 0; i < 10; i++) pthread_join(t[i], NULL);
  say("through %d, left %d", through, tokens);
  SAY_ERR("signal nobody", pthread_cond_signal(&cond));
  SAY_ERR("broadcast nobody", pthread_cond_broadcast(&cond));
  SAY_ERR("destroy", pthread_cond_destroy(&cond));
}

/* Each signal wakes one at least, sent with the lock or without. */
static void cond_signal_each(void) {
  for (int unlocked = 0; unlocked < 2; unlocked++) {
    pthread_t t[30];
    waiting = tokens = 0;
    through = 0;
    for (int i = 0; i < 30; i++) t[i] = start(take_token, NULL);
    UNTIL(now_waiting() == 30);
    for (int i = 0; i < 30; i++) {
      pthread_mutex_lock(&lock);
      tokens++;
      if (!unlocked) pthread_cond_signal(&cond);
      pthread_mutex_unlock(&lock);
      if (unlocked) pthread_cond_signal(&cond);
    }
    for (int i = 0; i < 30; i++) pthread_join(t[i], NULL);
    say("through %d", through);
  }
}

static int rounds_of;
static void *follow_rounds(void *arg) {
  pthread_mutex_lock(&lock);
  for (int i = 1; i <= 30; i++) {
    waiting++;
    pthread_cond_broadcast(&cond);
    while (rounds_of < i) pthread_cond_wait(&cond, &lock);
  }
  pthread_mutex_unlock(&lock);
  return arg;
}
static void cond_rounds(void) {
  pthread_t t[20];
  for (int i = 0; i < 20; i++) t[i] = start(follow_rounds, NULL);
  pthread_mutex_lock(&lock);
  for (int i = 1; i <= 30; i++) {
    while (waiting < 20) pthread_cond_wait(&cond, &lock);
    waiting = 0;
    rounds_of = i;
    pthread_cond_broadcast(&cond);
  }
  pthread_mutex_unlock(&lock);
  for (int i = 0; i < 20; i++) pthread_join(t[i], NULL);
  say("rounds %d", rounds_of);
}

static void cond_timed(void) {
  pthread_mutex_t m = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
  pthread_cond_t mono;
  pthread_condattr_t a;
  pthread_condattr_init(&a);
  pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
  SAY_ERR("init", pthread_cond_init(&mono, &a));
  struct timespec at, past = {1, 0}, bad = {0, 1000000000}, before = {-1, 0};
  SAY_ERR("not locked", pthread_cond_wait(&cond, &m));
  pthread_mutex_lock(&m);
  int64_t since = now_ns();
  at = in_ms(CLOCK_REALTIME, 30);
  SAY_ERR("timed", pthread_cond_timedwait(&cond, &m, &at));
  say("at least 25 ms: %d", at_least_ms(since, 25));
  SAY_ERR("still locked", pthread_mutex_lock(&m));
  since = now_ns();
  at = in_ms(CLOCK_MONOTONIC, 30);
  SAY_ERR("monotonic", pthread_cond_timedwait(&mono, &m, &at));
  say("at least 30 ms: %d", at_least_ms(since, 30));
  since = now_ns();
  at = in_ms(CLOCK_MONOTONIC, 30);
  SAY_ERR("clock", pthread_cond_clockwait(&cond, &m, CLOCK_MONOTONIC, &at));
  say("at least 30 ms: %d", at_least_ms(since, 30));
  at = in_ms(CLOCK_REALTIME, 30);
  SAY_ERR("the other clock", pthread_cond_clockwait(&mono, &m, CLOCK_REALTIME, &at));
  SAY_ERR("past", pthread_cond_timedwait(&cond, &m, &past));
  SAY_ERR("monotonic, past", pthread_cond_timedwait(&mono, &m, &past));
  SAY_ERR("before all time", pthread_cond_timedwait(&cond, &m, &before));
  SAY_ERR("bad", pthread_cond_timedwait(&cond, &m, &bad));
  SAY_ERR("bad clock", pthread_cond_clockwait(&cond, &m, CLOCK_BOOTTIME, &at));
  SAY_ERR("unlock", pthread_mutex_unlock(&m));
}

/* An error leaves the mutex as it is, also where others wait for a turn. */
static _Atomic bool errors_over;
static _Atomic int got_it;
static void *competes(void *arg) {
  while (!errors_over) continue;
  return arg;
}
static void *wants_it(void *arg) {
  while (!errors_over)
    if (pthread_mutex_trylock(&lock) == 0) {
      got_it++;
      pthread_mutex_unlock(&lock);
    }
  return arg;
}
static void cond_errors(void) {
  pthread_t t[4];
  struct timespec bad = {.tv_nsec = -1};
  pthread_mutex_lock(&lock);
  for (int i = 0; i < 4; i++) t[i] = start(i < 2 ? competes : wants_it, NULL);
  int invalid = 0;
  for (int i = 0; i < 60; i++) {
    invalid += pthread_cond_timedwait(&cond, &lock, &bad) == EINVAL;
    invalid += pthread_cond_clockwait(&cond, &lock, CLOCK_MONOTONIC, &bad) == EINVAL;
  }
  say("invalid %d, taken by others %d", invalid, got_it);
  errors_over = true;
  pthread_mutex_unlock(&lock);
  for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
}

static void *give_later(void *arg) {
  nap(20);
  pthread_mutex_lock(&lock);
  tokens++;
  pthread_mutex_unlock(&lock);
  pthread_cond_signal(&cond);
  return arg;
}
static void cond_in_time(void) {
  for (int i = 0; i < 3; i++) {
    struct timespec at = in_ms(i == 2 ? CLOCK_MONOTONIC : CLOCK_REALTIME, 60000);
    pthread_t t = start(give_later, NULL);
    int e = 0;
    pthread_mutex_lock(&lock);
    while (tokens == 0 && e == 0)
      e = i == 0   ? pthread_cond_timedwait(&cond, &lock, &at)
          : i == 1 ? pthread_cond_clockwait(&cond, &lock, CLOCK_REALTIME, &at)
                   : pthread_cond_clockwait(&cond, &lock, CLOCK_MONOTONIC, &at);
    tokens--;
    pthread_mutex_unlock(&lock);
    pthread_join(t, NULL);
    say("%s", err(e));
  }
}

#define RING 7
static struct {
  pthread_mutex_t m;
  pthread_cond_t not_empty, not_full;
  int at[RING], n, head, left;
  bool timed;
} ring = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, {0}, 0, 0, 0, false};

static void ring_wait(pthread_cond_t *c) {
  struct timespec at = in_ms(CLOCK_REALTIME, 1);
  if (ring.timed)
    pthread_cond_timedwait(c, &ring.m, &at);
  else
    pthread_cond_wait(c, &ring.m);
}
static void *produce(void *arg) {
  for (int i = 0; i < 1500; i++) {
    pthread_mutex_lock(&ring.m);
    while (ring.n == RING) ring_wait(&ring.not_full);
    ring.at[(ring.head + ring.n++) % RING] = i + (int)(intptr_t)arg;
    pthread_mutex_unlock(&ring.m);
    pthread_cond_signal(&ring.not_empty);
    if (i % 500 == 0) nap(1);
  }
  return NULL;
}
static void *consume(void *arg) {
  intptr_t sum = 0;
  (void)arg;
  for (;;) {
    pthread_mutex_lock(&ring.m);
    while (ring.n == 0 && ring.left > 0) ring_wait(&ring.not_empty);
    if (ring.n == 0) break;
    sum += ring.at[ring.head];
    ring.head = (ring.head + 1) % RING;
    ring.n--;
    if (--ring.left == 0) pthread_cond_broadcast(&ring.not_empty);
    pthread_cond_signal(&ring.not_full);
    pthread_mutex_unlock(&ring.m);
  }
  pthread_mutex_unlock(&ring.m);
  return (void *)sum;
}
static void producers_and_consumers(bool timed) {
  pthread_t p[3], c[3];
  intptr_t sum = 0;
  ring.left = 4500;
  ring.timed = timed;
  for (intptr_t i = 0; i < 3; i++) p[i] = start(produce, (void *)(i * 10000));
  for (int i = 0; i < 3; i++) c[i] = start(consume, NULL);
  for (int i = 0; i < 3; i++) pthread_join(p[i], NULL);
  for (int i = 0; i < 3; i++) sum += join_value(c[i]);
  say("sum %ld, left %d", (long)sum, ring.left);
}
static void cond_ring(void) { producers_and_consumers(false); }
static void cond_ring_timed(void) { producers_and_consumers(true); }

/* Two that take turns. */
static int turn;
static void *take_turns(void *arg) {
  int me = (int)(intptr_t)arg;
  for (int i = 0; i < 300; i++) {
    pthread_mutex_lock(&lock);
    while (turn != me) pthread_cond_wait(&cond, &lock);
    turn = !me;
    through++;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}
static void cond_turns(void) {
  pthread_t a = start(take_turns, (void *)0), b = start(take_turns, (void *)1);
  pthread_join(a, NULL);
  pthread_join(b, NULL);
  say("turns %d", through);
}

/* Waiting with a mutex of each kind. */
struct pair {
  pthread_mutex_t m;
  pthread_cond_t c;
  int state;
  bool die;
};
static void *answer_pair(void *arg) {
  struct pair *p = arg;
  pthread_mutex_lock(&p->m);
  while (p->state != 1) pthread_cond_wait(&p->c, &p->m);
  p->state = 2;
  pthread_cond_signal(&p->c);
  if (!p->die) pthread_mutex_unlock(&p->m);
  return NULL;
}
static void pair_init(struct pair *p, int type, int robust, int protocol, int shared) {
  pthread_mutexattr_t a;
  pthread_condattr_t ca;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_settype(&a, type);
  pthread_mutexattr_setrobust(&a, robust);
  pthread_mutexattr_setprotocol(&a, protocol);
  pthread_mutexattr_setpshared(&a, shared);
  pthread_condattr_init(&ca);
  pthread_condattr_setpshared(&ca, shared);
  MUST(pthread_mutex_init(&p->m, &a) == 0 && pthread_cond_init(&p->c, &ca) == 0);
  p->state = 0;
}
static void cond_mutex_kinds(void) {
  static const int types[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_ADAPTIVE_NP};
  for (int i = 0; i < 16; i++) {
    struct pair p = {.die = false};
    pair_init(&p, types[i % 4], i & 4 ? PTHREAD_MUTEX_ROBUST : 0, i & 8 ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE, 0);
    pthread_t t = start(answer_pair, &p);
    pthread_mutex_lock(&p.m);
    p.state = 1;
    pthread_cond_broadcast(&p.c);
    int e = 0;
    while (p.state != 2 && e == 0) e = pthread_cond_wait(&p.c, &p.m);
    say("%d: %s, state %d, unlock %s", i, err(e), p.state, err(pthread_mutex_unlock(&p.m)));
    pthread_join(t, NULL);
    SAY_ERR("destroy", pthread_cond_destroy(&p.c));
  }
}

/* Who is woken gets the mutex of a dead owner. */
static void cond_owner_dies(void) {
  struct pair p = {.die = true};
  pair_init(&p, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE, 0);
  pthread_t t = start(answer_pair, &p);
  pthread_mutex_lock(&p.m);
  p.state = 1;
  pthread_cond_signal(&p.c);
  int e = 0;
  while (p.state != 2) e = pthread_cond_wait(&p.c, &p.m);
  SAY_ERR("wait", e);
  SAY_ERR("consistent", pthread_mutex_consistent(&p.m));
  SAY_ERR("unlock", pthread_mutex_unlock(&p.m));
  pthread_join(t, NULL);
}

/* Destroyed and unmapped as soon as the last has been told: the others touch it no more. */
static void *wait_for_state(void *arg) {
  struct pair *p = arg;
  pthread_mutex_lock(&lock);
  waiting++;
  while (p->state == 0) pthread_cond_wait(&p->c, &lock);
  pthread_mutex_unlock(&lock);
  return NULL;
}
static void cond_unmapped(void) {
  int done = 0;
  for (int i = 0; i < 50; i++) {
    struct pair *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t t[4];
    MUST(p != MAP_FAILED);
    pthread_cond_init(&p->c, NULL);
    waiting = 0;
    for (int k = 0; k < 4; k++) t[k] = start(wait_for_state, p);
    UNTIL(now_waiting() == 4);
    pthread_mutex_lock(&lock);
    p->state = 1;
    pthread_cond_broadcast(&p->c);
    pthread_mutex_unlock(&lock);
    if (i % 2) { /* POSIX: safe at once after a broadcast, if nobody waits again; but their predicate is in this page too */
      for (int k = 0; k < 4; k++) pthread_join(t[k], NULL);
      done += pthread_cond_destroy(&p->c) == 0;
      munmap(p, 4096);
    } else {
      done += pthread_cond_destroy(&p->c) == 0;
      for (int k = 0; k < 4; k++) pthread_join(t[k], NULL);
      munmap(p, 4096);
    }
  }
  say("done %d", done);
}

static void cond_between_processes(void) {
  struct pair *p = shared_page();
  pair_init(p, PTHREAD_MUTEX_NORMAL, 0, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_SHARED);
  pid_t child = fork();
  int me = child == 0;
  for (int i = 0; i < 300; i++) {
    pthread_mutex_lock(&p->m);
    while (p->state % 2 != me) pthread_cond_wait(&p->c, &p->m);
    p->state++;
    pthread_cond_signal(&p->c);
    pthread_mutex_unlock(&p->m);
  }
  if (me) _exit(0);
  say_wait("child", child);
  say("turns %d", p->state);
}

/* --- read-write locks --- */

static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;

static const int kinds[] = {PTHREAD_RWLOCK_PREFER_READER_NP, PTHREAD_RWLOCK_PREFER_WRITER_NP, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP};

static void rwlock_attr(void) {
  pthread_rwlockattr_t a;
  int kind = -1, shared = -1;
  SAY_ERR("init", pthread_rwlockattr_init(&a));
  pthread_rwlockattr_getkind_np(&a, &kind);
  pthread_rwlockattr_getpshared(&a, &shared);
  say("kind %d shared %d", kind, shared);
  for (int i = 0; i < 3; i++) SAY_ERR("kind", pthread_rwlockattr_setkind_np(&a, kinds[i]));
  SAY_ERR("kind 99", pthread_rwlockattr_setkind_np(&a, 99));
  SAY_ERR("shared 99", pthread_rwlockattr_setpshared(&a, 99));
  SAY_ERR("destroy", pthread_rwlockattr_destroy(&a));
}

static void rw_init(int kind, int shared, pthread_rwlock_t *l) {
  pthread_rwlockattr_t a;
  pthread_rwlockattr_init(&a);
  pthread_rwlockattr_setkind_np(&a, kind);
  pthread_rwlockattr_setpshared(&a, shared);
  MUST(pthread_rwlock_init(l, &a) == 0);
}

static void *read_at_gate(void *arg) {
  int e = pthread_rwlock_rdlock(&rw);
  gate_pass(&gate);
  pthread_rwlock_unlock(&rw);
  (void)arg;
  return (void *)(intptr_t)e;
}
static void *write_once(void *arg) {
  int e = pthread_rwlock_wrlock(&rw);
  through++;
  pthread_rwlock_unlock(&rw);
  (void)arg;
  return (void *)(intptr_t)e;
}

static void rwlock_shared_reading(void) {
  pthread_t t[8];
  for (int i = 0; i < 8; i++) t[i] = start(read_at_gate, NULL);
  gate_await(&gate, 8);
  SAY_ERR("try to write", pthread_rwlock_trywrlock(&rw));
  SAY_ERR("try to read", pthread_rwlock_tryrdlock(&rw));
  SAY_ERR("unlock", pthread_rwlock_unlock(&rw));
  pthread_t w = start(write_once, NULL);
  nap(10);
  say("through %d", through);
  gate_open(&gate);
  for (int i = 0; i < 8; i++) say("reader %s", err((int)join_value(t[i])));
  say("writer %s", err((int)join_value(w)));
  say("through %d", through);
}

/* A reader inside, a writer waiting: may another reader come in? */
static void rwlock_kinds(void) {
  for (int i = 0; i < 3; i++) {
    gate.open = false;
    gate.arrived = 0;
    rw_init(kinds[i], PTHREAD_PROCESS_PRIVATE, &rw);
    pthread_t r = start(read_at_gate, NULL);
    gate_await(&gate, 1);
    pthread_t w = start(write_once, NULL);
    nap(80);
    int e = pthread_rwlock_tryrdlock(&rw);
    say("kind %d: %s", kinds[i], err(e));
    if (e == 0) pthread_rwlock_unlock(&rw);
    struct timespec at = in_ms(CLOCK_REALTIME, 20);
    e = pthread_rwlock_timedrdlock(&rw, &at);
    say("kind %d, timed: %s", kinds[i], err(e));
    if (e == 0) pthread_rwlock_unlock(&rw);
    gate_open(&gate);
    say("%s %s", err((int)join_value(r)), err((int)join_value(w)));
    SAY_ERR("destroy", pthread_rwlock_destroy(&rw));
  }
}

static void *write_at_gate(void *arg) {
  int e = pthread_rwlock_wrlock(&rw);
  gate_pass(&gate);
  pthread_rwlock_unlock(&rw);
  (void)arg;
  return (void *)(intptr_t)e;
}
static void rwlock_timed(void) {
  struct timespec at, past = {1, 0}, bad = {0, 1000000000};
  pthread_t w = start(write_at_gate, NULL);
  gate_await(&gate, 1);
  for (int i = 0; i < 2; i++) {
    int64_t since = now_ns();
    at = in_ms(CLOCK_REALTIME, 20);
    SAY_ERR("timed", i ? pthread_rwlock_timedwrlock(&rw, &at) : pthread_rwlock_timedrdlock(&rw, &at));
    say("at least 15 ms: %d", at_least_ms(since, 15));
    since = now_ns();
    at = in_ms(CLOCK_MONOTONIC, 20);
    SAY_ERR("clock", i ? pthread_rwlock_clockwrlock(&rw, CLOCK_MONOTONIC, &at) : pthread_rwlock_clockrdlock(&rw, CLOCK_MONOTONIC, &at));
    say("at least 20 ms: %d", at_least_ms(since, 20));
    SAY_ERR("past", i ? pthread_rwlock_timedwrlock(&rw, &past) : pthread_rwlock_timedrdlock(&rw, &past));
    SAY_ERR("bad", i ? pthread_rwlock_timedwrlock(&rw, &bad) : pthread_rwlock_timedrdlock(&rw, &bad));
    SAY_ERR("bad clock", i ? pthread_rwlock_clockwrlock(&rw, CLOCK_BOOTTIME, &at) : pthread_rwlock_clockrdlock(&rw, CLOCK_BOOTTIME, &at));
  }
  gate_open(&gate);
  at = in_ms(CLOCK_REALTIME, 60000);
  SAY_ERR("in time", pthread_rwlock_timedwrlock(&rw, &at));
  SAY_ERR("write in write", pthread_rwlock_timedwrlock(&rw, &at));
  SAY_ERR("read in write", pthread_rwlock_timedrdlock(&rw, &at));
  SAY_ERR("unlock", pthread_rwlock_unlock(&rw));
  say("writer %s", err((int)join_value(w)));
}

static struct {
  pthread_rwlock_t l;
  long a, b;
} * both;

static void *read_and_write(void *arg) {
  intptr_t bad = 0;
  for (int i = 0; i < 400; i++) {
    if (i % 5 == (int)(intptr_t)arg % 5) {
      if (i % 2)
        pthread_rwlock_wrlock(&both->l);
      else
        while (pthread_rwlock_trywrlock(&both->l) != 0) sched_yield();
      both->a++;
      if (i % 40 == 0) nap(1);
      both->b++;
    } else {
      pthread_rwlock_rdlock(&both->l);
      bad += both->a != both->b;
    }
    pthread_rwlock_unlock(&both->l);
  }
  return (void *)bad;
}
static void rwlock_exclusion(void) {
  for (int i = 0; i < 3; i++) {
    pthread_t t[5];
    intptr_t bad = 0;
    both = shared_page();
    rw_init(kinds[i], i % 2, &both->l);
    for (intptr_t k = 0; k < 5; k++) t[k] = start(read_and_write, (void *)k);
    for (int k = 0; k < 5; k++) bad += join_value(t[k]);
    say("writes %ld %ld, bad %ld", both->a, both->b, (long)bad);
  }
}

static void rwlock_between_processes(void) {
  both = shared_page();
  rw_init(kinds[0], PTHREAD_PROCESS_SHARED, &both->l);
  pid_t p[3];
  for (intptr_t i = 0; i < 3; i++) {
    p[i] = fork();
    if (p[i] == 0) _exit((int)(intptr_t)read_and_write((void *)i));
  }
  for (int i = 0; i < 3; i++) say_wait("child", p[i]);
  say("writes %ld %ld", both->a, both->b);
}

static void rwlock_many_reads(void) {
  for (int i = 0; i < 1000; i++) MUST(pthread_rwlock_rdlock(&rw) == 0);
  SAY_ERR("write", pthread_rwlock_trywrlock(&rw));
  for (int i = 0; i < 1000; i++) MUST(pthread_rwlock_unlock(&rw) == 0);
  SAY_ERR("write", pthread_rwlock_trywrlock(&rw));
}

/* --- barriers --- */

static pthread_barrier_t barrier;
static _Atomic int serial, at_barrier, early;
static bool serial_here(pthread_barrier_t *b) {
  int e = pthread_barrier_wait(b);
  return e == PTHREAD_BARRIER_SERIAL_THREAD;
}
static void *pass_barrier(void *arg) {
  for (int i = 1; i <= 40; i++) {
    at_barrier++;
    int e = pthread_barrier_wait(&barrier);
    if (at_barrier < i * 5) early++;
    if (e == PTHREAD_BARRIER_SERIAL_THREAD)
      serial++;
    else if (e != 0)
      say("%s", err(e));
  }
  return arg;
}
static void barrier_rounds(void) {
  pthread_t t[5];
  SAY_ERR("for none", pthread_barrier_init(&barrier, NULL, 0));
  SAY_ERR("for one", pthread_barrier_init(&barrier, NULL, 1));
  say("alone: serial %d", serial_here(&barrier));
  SAY_ERR("destroy", pthread_barrier_destroy(&barrier));
  SAY_ERR("for five", pthread_barrier_init(&barrier, NULL, 5));
  for (int i = 0; i < 5; i++) t[i] = start(pass_barrier, NULL);
  for (int i = 0; i < 5; i++) pthread_join(t[i], NULL);
  say("serial %d, early %d", serial, early);
  SAY_ERR("destroy", pthread_barrier_destroy(&barrier));
}

/* Whoever is through first may destroy it. */
static void *pass_given(void *arg) {
  (void)!pthread_barrier_wait(arg);
  return NULL;
}
static void barrier_unmapped(void) {
  for (int i = 0; i < 100; i++) {
    pthread_barrier_t *b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(b != MAP_FAILED && pthread_barrier_init(b, NULL, 3) == 0);
    pthread_t x = start(pass_given, b), y = start(pass_given, b);
    pthread_barrier_wait(b);
    MUST(pthread_barrier_destroy(b) == 0);
    munmap(b, 4096);
    pthread_join(x, NULL);
    pthread_join(y, NULL);
  }
  say("done");
}

static void barrier_between_processes(void) {
  struct {
    pthread_barrier_t b;
    _Atomic int serial;
  } *s = shared_page();
  pthread_barrierattr_t a;
  pthread_barrierattr_init(&a);
  SAY_ERR("shared", pthread_barrierattr_setpshared(&a, PTHREAD_PROCESS_SHARED));
  SAY_ERR("init", pthread_barrier_init(&s->b, &a, 3));
  pid_t p[2];
  int i;
  for (i = 0; i < 2; i++)
    if ((p[i] = fork()) == 0) break;
  for (int k = 0; k < 50; k++)
    if (serial_here(&s->b)) s->serial++;
  if (i < 2) _exit(0);
  for (i = 0; i < 2; i++) say_wait("child", p[i]);
  say("serial %d", s->serial);
}

/* --- semaphores --- */

static sem_t sem, sem_back;

static void sem_values(void) {
  int v = -1;
  SAY_CALL("init", sem_init(&sem, 0, 3));
  sem_getvalue(&sem, &v);
  say("value %d", v);
  for (int i = 0; i < 4; i++) SAY_CALL("try", sem_trywait(&sem));
  SAY_CALL("post", sem_post(&sem));
  sem_getvalue(&sem, &v);
  say("value %d", v);
  SAY_CALL("destroy", sem_destroy(&sem));
  SAY_CALL("too much", sem_init(&sem, 0, (unsigned)SEM_VALUE_MAX + 1));
  SAY_CALL("most", sem_init(&sem, 0, SEM_VALUE_MAX));
  SAY_CALL("one more", sem_post(&sem));
  SAY_CALL("wait", sem_wait(&sem));
  SAY_CALL("post", sem_post(&sem));
  sem_getvalue(&sem, &v);
  say("value %d", v);
}

static void *post_later(void *arg) {
  nap(20);
  sem_post(&sem);
  return arg;
}
static void sem_timed(void) {
  sem_init(&sem, 0, 0);
  int64_t since = now_ns();
  struct timespec at = in_ms(CLOCK_REALTIME, 30), past = {1, 0}, bad = {0, -5};
  SAY_CALL("timed", sem_timedwait(&sem, &at));
  say("at least 25 ms: %d", at_least_ms(since, 25));
  since = now_ns();
  at = in_ms(CLOCK_MONOTONIC, 30);
  SAY_CALL("clock", sem_clockwait(&sem, CLOCK_MONOTONIC, &at));
  say("at least 30 ms: %d", at_least_ms(since, 30));
  SAY_CALL("past", sem_timedwait(&sem, &past));
  SAY_CALL("bad", sem_timedwait(&sem, &bad));
  for (int i = 0; i < 2; i++) {
    pthread_t t = start(post_later, NULL);
    at = in_ms(i ? CLOCK_MONOTONIC : CLOCK_REALTIME, 60000);
    SAY_CALL("in time", i ? sem_clockwait(&sem, CLOCK_MONOTONIC, &at) : sem_timedwait(&sem, &at));
    pthread_join(t, NULL);
  }
}

static void *wait_sem(void *arg) {
  while (sem_wait(&sem) != 0) {
  }
  through++;
  return arg;
}
static void sem_many(void) {
  pthread_t t[30];
  int v = -1;
  sem_init(&sem, 0, 0);
  for (int i = 0; i < 30; i++) t[i] = start(wait_sem, NULL);
  for (int i = 1; i <= 10; i++) {
    sem_post(&sem);
    UNTIL(through == i);
  }
  nap(10);
  say("through %d", through);
  for (int i = 0; i < 20; i++) sem_post(&sem);
  for (int i = 0; i < 30; i++) pthread_join(t[i], NULL);
  sem_getvalue(&sem, &v);
  say("through %d, value %d", through, v);
}

static void *answer_posts(void *arg) {
  for (int i = 0; i < 2000; i++) {
    sem_wait(&sem);
    sem_post(&sem_back);
  }
  return arg;
}
static void sem_turns(void) {
  sem_init(&sem, 0, 0);
  sem_init(&sem_back, 0, 0);
  pthread_t t = start(answer_posts, NULL);
  for (int i = 0; i < 2000; i++) {
    sem_post(&sem);
    sem_wait(&sem_back);
  }
  pthread_join(t, NULL);
  say("done");
}

static void on_signal(int sig) {
  (void)sig;
  sem_post(&sem);
}
static void sem_from_handler(void) {
  struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sem_init(&sem, 0, 0);
  sigaction(SIGUSR1, &a, NULL);
  pthread_t t = start(wait_sem, NULL);
  nap(10);
  pthread_kill(t, SIGUSR1); /* to the waiter itself */
  pthread_join(t, NULL);
  t = start(wait_sem, NULL);
  raise(SIGUSR1);
  pthread_join(t, NULL);
  say("through %d", through);
}

/* The waiter may end the semaphore's life as soon as it is through. */
static void *post_given(void *arg) {
  sem_post(arg);
  return NULL;
}
static void sem_unmapped(void) {
  for (int i = 0; i < 200; i++) {
    sem_t *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(s != MAP_FAILED && sem_init(s, 0, 0) == 0);
    pthread_t t = start(post_given, s);
    sem_wait(s);
    sem_destroy(s);
    munmap(s, 4096);
    pthread_join(t, NULL);
  }
  say("done");
}

static sem_t *named;
static void *wait_named(void *arg) {
  sem_wait(named);
  through++;
  return arg;
}
static void sem_named(void) {
  char name[64];
  int v = -1;
  snprintf(name, sizeof name, "/rationtest-%d", getpid());
  named = sem_open(name, O_CREAT | O_EXCL, 0600, 1);
  say("open %d", named != SEM_FAILED);
  MUST(named != SEM_FAILED);
  errno = 0;
  say("again, exclusive %d %s", sem_open(name, O_CREAT | O_EXCL, 0600, 1) == SEM_FAILED, err(errno));
  say("again, the same %d", sem_open(name, 0) == named);
  errno = 0;
  say("no such %d %s", sem_open("/rationtest-none", 0) == SEM_FAILED, err(errno));
  SAY_CALL("close", sem_close(named));
  SAY_CALL("wait", sem_wait(named));
  SAY_CALL("try", sem_trywait(named));
  pthread_t t = start(wait_named, NULL);
  pid_t p = fork();
  if (p == 0) {
    sem_t *mine = sem_open(name, 0);
    if (mine == SEM_FAILED) _exit(1);
    nap(20);
    sem_post(mine);
    _exit(0);
  }
  pthread_join(t, NULL);
  say_wait("child", p);
  struct timespec at = in_ms(CLOCK_REALTIME, 10);
  SAY_CALL("timed", sem_timedwait(named, &at));
  sem_getvalue(named, &v);
  say("through %d, value %d", through, v);
  SAY_CALL("unlink", sem_unlink(name));
  SAY_CALL("unlink", sem_unlink(name));
  SAY_CALL("close", sem_close(named));
}

static void sem_between_processes(void) {
  struct {
    sem_t a, b;
    int n;
  } *s = shared_page();
  SAY_CALL("init", sem_init(&s->a, 1, 0));
  SAY_CALL("init", sem_init(&s->b, 1, 0));
  pid_t p = fork();
  for (int i = 0; i < 500; i++) {
    if (p == 0) {
      sem_wait(&s->a);
      s->n++;
      sem_post(&s->b);
    } else {
      sem_post(&s->a);
      sem_wait(&s->b);
    }
  }
  if (p == 0) _exit(0);
  say_wait("child", p);
  say("turns %d", s->n);
}

/* Handlers run while a thread waits at a condition, and it waits on. */
static _Atomic int handlers, woken;
static bool signalled;
static void count_handler(int sig) {
  (void)sig;
  handlers++;
}
static void *waits_once(void *arg) {
  struct timespec at = in_ms(CLOCK_REALTIME, 60000);
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  if ((intptr_t)arg & 1) pthread_sigmask(SIG_BLOCK, &usr1, NULL);
  pthread_mutex_lock(&lock);
  waiting++;
  int e = (intptr_t)arg & 2 ? pthread_cond_timedwait(&cond, &lock, &at) : pthread_cond_wait(&cond, &lock);
  say("%d: %s, signalled %d", (int)(intptr_t)arg, err(e), signalled);
  woken++;
  pthread_mutex_unlock(&lock);
  return NULL;
}
static bool waits_now(void) {
  pthread_mutex_lock(&lock);
  int n = waiting;
  pthread_mutex_unlock(&lock);
  return n > 0;
}
static void cond_through_handlers(void) {
  struct sigaction a = {.sa_handler = count_handler};
  sigaction(SIGUSR1, &a, NULL);
  for (intptr_t i = 0; i < 4; i++) {
    waiting = 0;
    handlers = 0;
    signalled = false;
    pthread_t t = start(waits_once, (void *)i);
    UNTIL(waits_now());
    for (int k = 0; k < 5; k++) {
      pthread_kill(t, SIGUSR1);
      if (i & 1)
        nap(5);
      else
        UNTIL(handlers == k + 1);
      nap(2);
    }
    say("handlers %d, woken %d", handlers, woken - (int)i);
    pthread_mutex_lock(&lock);
    signalled = true;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&lock);
    pthread_join(t, NULL);
  }
}

/* A mutex that somebody waits with is not destroyed. */
static void cond_keeps_mutex(void) {
  waiting = 0;
  pthread_t t = start(waits_once, NULL);
  UNTIL(waits_now());
  SAY_ERR("destroy", pthread_mutex_destroy(&lock));
  pthread_mutex_lock(&lock);
  signalled = true;
  pthread_cond_signal(&cond);
  pthread_mutex_unlock(&lock);
  pthread_join(t, NULL);
  SAY_ERR("destroy", pthread_mutex_destroy(&lock));
}

/*
 * One waits for a condition while another tries for the mutex, which it need not find locked: as squid's main thread, which does something else when its try was in vain.
 */
#define TRIES 200
static pthread_mutex_t tried = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t tried_cond = PTHREAD_COND_INITIALIZER;
static int tried_pipe[2], tried_turn;

static void *waits_for_turns(void *arg) {
  for (int i = 0; i < TRIES; i++) {
    MUST(write(tried_pipe[1], "x", 1) == 1);
    for (int64_t until = now_ns() + 300000; now_ns() < until;)
      ;
    pthread_mutex_lock(&tried);
    while (tried_turn <= i) pthread_cond_wait(&tried_cond, &tried);
    pthread_mutex_unlock(&tried);
  }
  return arg;
}
static void tries_are_not_in_vain(void) {
  char c;
  int vain = 0;
  MUST(pipe(tried_pipe) == 0);
  pthread_t t = start(waits_for_turns, NULL);
  for (int i = 0; i < TRIES; i++) {
    MUST(read(tried_pipe[0], &c, 1) == 1);
    if (pthread_mutex_trylock(&tried) != 0) vain++, pthread_mutex_lock(&tried);
    tried_turn++;
    pthread_cond_signal(&tried_cond);
    pthread_mutex_unlock(&tried);
  }
  pthread_join(t, NULL);
  say("in vain %s", vain <= 4 ? "few" : "many");
}

const struct check wait_checks[] = {
    CHECK(tries_are_not_in_vain),
    CHECK(cond_attr),
    CHECK(cond_counts),
    CHECK(cond_signal_each),
    CHECK(cond_rounds),
    CHECK(cond_timed),
    CHECK(cond_errors),
    CHECK(cond_in_time),
    CHECK(cond_ring),
    CHECK(cond_ring_timed),
    CHECK(cond_turns),
    CHECK(cond_mutex_kinds),
    CHECK(cond_owner_dies),
    CHECK(cond_unmapped),
    CHECK(cond_between_processes),
    CHECK(cond_through_handlers),
    CHECK(cond_keeps_mutex),
    CHECK(rwlock_attr),
    CHECK(rwlock_shared_reading),
    CHECK(rwlock_kinds),
    CHECK(rwlock_timed),
    CHECK(rwlock_exclusion),
    CHECK(rwlock_between_processes),
    CHECK(rwlock_many_reads),
    CHECK(barrier_rounds),
    CHECK(barrier_unmapped),
    CHECK(barrier_between_processes),
    CHECK(sem_values),
    CHECK(sem_timed),
    CHECK(sem_many),
    CHECK(sem_turns),
    CHECK(sem_from_handler),
    CHECK(sem_unmapped),
    CHECK(sem_named),
    CHECK(sem_between_processes),
    CHECKS_END,
};
