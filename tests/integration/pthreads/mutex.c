/* SPDX-License-Identifier: Apache-2.0 */
/* Mutexes of each type and protocol, and spin locks.  (posix.c has what one thread's calls return.) */
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include "checks.h"

static struct gate gate = GATE_CLOSED;

static void *shared_page(void) {
  void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  MUST(p != MAP_FAILED);
  return p;
}

/* --- attributes --- */

static void attr_values(void) {
  pthread_mutexattr_t a;
  int type = -1, robust = -1, protocol = -1, shared = -1, ceiling = -1;
  SAY_ERR("init", pthread_mutexattr_init(&a));
  pthread_mutexattr_gettype(&a, &type);
  pthread_mutexattr_getrobust(&a, &robust);
  pthread_mutexattr_getprotocol(&a, &protocol);
  pthread_mutexattr_getpshared(&a, &shared);
  pthread_mutexattr_getprioceiling(&a, &ceiling);
  say("type %d robust %d protocol %d shared %d ceiling %d", type, robust, protocol, shared, ceiling);
  SAY_ERR("type 99", pthread_mutexattr_settype(&a, 99));
  SAY_ERR("robust 99", pthread_mutexattr_setrobust(&a, 99));
  SAY_ERR("protocol 99", pthread_mutexattr_setprotocol(&a, 99));
  SAY_ERR("shared 99", pthread_mutexattr_setpshared(&a, 99));
  SAY_ERR("ceiling 999", pthread_mutexattr_setprioceiling(&a, 999));
  SAY_ERR("ceiling 1", pthread_mutexattr_setprioceiling(&a, 1));
  SAY_ERR("protect", pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_PROTECT));
  pthread_mutex_t m;
  SAY_ERR("init", pthread_mutex_init(&m, &a));
  SAY_ERR("get ceiling", pthread_mutex_getprioceiling(&m, &ceiling));
  say("ceiling %d", ceiling);
  SAY_ERR("lock", pthread_mutex_lock(&m)); /* needs a real-time priority */
  pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
  SAY_ERR("ceiling of a plain one", pthread_mutex_getprioceiling(&plain, &ceiling));
  SAY_ERR("set it", pthread_mutex_setprioceiling(&plain, 1, &ceiling));
  SAY_ERR("consistent, of a plain one", pthread_mutex_consistent(&plain));
  SAY_ERR("destroy", pthread_mutexattr_destroy(&a));
}

/* --- only one at a time --- */

enum how { LOCK, TRY, TIMED, CLOCK, HOWS };
struct counted {
  pthread_mutex_t m;
  enum how how;
  int times;
  long n;
};

static int take(pthread_mutex_t *m, enum how how) {
  struct timespec at;
  int e = 0;
  switch (how) {
    case LOCK:
      return pthread_mutex_lock(m);
    case TRY:
      while ((e = pthread_mutex_trylock(m)) == EBUSY) sched_yield();
      return e;
    case TIMED:
      at = in_ms(CLOCK_REALTIME, 60000);
      return pthread_mutex_timedlock(m, &at);
    default:
      at = in_ms(CLOCK_MONOTONIC, 60000);
      return pthread_mutex_clocklock(m, CLOCK_MONOTONIC, &at);
  }
}

static void *count_up(void *arg) {
  struct counted *c = arg;
  for (int i = 0; i < c->times; i++) {
    MUST(take(&c->m, c->how) == 0);
    long n = c->n;
    if (i % 10 == 0) sched_yield();
    if (i % 50 == 1) nap(1);
    c->n = n + 1;
    MUST(pthread_mutex_unlock(&c->m) == 0);
  }
  return NULL;
}

static void count_with(int type, int robust, int protocol, int shared) {
  for (int how = 0; how < HOWS; how++) {
    struct counted *c = shared_page();
    pthread_mutexattr_t a;
    pthread_t t[4];
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, type);
    pthread_mutexattr_setrobust(&a, robust);
    pthread_mutexattr_setprotocol(&a, protocol);
    pthread_mutexattr_setpshared(&a, shared);
    c->how = (enum how)how;
    c->times = protocol == PTHREAD_PRIO_NONE ? 200 : 25; /* the kernel hands the others from one waiter to the next */
    int e = pthread_mutex_init(&c->m, &a);
    if (how == CLOCK && protocol != PTHREAD_PRIO_NONE) c->how = TIMED;
    for (int i = 0; i < 4; i++) t[i] = start(count_up, c);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    say("type %d robust %d protocol %d shared %d how %d: %s %ld", type, robust, protocol, shared, how, err(e), c->n);
    SAY_ERR("destroy", pthread_mutex_destroy(&c->m));
    munmap(c, 4096);
  }
}

static const int types[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_ADAPTIVE_NP};

static void count_types(void) {
  for (int i = 0; i < 4; i++) count_with(types[i], 0, PTHREAD_PRIO_NONE, 0);
}
static void count_shared(void) {
  for (int i = 0; i < 4; i++) count_with(types[i], 0, PTHREAD_PRIO_NONE, 1);
}
static void count_robust(void) {
  for (int i = 0; i < 4; i++) count_with(types[i], PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE, i % 2);
}
static void count_inherit(void) {
  for (int i = 0; i < 4; i++) count_with(types[i], i % 2, PTHREAD_PRIO_INHERIT, 0);
}

/* --- types --- */

static pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_mutex_t checked = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static pthread_mutex_t adaptive = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
static pthread_mutex_t normal = PTHREAD_MUTEX_INITIALIZER;

static void *try_it(void *m) { return (void *)(intptr_t)pthread_mutex_trylock(m); }
static void *unlock_it(void *m) { return (void *)(intptr_t)pthread_mutex_unlock(m); }
static void *hold_it(void *m) {
  int e = pthread_mutex_lock(m);
  gate_pass(&gate);
  pthread_mutex_unlock(m);
  return (void *)(intptr_t)e;
}

static void recursive_depth(void) {
  for (int i = 0; i < 1000; i++) MUST((i % 2 ? pthread_mutex_lock(&recursive) : pthread_mutex_trylock(&recursive)) == 0);
  for (int i = 0; i < 999; i++) MUST(pthread_mutex_unlock(&recursive) == 0);
  say("other's try %s", err((int)in_thread(try_it, &recursive)));
  say("other's unlock %s", err((int)in_thread(unlock_it, &recursive)));
  SAY_ERR("last unlock", pthread_mutex_unlock(&recursive));
  SAY_ERR("one too many", pthread_mutex_unlock(&recursive));
  say("other's try %s", err((int)in_thread(try_it, &recursive)));
}

static void errorcheck_errors(void) {
  struct timespec at = in_ms(CLOCK_REALTIME, 10);
  SAY_ERR("unlock", pthread_mutex_unlock(&checked));
  SAY_ERR("lock", pthread_mutex_lock(&checked));
  SAY_ERR("again", pthread_mutex_lock(&checked));
  SAY_ERR("try", pthread_mutex_trylock(&checked));
  SAY_ERR("timed", pthread_mutex_timedlock(&checked, &at));
  say("other's unlock %s", err((int)in_thread(unlock_it, &checked)));
  say("other's try %s", err((int)in_thread(try_it, &checked)));
  SAY_ERR("unlock", pthread_mutex_unlock(&checked));
}

static void static_initialisers(void) {
  pthread_mutex_t *all[] = {&normal, &recursive, &checked, &adaptive};
  for (int i = 0; i < 4; i++) {
    SAY_ERR("lock", pthread_mutex_lock(all[i]));
    say("other's try %s", err((int)in_thread(try_it, all[i])));
    SAY_ERR("unlock", pthread_mutex_unlock(all[i]));
    SAY_ERR("try", pthread_mutex_trylock(all[i]));
    SAY_ERR("unlock", pthread_mutex_unlock(all[i]));
    SAY_ERR("destroy", pthread_mutex_destroy(all[i]));
  }
}

static void destroy_states(void) {
  pthread_mutex_t *all[] = {&normal, &recursive, &checked, &adaptive};
  for (int i = 0; i < 4; i++) {
    pthread_mutex_lock(all[i]);
    SAY_ERR("destroy locked", pthread_mutex_destroy(all[i]));
    pthread_mutex_unlock(all[i]);
    SAY_ERR("destroy", pthread_mutex_destroy(all[i]));
    SAY_ERR("lock destroyed", pthread_mutex_lock(all[i]));
    SAY_ERR("try destroyed", pthread_mutex_trylock(all[i]));
    SAY_ERR("init", pthread_mutex_init(all[i], NULL));
    SAY_ERR("lock", pthread_mutex_lock(all[i]));
    SAY_ERR("unlock", pthread_mutex_unlock(all[i]));
  }
}

/* --- waiting --- */

static void timed(void) {
  pthread_mutex_t *all[] = {&normal, &recursive, &checked, &adaptive};
  for (int i = 0; i < 4; i++) {
    gate.open = false;
    gate.arrived = 0;
    pthread_t t = start(hold_it, all[i]);
    gate_await(&gate, 1);
    int64_t since = now_ns();
    struct timespec at = in_ms(CLOCK_REALTIME, 30), past = {1, 0}, before = {-1, 0}, bad = {0, -1};
    SAY_ERR("timed", pthread_mutex_timedlock(all[i], &at));
    say("at least 25 ms: %d", at_least_ms(since, 25));
    since = now_ns();
    at = in_ms(CLOCK_MONOTONIC, 30);
    SAY_ERR("clock", pthread_mutex_clocklock(all[i], CLOCK_MONOTONIC, &at));
    say("at least 30 ms: %d", at_least_ms(since, 30));
    SAY_ERR("past", pthread_mutex_timedlock(all[i], &past));
    SAY_ERR("before all time", pthread_mutex_timedlock(all[i], &before));
    SAY_ERR("bad", pthread_mutex_timedlock(all[i], &bad));
    SAY_ERR("bad clock", pthread_mutex_clocklock(all[i], CLOCK_PROCESS_CPUTIME_ID, &at));
    gate_open(&gate);
    at = in_ms(CLOCK_REALTIME, 60000);
    SAY_ERR("in time", pthread_mutex_timedlock(all[i], &at));
    SAY_ERR("unlock", pthread_mutex_unlock(all[i]));
    say("holder %s", err((int)join_value(t)));
  }
}

static int through;
static void *lock_once(void *m) {
  pthread_mutex_lock(m);
  through++;
  pthread_mutex_unlock(m);
  return NULL;
}

static void many_waiters(void) {
  pthread_t t[60];
  pthread_mutex_lock(&normal);
  for (int i = 0; i < 60; i++) t[i] = start(lock_once, &normal);
  nap(20);
  say("through %d", through);
  pthread_mutex_unlock(&normal);
  for (int i = 0; i < 60; i++) pthread_join(t[i], NULL);
  say("through %d", through);
}

/* Two locks, always in the same order, and a holder that blocks. */
static void *lock_two(void *arg) {
  for (int i = 0; i < 100; i++) {
    pthread_mutex_lock(&normal);
    if (i % 20 == 0) nap(1);
    pthread_mutex_lock(&adaptive);
    through++;
    pthread_mutex_unlock(&normal);
    sched_yield();
    through++;
    pthread_mutex_unlock(&adaptive);
  }
  return arg;
}
static void nested_locks(void) {
  pthread_t t[5];
  for (int i = 0; i < 5; i++) t[i] = start(lock_two, NULL);
  for (int i = 0; i < 5; i++) pthread_join(t[i], NULL);
  say("through %d", through);
}

/* The last to hold a mutex may destroy it, and unmap its memory, as soon as it has it: the unlocker before touches it no more. */
static void *unlock_and_forget(void *m) {
  pthread_mutex_lock(m);
  gate_pass(&gate);
  pthread_mutex_unlock(m);
  return NULL;
}
static void unmapped_once_locked(void) {
  int done = 0;
  for (int i = 0; i < 300; i++) {
    pthread_mutex_t *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t a;
    MUST(m != MAP_FAILED);
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, types[i % 4]);
    pthread_mutex_init(m, &a);
    gate.open = false;
    gate.arrived = 0;
    pthread_t t = start(unlock_and_forget, m);
    gate_await(&gate, 1);
    gate_open(&gate);
    pthread_mutex_lock(m);
    pthread_mutex_unlock(m);
    done += pthread_mutex_destroy(m) == 0;
    munmap(m, 4096);
    pthread_join(t, NULL);
  }
  say("done %d", done);
}

/* --- robust --- */

static int robust_protocol;
static void robust_init(pthread_mutex_t *m, int type, int shared) {
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_settype(&a, type);
  pthread_mutexattr_setprotocol(&a, robust_protocol);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&a, shared);
  MUST(pthread_mutex_init(m, &a) == 0);
}

static pthread_mutex_t robust;
static bool repair;
static _Atomic int dead, unrecoverable, fine;

static void *lock_robust(void *arg) {
  int e = pthread_mutex_lock(&robust);
  if (e == 0) fine++;
  if (e == ENOTRECOVERABLE) unrecoverable++;
  if (e == EOWNERDEAD) {
    dead++;
    if (repair) pthread_mutex_consistent(&robust);
  }
  if (e != ENOTRECOVERABLE) pthread_mutex_unlock(&robust);
  return arg;
}
static void *die_with_it(void *arg) {
  pthread_mutex_lock(&robust);
  gate_pass(&gate);
  nap(20);
  return arg;
}

/* The holder dies while the others wait: one is told, and the next find it repaired. */
static void robust_waiters(void) {
  pthread_t t[5];
  repair = true;
  robust_init(&robust, PTHREAD_MUTEX_NORMAL, 0);
  pthread_t holder = start(die_with_it, NULL);
  gate_await(&gate, 1);
  for (int k = 0; k < 5; k++) t[k] = start(lock_robust, NULL);
  gate_open(&gate);
  pthread_join(holder, NULL);
  for (int k = 0; k < 5; k++) pthread_join(t[k], NULL);
  say("dead %d, fine %d, not recoverable %d", dead, fine, unrecoverable);
  SAY_ERR("try", pthread_mutex_trylock(&robust));
}

/* The same of those that only the kernel can hand on; and more than one life of the thread. */
static void robust_waiters_pi(void) {
  robust_protocol = PTHREAD_PRIO_INHERIT;
  for (int i = 0; i < 5; i++) {
    gate = (struct gate)GATE_CLOSED;
    dead = unrecoverable = fine = 0;
    robust_waiters();
  }
}

/* Nobody repairs it.  (One after the other: glibc 2.36 forgets those who already wait.) */
static void robust_not_repaired(void) {
  gate_open(&gate);
  for (int i = 0; i < 4; i++) {
    dead = unrecoverable = fine = 0;
    robust_init(&robust, types[i], 0);
    in_thread(die_with_it, NULL);
    for (int k = 0; k < 4; k++) in_thread(lock_robust, NULL);
    say("dead %d, fine %d, not recoverable %d", dead, fine, unrecoverable);
  }
}

static pthread_mutex_t several[4];
static void *die_with_several(void *arg) {
  for (int i = 0; i < 4; i++) pthread_mutex_lock(&several[i]);
  pthread_mutex_unlock(&several[2]);
  if (arg) pthread_exit(NULL);
  pthread_cancel(pthread_self());
  pthread_testcancel();
  return NULL;
}
static void robust_several(void) {
  for (int i = 0; i < 4; i++) robust_init(&several[i], types[i], 0);
  for (intptr_t round = 0; round < 2; round++) {
    in_thread(die_with_several, (void *)round);
    for (int i = 0; i < 4; i++) {
      SAY_ERR("try", pthread_mutex_trylock(&several[i]));
      say("consistent %s", err(pthread_mutex_consistent(&several[i])));
      SAY_ERR("unlock", pthread_mutex_unlock(&several[i]));
    }
  }
}

static void robust_several_pi(void) {
  robust_protocol = PTHREAD_PRIO_INHERIT;
  robust_several();
}

/* The owner is another process, and is killed. */
static void robust_process(void) {
  pthread_mutex_t *m = shared_page();
  robust_init(m, PTHREAD_MUTEX_NORMAL, PTHREAD_PROCESS_SHARED);
  for (int i = 0; i < 2; i++) {
    int fd[2];
    char c;
    MUST(pipe(fd) == 0);
    pid_t p = fork();
    if (p == 0) {
      pthread_mutex_lock(m);
      MUST(write(fd[1], "x", 1) == 1);
      if (i == 0) _exit(0);
      for (;;) nap(1000);
    }
    MUST(read(fd[0], &c, 1) == 1);
    if (i == 1) {
      SAY_ERR("busy", pthread_mutex_trylock(m));
      kill(p, SIGKILL);
    }
    SAY_ERR("lock", pthread_mutex_lock(m));
    SAY_ERR("consistent", pthread_mutex_consistent(m));
    SAY_ERR("unlock", pthread_mutex_unlock(m));
    say_wait("child", p);
  }
}

/* --- between processes --- */

static void shared_by_fork(int protocol) {
  struct counted *c = shared_page();
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setprotocol(&a, protocol);
  SAY_ERR("init", pthread_mutex_init(&c->m, &a));
  c->times = protocol == PTHREAD_PRIO_NONE ? 200 : 25;
  pid_t p[3];
  for (int i = 0; i < 3; i++) {
    p[i] = fork();
    if (p[i] == 0) {
      pthread_t t[2];
      for (int k = 0; k < 2; k++) t[k] = start(count_up, c);
      for (int k = 0; k < 2; k++) pthread_join(t[k], NULL);
      _exit(0);
    }
  }
  count_up(c);
  for (int i = 0; i < 3; i++) say_wait("child", p[i]);
  say("count %ld", c->n);
}
static void between_processes(void) { shared_by_fork(PTHREAD_PRIO_NONE); }
static void inherit_between_processes(void) { shared_by_fork(PTHREAD_PRIO_INHERIT); }

/* --- spin locks --- */

static pthread_spinlock_t spin;
static void *count_spin(void *arg) {
  for (int i = 0; i < 2000; i++) {
    if (i % 3) {
      pthread_spin_lock(&spin);
    } else {
      while (pthread_spin_trylock(&spin) == EBUSY) sched_yield();
    }
    through++;
    pthread_spin_unlock(&spin);
  }
  return arg;
}
static void *try_spin(void *arg) {
  (void)arg;
  return (void *)(intptr_t)pthread_spin_trylock(&spin);
}

static void spin_lock(void) {
  pthread_t t[3];
  SAY_ERR("init", pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE));
  SAY_ERR("lock", pthread_spin_lock(&spin));
  say("other's try %s", err((int)in_thread(try_spin, NULL)));
  SAY_ERR("unlock", pthread_spin_unlock(&spin));
  for (int i = 0; i < 3; i++) t[i] = start(count_spin, NULL);
  for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
  say("count %d", through);
  SAY_ERR("destroy", pthread_spin_destroy(&spin));
}

/* The holder is not running: a spinner must give way. */
static void *spin_for_it(void *arg) {
  pthread_spin_lock(&spin);
  pthread_spin_unlock(&spin);
  return arg;
}
static void spin_while_holder_sleeps(void) {
  pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
  pthread_spin_lock(&spin);
  pthread_t t[3];
  for (int i = 0; i < 3; i++) t[i] = start(spin_for_it, NULL);
  for (int i = 0; i < 5; i++) nap(10);
  pthread_spin_unlock(&spin);
  for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
  say("all through");
}

static void spin_between_processes(void) {
  struct {
    pthread_spinlock_t s;
    long n;
  } *c = shared_page();
  pthread_spin_init(&c->s, PTHREAD_PROCESS_SHARED);
  pid_t p = fork();
  for (int i = 0; i < 5000; i++) {
    pthread_spin_lock(&c->s);
    c->n++;
    pthread_spin_unlock(&c->s);
  }
  if (p == 0) _exit(0);
  say_wait("child", p);
  say("count %ld", c->n);
}

/* Who waits for a robust one that inherits priorities is told as well. */
static _Atomic int ready;
static void *dies_with(void *arg) {
  pthread_mutex_lock(arg);
  pthread_mutex_lock(&several[0]);
  ready = 1;
  nap(50); /* main waits */
  return NULL;
}
static void robust_inherit_waited(void) {
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
  MUST(pthread_mutex_init(&robust, &a) == 0);
  robust_init(&several[0], PTHREAD_MUTEX_NORMAL, 0);
  for (int i = 0; i < 3; i++) {
    ready = 0;
    pthread_t t = start(dies_with, &robust);
    UNTIL(ready == 1);
    SAY_ERR("lock", pthread_mutex_lock(&robust));
    SAY_ERR("consistent", pthread_mutex_consistent(&robust));
    SAY_ERR("unlock", pthread_mutex_unlock(&robust));
    pthread_join(t, NULL);
    SAY_ERR("other", pthread_mutex_lock(&several[0]));
    pthread_mutex_consistent(&several[0]);
    pthread_mutex_unlock(&several[0]);
  }
}

const struct check mutex_checks[] = {
    CHECK(attr_values),
    CHECK(count_types),
    CHECK(count_shared),
    CHECK(count_robust),
    CHECK(count_inherit),
    CHECK(recursive_depth),
    CHECK(errorcheck_errors),
    CHECK(static_initialisers),
    CHECK(destroy_states),
    CHECK(timed),
    CHECK(many_waiters),
    CHECK(nested_locks),
    CHECK(unmapped_once_locked),
    CHECK(robust_waiters),
    CHECK(robust_not_repaired),
    CHECK(robust_several),
    CHECK(robust_waiters_pi),
    CHECK(robust_several_pi),
    CHECK(robust_process),
    CHECK(robust_inherit_waited),
    CHECK(between_processes),
    CHECK(inherit_between_processes),
    CHECK(spin_lock),
    CHECK(spin_while_holder_sleeps),
    CHECK(spin_between_processes),
    CHECKS_END,
};
