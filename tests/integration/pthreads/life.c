/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: how they begin and end, who waits for them, and what their attributes ask for. */
#include <dlfcn.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include "checks.h"
#include "used_library.h"

static void *echo(void *arg) { return arg; }

/* --- create and join --- */

static void join_values(void) {
  static const intptr_t values[] = {0, 1, -1, INTPTR_MAX, INTPTR_MIN, 4096};
  for (int i = 0; i < 6; i++) {
    pthread_t t = start(echo, (void *)values[i]);
    void *r = (void *)99;
    int e = pthread_join(t, &r);
    say("%d: %s, same %d", i, err(e), r == (void *)values[i]);
  }
  SAY_ERR("no value wanted", pthread_join(start(echo, NULL), NULL));
}

static struct gate gate = GATE_CLOSED;

static void *square(void *arg) {
  gate_pass(&gate);
  return (void *)((intptr_t)arg * (intptr_t)arg);
}

static void join_many_at_once(void) {
  pthread_t t[200];
  intptr_t sum = 0;
  for (intptr_t i = 0; i < 200; i++) t[i] = start(square, (void *)i);
  gate_await(&gate, 200);
  say("all are there");
  gate_open(&gate);
  for (int i = 199; i >= 0; i--) sum += join_value(t[i]);
  say("sum %ld", (long)sum);
}

static void join_hundreds_at_once(void) {
  static pthread_t t[500];
  intptr_t sum = 0;
  pthread_attr_t a;
  pthread_attr_init(&a);
  pthread_attr_setstacksize(&a, 64 << 10);
  for (intptr_t i = 0; i < 500; i++) MUST(pthread_create(&t[i], &a, square, (void *)i) == 0);
  gate_await(&gate, 500);
  gate_open(&gate);
  for (int i = 0; i < 500; i++) sum += join_value(t[i]);
  say("sum %ld", (long)sum);
}

static void join_one_after_the_other(void) {
  intptr_t sum = 0;
  for (intptr_t i = 0; i < 1500; i++) sum += in_thread(echo, (void *)i);
  say("sum %ld", (long)sum);
}

static void *go_deeper(void *arg) {
  intptr_t n = (intptr_t)arg;
  return (void *)(n == 0 ? 0 : 1 + in_thread(go_deeper, (void *)(n - 1)));
}

static void nested(void) { say("depth %ld", (long)in_thread(go_deeper, (void *)30)); }

static void *fibonacci(void *arg) {
  intptr_t n = (intptr_t)arg;
  if (n < 2) return arg;
  pthread_t a = start(fibonacci, (void *)(n - 1)), b = start(fibonacci, (void *)(n - 2));
  return (void *)(join_value(b) + join_value(a));
}

static void tree(void) { say("fibonacci %ld", (long)in_thread(fibonacci, (void *)9)); }

static void *join_given(void *arg) { return (void *)(1 + join_value(*(pthread_t *)arg)); }

/* Each joins the one before it: none of them is its creator. */
static void join_chain(void) {
  pthread_t t[20];
  t[0] = start(square, (void *)3);
  for (int i = 1; i < 20; i++) t[i] = start(join_given, &t[i - 1]);
  gate_open(&gate);
  say("value %ld", (long)join_value(t[19]));
}

static void *make_another(void *arg) {
  pthread_t *t = arg;
  *t = start(square, (void *)11);
  return NULL;
}

static void creator_ends_first(void) {
  pthread_t t;
  in_thread(make_another, &t);
  gate_open(&gate);
  say("value %ld", (long)join_value(t));
}

static pthread_t main_thread;
static void join_in_time(void) {
  pthread_t t = start(square, (void *)6);
  struct timespec at = {1, 0};
  void *r = NULL;
  SAY_ERR("try", pthread_tryjoin_np(t, &r));
  SAY_ERR("timed, long past", pthread_timedjoin_np(t, &r, &at));
  SAY_ERR("clock, bad", pthread_clockjoin_np(t, &r, CLOCK_THREAD_CPUTIME_ID, &at));
  int64_t since = now_ns();
  at = in_ms(CLOCK_REALTIME, 30);
  SAY_ERR("timed", pthread_timedjoin_np(t, &r, &at));
  say("at least 25 ms: %d", at_least_ms(since, 25));
  since = now_ns();
  at = in_ms(CLOCK_MONOTONIC, 30);
  SAY_ERR("clock", pthread_clockjoin_np(t, &r, CLOCK_MONOTONIC, &at));
  say("at least 30 ms: %d", at_least_ms(since, 30));
  gate_open(&gate);
  at = in_ms(CLOCK_MONOTONIC, 60000);
  SAY_ERR("clock", pthread_clockjoin_np(t, &r, CLOCK_MONOTONIC, &at));
  say("value %ld", (long)r);
  t = start(square, (void *)7);
  int e;
  UNTIL((e = pthread_tryjoin_np(t, &r)) != EBUSY);
  say("try: %s %ld", err(e), (long)r);
  t = start(square, (void *)8);
  nap(20);
  at = (struct timespec){1, 0};
  UNTIL((e = pthread_timedjoin_np(t, &r, &at)) != ETIMEDOUT);
  say("ended, and long past: %s %ld", err(e), (long)r);
}

/* --- detach --- */

static _Atomic int ended;
static void *end_after_gate(void *arg) {
  gate_pass(&gate);
  ended++;
  return arg;
}

static void detach_alive(void) {
  pthread_t t = start(end_after_gate, NULL);
  gate_await(&gate, 1);
  SAY_ERR("detach", pthread_detach(t));
  SAY_ERR("again", pthread_detach(t));
  SAY_ERR("join", pthread_join(t, NULL));
  SAY_ERR("try", pthread_tryjoin_np(t, NULL));
  gate_open(&gate);
  UNTIL(ended == 1);
  say("ended");
}

static void *end_at_once(void *arg) {
  ended++;
  return arg;
}

/* Of a thread that is no more, while its pthread_t is not another's: as glibc has it. */
static void joined_before(void) {
  pthread_t t = start(end_at_once, NULL);
  MUST(pthread_join(t, NULL) == 0);
  SAY_ERR("detach", pthread_detach(t));
  SAY_ERR("join", pthread_join(t, NULL));
}

static void detach_ended(void) {
  for (int i = 0; i < 20; i++) {
    pthread_t t = start(end_at_once, NULL);
    UNTIL(ended > i);
    nap(1);
    MUST(pthread_detach(t) == 0);
  }
  say("ended %d", ended);
}

static void *detach_self(void *arg) {
  int e = pthread_detach(pthread_self());
  if (e) say("detach: %s", err(e));
  ended++;
  return arg;
}

static void detach_many(void) {
  pthread_attr_t a;
  pthread_attr_init(&a);
  SAY_ERR("set", pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED));
  for (int i = 0; i < 500; i++) {
    pthread_t t;
    MUST(pthread_create(&t, &a, end_at_once, NULL) == 0);
    start(detach_self, NULL);
    MUST(pthread_detach(start(end_at_once, NULL)) == 0);
    UNTIL(ended >= 3 * i - 60); /* not too many at once */
  }
  UNTIL(ended == 1500);
  say("ended %d", ended);
}

static void detached_by_attribute(void) {
  pthread_attr_t a;
  pthread_t t;
  pthread_attr_init(&a);
  pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
  SAY_ERR("create", pthread_create(&t, &a, end_after_gate, NULL));
  gate_await(&gate, 1);
  SAY_ERR("join", pthread_join(t, NULL));
  SAY_ERR("detach", pthread_detach(t));
  gate_open(&gate);
  UNTIL(ended == 1);
}

/* --- ends of the process --- */

static pthread_key_t key;
static void say_destroyed(void *arg) { say("destroyed %s", (char *)arg); }

static void *outlive_main(void *arg) {
  (void)arg;
  void *r = NULL;
  int e = pthread_join(main_thread, &r);
  say("main: %s %ld", err(e), (long)r);
  gate_open(&gate);
  for (int i = 0; i < 5; i++) nap(5);
  say("five naps later");
  return NULL;
}
static void *wait_at_gate(void *arg) {
  gate_pass(&gate);
  return arg;
}
static void at_exit(void) { say("at exit"); }

static void main_ends_first(void) {
  atexit(at_exit);
  main_thread = pthread_self();
  pthread_key_create(&key, say_destroyed);
  pthread_setspecific(key, "main's value");
  start(wait_at_gate, NULL);
  pthread_detach(start(wait_at_gate, NULL));
  start(outlive_main, NULL);
  pthread_exit((void *)7);
}

static void at_exit_in_thread(void) { say("at exit: in the thread that called it %d", pthread_equal(pthread_self(), main_thread)); }
static void *call_exit(void *arg) {
  gate_await(&gate, 12);
  main_thread = pthread_self();
  printf("left in the buffer\n");
  pthread_setspecific(key, "never");
  exit((int)(intptr_t)arg);
}

/* Others wait, in all kinds of ways, and one ends the process. */
static void exit_among_waiters(void) {
  setvbuf(stdout, NULL, _IOFBF, 4096);
  atexit(at_exit_in_thread);
  pthread_key_create(&key, say_destroyed);
  for (int i = 0; i < 12; i++) start(wait_at_gate, NULL);
  start(call_exit, (void *)21);
  for (;;) nap(1000);
}

static void at_quick(void) { say("at quick exit"); }
static void *call_quick_exit(void *arg) {
  (void)arg;
  quick_exit(22);
}
static void quick_exit_of_thread(void) {
  at_quick_exit(at_quick);
  start(call_quick_exit, NULL);
  for (;;) nap(1000);
}

static void *call_abort(void *arg) {
  (void)arg;
  abort();
}
static void abort_of_thread(void) {
  pid_t p = fork();
  if (p == 0) {
    start(call_abort, NULL);
    for (;;) nap(1000);
  }
  say_wait("abort", p);
}

/* --- who is who --- */

static pthread_t seen[50];
static void *see_self(void *arg) {
  intptr_t i = (intptr_t)arg;
  seen[i] = pthread_self();
  gate_pass(&gate);
  nap(2);
  return (void *)(intptr_t)pthread_equal(seen[i], pthread_self());
}

static void equal_self(void) {
  pthread_t t[50];
  int same = 0, alike = 0, still = 0;
  pthread_t me = pthread_self();
  for (intptr_t i = 0; i < 50; i++) t[i] = start(see_self, (void *)i);
  gate_await(&gate, 50);
  for (int i = 0; i < 50; i++) {
    same += pthread_equal(t[i], seen[i]) != 0;
    for (int j = 0; j < i; j++) alike += pthread_equal(t[i], t[j]) != 0;
    alike += pthread_equal(t[i], me) != 0;
  }
  gate_open(&gate);
  for (int i = 0; i < 50; i++) still += join_value(t[i]) != 0;
  say("same %d, alike %d, still %d, main %d", same, alike, still, pthread_equal(me, pthread_self()) != 0);
}

/* --- attributes --- */

static void say_attr(const pthread_attr_t *a) {
  int detach = -1, inherit = -1, scope = -1, policy = -1;
  size_t guard = 0, size = 0;
  struct sched_param p = {-1};
  pthread_attr_getdetachstate(a, &detach);
  pthread_attr_getinheritsched(a, &inherit);
  pthread_attr_getscope(a, &scope);
  pthread_attr_getschedpolicy(a, &policy);
  pthread_attr_getschedparam(a, &p);
  pthread_attr_getguardsize(a, &guard);
  pthread_attr_getstacksize(a, &size);
  say("detach %d inherit %d scope %d policy %d priority %d guard %zu size %zu", detach, inherit, scope, policy, p.sched_priority, guard,
      size);
}

static void attr_values(void) {
  pthread_attr_t a;
  static char some[1 << 16];
  SAY_ERR("init", pthread_attr_init(&a));
  say_attr(&a);
  SAY_ERR("detach state 7", pthread_attr_setdetachstate(&a, 7));
  SAY_ERR("stack of 1", pthread_attr_setstacksize(&a, 1));
  SAY_ERR("least stack", pthread_attr_setstacksize(&a, (size_t)sysconf(_SC_THREAD_STACK_MIN)));
  SAY_ERR("scope of process", pthread_attr_setscope(&a, PTHREAD_SCOPE_PROCESS));
  SAY_ERR("scope 9", pthread_attr_setscope(&a, 9));
  SAY_ERR("inherit 9", pthread_attr_setinheritsched(&a, 9));
  SAY_ERR("explicit", pthread_attr_setinheritsched(&a, PTHREAD_EXPLICIT_SCHED));
  SAY_ERR("policy 99", pthread_attr_setschedpolicy(&a, 99));
  SAY_ERR("policy RR", pthread_attr_setschedpolicy(&a, SCHED_RR));
  SAY_ERR("priority 1000", pthread_attr_setschedparam(&a, &(struct sched_param){1000}));
  SAY_ERR("priority 3", pthread_attr_setschedparam(&a, &(struct sched_param){3}));
  SAY_ERR("guard", pthread_attr_setguardsize(&a, 12345));
  SAY_ERR("small stack", pthread_attr_setstack(&a, some, 100));
  say_attr(&a);
  SAY_ERR("destroy", pthread_attr_destroy(&a));
}

static void attr_defaults(void) {
  pthread_attr_t a, now;
  SAY_ERR("get", pthread_getattr_default_np(&a));
  say_attr(&a);
  pthread_attr_setstacksize(&a, 1 << 20);
  pthread_attr_setguardsize(&a, 8192);
  SAY_ERR("set", pthread_setattr_default_np(&a));
  pthread_attr_init(&now);
  say_attr(&now);
  pthread_t t = start(wait_at_gate, NULL);
  SAY_ERR("of a thread", pthread_getattr_np(t, &now));
  say_attr(&now);
  gate_open(&gate);
  pthread_join(t, NULL);
}

/* Uses so much of the stack; a sum over all of it, so that none of it is left out. */
static __attribute__((noinline)) int use_stack(uintptr_t top, size_t want) {
  volatile char page[1024];
  memset((char *)page, 1, sizeof page);
  if (top - (uintptr_t)page >= want) return 1;
  int n = use_stack(top, want);
  return n + page[1000];
}

static void *use_most(void *arg) {
  char here;
  return (void *)(intptr_t)(use_stack((uintptr_t)&here, *(size_t *)arg / 5 * 4) > 0);
}

static void stack_size(void) {
  static const size_t sizes[] = {64 << 10, 128 << 10, 1 << 20, 8 << 20, 64 << 20};
  for (int i = 0; i < 5; i++) {
    pthread_attr_t a;
    pthread_t t;
    pthread_attr_init(&a);
    size_t size = sizes[i];
    SAY_ERR("set", pthread_attr_setstacksize(&a, size));
    SAY_ERR("create", pthread_create(&t, &a, use_most, &size));
    say("used %ld", (long)join_value(t));
    pthread_attr_destroy(&a);
  }
  pthread_attr_t a;
  pthread_attr_init(&a);
  pthread_attr_setstacksize(&a, (size_t)sysconf(_SC_THREAD_STACK_MIN));
  for (int i = 0; i < 5; i++) {
    pthread_t t;
    MUST(pthread_create(&t, &a, echo, (void *)4) == 0);
    say("least: %ld", (long)join_value(t));
  }
}

static void *use_default(void *arg) {
  pthread_attr_t a;
  size_t size = 0;
  pthread_attr_init(&a);
  pthread_attr_getstacksize(&a, &size);
  (void)arg;
  return use_most(&size);
}
static void stack_size_default(void) {
  pthread_t t[8];
  for (int i = 0; i < 8; i++) t[i] = start(use_default, NULL);
  for (int i = 0; i < 8; i++) say("used %ld", (long)join_value(t[i]));
}

static sigjmp_buf out_of_fault;
static volatile uintptr_t fault_at;
static void on_fault(int sig, siginfo_t *si, void *uc) {
  (void)sig, (void)uc;
  fault_at = (uintptr_t)si->si_addr;
  siglongjmp(out_of_fault, 1);
}

static void *overflow(void *arg) {
  static char alt[1 << 16];
  pthread_attr_t a;
  void *lowest = NULL;
  size_t size = 0;
  char here;
  (void)arg;
  sigaltstack(&(stack_t){.ss_sp = alt, .ss_size = sizeof alt}, NULL);
  pthread_getattr_np(pthread_self(), &a);
  pthread_attr_getstack(&a, &lowest, &size);
  if (sigsetjmp(out_of_fault, 1) == 0) use_stack((uintptr_t)&here, SIZE_MAX);
  say("below the stack %d, near it %d", fault_at < (uintptr_t)lowest, fault_at + 65536 >= (uintptr_t)lowest);
  sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
  return (void *)1;
}

static void stack_guard(void) {
  struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigaction(SIGSEGV, &act, NULL);
  for (int i = 0; i < 3; i++) {
    pthread_attr_t a;
    pthread_t t;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 256 << 10);
    if (i) pthread_attr_setguardsize(&a, (size_t)i << 14);
    MUST(pthread_create(&t, &a, overflow, NULL) == 0);
    say("lives %ld", (long)join_value(t));
  }
}

/* Nobody handles it: the process ends. */
static void stack_overflow_kills(void) {
  pid_t p = fork();
  if (p == 0) {
    size_t size = (size_t)1 << 40;
    pthread_join(start(use_most, &size), NULL);
    _exit(1);
  }
  say_wait("overflow", p);
}

static void *where_am_i(void *arg) {
  pthread_attr_t a;
  void *lowest = NULL;
  size_t size = 0, guard = 0;
  int detach = -1;
  char here;
  SAY_ERR("getattr", pthread_getattr_np(pthread_self(), &a));
  pthread_attr_getstack(&a, &lowest, &size);
  pthread_attr_getguardsize(&a, &guard);
  pthread_attr_getdetachstate(&a, &detach);
  say("inside %d, size %zu, guard %zu, detach %d", &here >= (char *)lowest && &here < (char *)lowest + size, arg ? size : 0,
      arg ? guard : 0, detach);
  /* All of it is there. */
  *(volatile char *)lowest = 1;
  pthread_attr_destroy(&a);
  return lowest;
}

static void stack_place(void) {
  for (int i = 0; i < 4; i++) {
    pthread_attr_t a;
    pthread_t t;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, (size_t)(1 + i) << 18);
    pthread_attr_setguardsize(&a, (size_t)i << 12);
    MUST(pthread_create(&t, &a, where_am_i, "created") == 0);
    pthread_join(t, NULL);
  }
  where_am_i(NULL);
}

static void *wait_with_local(void *arg) {
  char here = 0;
  *(char **)arg = &here;
  gate_pass(&gate);
  return (void *)(intptr_t)here;
}

static void stack_place_of_other(void) {
  char *volatile local = NULL;
  pthread_t t = start(wait_with_local, (void *)(uintptr_t)&local);
  gate_await(&gate, 1);
  pthread_attr_t a;
  void *lowest = NULL;
  size_t size = 0;
  SAY_ERR("getattr", pthread_getattr_np(t, &a));
  pthread_attr_getstack(&a, &lowest, &size);
  say("inside %d", local >= (char *)lowest && local < (char *)lowest + size);
  gate_open(&gate);
  pthread_join(t, NULL);
}

static void own_stack(void) {
  size_t size = 256 << 10, page = 4096;
  char *at = mmap(NULL, size + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MUST(at != MAP_FAILED);
  memset(at, 0x5a, page);
  memset(at + page + size, 0x5a, page);
  pthread_attr_t a;
  pthread_attr_init(&a);
  SAY_ERR("set", pthread_attr_setstack(&a, at + page, size));
  for (int i = 0; i < 3; i++) {
    pthread_t t;
    MUST(pthread_create(&t, &a, where_am_i, "created") == 0);
    say("as given %d", join_value(t) == (intptr_t)(at + page));
    MUST(pthread_create(&t, &a, use_most, &size) == 0);
    say("used %ld", (long)join_value(t));
  }
  int touched = 0;
  for (size_t i = 0; i < page; i++) touched += at[i] != 0x5a || at[page + size + i] != 0x5a;
  say("touched around it %d", touched);
  SAY_CALL("it is ours", munmap(at, size + 2 * page));
  say("another %ld", (long)in_thread(echo, (void *)5));
}

/* --- scheduling attributes --- */

static void *say_sched(void *arg) {
  int policy = -1;
  struct sched_param p = {-1};
  SAY_ERR("get", pthread_getschedparam(pthread_self(), &policy, &p));
  say("policy %d priority %d, by the kernel %d", policy, p.sched_priority, sched_getscheduler(0));
  return arg;
}

static void sched_explicit(void) {
  static const int policies[] = {SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, SCHED_FIFO, SCHED_RR};
  for (int i = 0; i < 5; i++) {
    pthread_attr_t a;
    pthread_t t;
    pthread_attr_init(&a);
    pthread_attr_setinheritsched(&a, PTHREAD_EXPLICIT_SCHED);
    SAY_ERR("policy", pthread_attr_setschedpolicy(&a, policies[i]));
    SAY_ERR("priority", pthread_attr_setschedparam(&a, &(struct sched_param){policies[i] == SCHED_FIFO || policies[i] == SCHED_RR}));
    int e = pthread_create(&t, &a, say_sched, NULL);
    if (e == 0) pthread_join(t, NULL);
    SAY_ERR("created", e);
  }
}

static void sched_of_running(void) {
  pthread_t t = start(wait_at_gate, NULL);
  int policy = -1;
  struct sched_param p = {0};
  SAY_ERR("batch", pthread_setschedparam(t, SCHED_BATCH, &p));
  SAY_ERR("get", pthread_getschedparam(t, &policy, &p));
  say("policy %d", policy);
  SAY_ERR("unknown", pthread_setschedparam(t, 99, &p));
  SAY_ERR("priority 5 of batch", pthread_setschedparam(t, SCHED_BATCH, &(struct sched_param){5}));
  SAY_ERR("priority", pthread_setschedprio(t, 0));
  SAY_ERR("priority 77", pthread_setschedprio(t, 77));
  gate_open(&gate);
  pthread_join(t, NULL);
  say_sched(NULL);
}

/* Real-time threads wait in the order of their priorities.  (Who may have none says so.) */
static pthread_mutex_t in_order = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int waiting;
static void *lock_in_order(void *arg) {
  waiting++;
  pthread_mutex_lock(&in_order);
  say("%d", (int)(intptr_t)arg);
  pthread_mutex_unlock(&in_order);
  return arg;
}
static void sched_order(void) {
  static const int priorities[] = {5, 20, 0, 10, 20};
  pthread_attr_t a;
  pthread_t t[5];
  int n = 0;
  pthread_mutex_lock(&in_order);
  for (int i = 0; i < 5; i++) {
    pthread_attr_init(&a);
    if (priorities[i]) {
      pthread_attr_setinheritsched(&a, PTHREAD_EXPLICIT_SCHED);
      pthread_attr_setschedpolicy(&a, SCHED_FIFO);
      pthread_attr_setschedparam(&a, &(struct sched_param){priorities[i]});
    }
    int e = pthread_create(&t[n], &a, lock_in_order, (void *)(intptr_t)(100 * i + priorities[i]));
    SAY_ERR("create", e);
    if (e) continue;
    n++;
    UNTIL(waiting == n);
    nap(50);
  }
  pthread_mutex_unlock(&in_order);
  for (int i = 0; i < n; i++) pthread_join(t[i], NULL);
}

/* Also one that runs already. */
static void sched_fifo_of_running(void) {
  pthread_t t = start(wait_at_gate, NULL);
  struct sched_param p = {3};
  int policy = -1;
  gate_await(&gate, 1);
  SAY_ERR("fifo", pthread_setschedparam(t, SCHED_FIFO, &p));
  SAY_ERR("get", pthread_getschedparam(t, &policy, &p));
  say("policy %d priority %d", policy, p.sched_priority);
  SAY_ERR("priority 4", pthread_setschedprio(t, 4));
  SAY_ERR("get", pthread_getschedparam(t, &policy, &p));
  say("policy %d priority %d", policy, p.sched_priority);
  gate_open(&gate);
  pthread_join(t, NULL);
  in_thread(say_sched, NULL);
}

static void *batch_and_create(void *arg) {
  pthread_setschedparam(pthread_self(), SCHED_BATCH, &(struct sched_param){0});
  in_thread(say_sched, NULL);
  return arg;
}
static void sched_inherited(void) {
  in_thread(batch_and_create, NULL);
  in_thread(say_sched, NULL);
}

/* Memory for a few threads at a time: who fails tries again. Both makers are
 * there before the first has taken what there is. */
static _Atomic int made;
static void *makes_many(void *arg) {
  pthread_attr_t a;
  pthread_t t;
  pthread_attr_init(&a);
  pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&a, 16 << 20);
  gate_pass(&gate);
  while (made < 3000)
    if (pthread_create(&t, &a, end_at_once, NULL) == 0) made++;
  return arg;
}
static void little_memory(void) {
  const struct rlimit lim = {800 << 20, 800 << 20};
  pthread_t t = start(makes_many, NULL), u = start(makes_many, NULL);
  gate_await(&gate, 2);
  MUST(setrlimit(RLIMIT_AS, &lim) == 0);
  gate_open(&gate);
  pthread_join(t, NULL);
  pthread_join(u, NULL);
  say("made %d", made >= 3000);
}

/* --- threads that are there before main --- */

static void early_end(void) {
  int (*end)(void) = NULL;
  *(void **)&end = dlsym(RTLD_DEFAULT, "early_library_end");
  say("early %d", end ? end() : -1);
  say("later %ld", (long)in_thread(echo, (void *)3));
}
/* Once more, with a library that is there before main. */
static void again_with(const char *library, char *check) {
  char list[8192], *argv[] = {"pthreads", check, NULL};
  const char *first = getenv("LD_PRELOAD");
  snprintf(list, sizeof list, "%s%s%s_%s.so", first ? first : "", first ? ":" : "", self_path, library);
  setenv("LD_PRELOAD", list, 1);
  execv(self_path, argv);
  say("not replaced");
}
static void threads_of_constructor(void) { again_with("early", "life:early_end"); }

/* --- objects that were used before main --- */

static void *try_held(void *arg) {
  struct used *u = arg;
  SAY_ERR("plain", pthread_mutex_trylock(&u->plain));
  SAY_ERR("recursive", pthread_mutex_trylock(&u->recursive));
  SAY_ERR("checked", pthread_mutex_trylock(&u->checked));
  SAY_ERR("checked unlock", pthread_mutex_unlock(&u->checked));
  SAY_ERR("writes", pthread_rwlock_tryrdlock(&u->writes));
  SAY_ERR("reads", pthread_rwlock_trywrlock(&u->reads));
  return NULL;
}
static void *wait_for_rwlock(void *arg) {
  int r = pthread_rwlock_wrlock(arg);
  return (void *)(intptr_t)(r ? r : pthread_rwlock_unlock(arg));
}
static void *wait_for_mutex(void *arg) {
  int r = pthread_mutex_lock(arg);
  return (void *)(intptr_t)(r ? r : pthread_mutex_unlock(arg));
}
/* Somebody waits for it, then main unlocks it, so often. */
static void unlock_before(void *(*waits)(void *), void *object, int (*unlock)(void *), int times) {
  pthread_t t = start(waits, object);
  usleep(20000);
  while (times--) SAY_ERR("main unlocks", unlock(object));
  SAY_ERR("had", (int)join_value(t));
}
static int unlock_rwlock(void *rw) { return pthread_rwlock_unlock(rw); }
static int unlock_mutex(void *m) { return pthread_mutex_unlock(m); }
static void *signal_it(void *arg) {
  struct used *u = arg;
  pthread_mutex_lock(&u->plain);
  u->timed++;
  pthread_cond_signal(&u->cond);
  pthread_mutex_unlock(&u->plain);
  return NULL;
}
static void used_objects(struct used *u) {
  in_thread(try_held, u);
  SAY_ERR("own", pthread_rwlock_wrlock(&u->writes));
  SAY_ERR("own", pthread_mutex_lock(&u->checked));
  unlock_before(wait_for_rwlock, &u->writes, unlock_rwlock, 1);
  unlock_before(wait_for_rwlock, &u->reads, unlock_rwlock, 2);
  unlock_before(wait_for_rwlock, &u->reads, unlock_rwlock, 0);
  unlock_before(wait_for_rwlock, &u->written, unlock_rwlock, 0);
  unlock_before(wait_for_rwlock, &u->read, unlock_rwlock, 0);
  unlock_before(wait_for_mutex, &u->recursive, unlock_mutex, 2);
  unlock_before(wait_for_mutex, &u->checked, unlock_mutex, 1);
  pthread_t t = start(signal_it, u);
  while (u->timed != 2) pthread_cond_wait(&u->cond, &u->plain);
  pthread_mutex_unlock(&u->plain);
  pthread_join(t, NULL);
  for (int i = 0; i < 2; i++) say("sem %d", sem_trywait(&u->sem));
  say("sem %d", sem_trywait(&u->sem) < 0 ? errno : 0);
  say("barrier %d", pthread_barrier_wait(&u->barrier));
  SAY_ERR("barrier", pthread_barrier_destroy(&u->barrier));
  say("signalled %d", u->timed);
}
static void used_end(void) {
  struct used *u = dlsym(RTLD_DEFAULT, "used");
  void (*once_more)(void) = NULL;
  *(void **)&once_more = dlsym(RTLD_DEFAULT, "used_once_more");
  if (!u || !once_more) return;
  once_more();
  say("once %d, timed %d", u->onces, u->timed);
  used_objects(u);
}
static void used_by_constructor(void) { again_with("used", "life:used_end"); }

const struct check life_checks[] = {
    CHECK(join_values),
    CHECK(join_many_at_once),
    CHECK(join_hundreds_at_once),
    CHECK(join_one_after_the_other),
    CHECK(nested),
    CHECK(tree),
    CHECK(join_chain),
    CHECK(creator_ends_first),
    CHECK(join_in_time),
    CHECK(detach_alive),
    CHECK(joined_before),
    CHECK(detach_ended),
    CHECK(detach_many),
    CHECK(detached_by_attribute),
    CHECK(little_memory),
    CHECK(main_ends_first),
    CHECK(exit_among_waiters),
    CHECK(quick_exit_of_thread),
    CHECK(abort_of_thread),
    CHECK(equal_self),
    CHECK(attr_values),
    CHECK(attr_defaults),
    CHECK(stack_size),
    CHECK(stack_size_default),
    CHECK(stack_guard),
    CHECK(stack_overflow_kills),
    CHECK(stack_place),
    CHECK(stack_place_of_other),
    CHECK(own_stack),
    CHECK(sched_explicit),
    CHECK(sched_of_running),
    CHECK(sched_order),
    CHECK(sched_fifo_of_running),
    CHECK(sched_inherited),
    CHECK(early_end),
    CHECK(threads_of_constructor),
    CHECK(used_end),
    CHECK(used_by_constructor),
    CHECKS_END,
};
