/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: ends in the middle of something, and what is left of a thread after it. */
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <fenv.h>
#if defined(__x86_64__)
#include <asm/prctl.h>
#endif
#include <dlfcn.h>
#include <netdb.h>
#include <resolv.h>
#include <sys/mman.h>
#include "checks.h"

/* --- joined and detached --- */

static struct gate gate = GATE_CLOSED;

static void *detach_self(void *arg) {
  gate_pass(&gate);
  SAY_ERR("detach", pthread_detach(pthread_self()));
  return arg;
}

static _Atomic int joining;
static void *join_other(void *arg) {
  void *r = NULL;
  joining = 1;
  int e = pthread_join(*(pthread_t *)arg, &r);
  say("join: %s %ld", err(e), (long)r);
  return NULL;
}

static void *own_number(void *arg) {
  static __thread int own;
  own = (int)(intptr_t)arg;
  gate_pass(&gate);
  nap(1);
  return (void *)(intptr_t)own;
}

/* All of them are there at once: were one identity given to two, these would be each other's. */
static void many_at_once(void) {
  enum { MANY = 8 };
  pthread_t t[MANY];
  gate = (struct gate)GATE_CLOSED;
  for (intptr_t i = 0; i < MANY; i++) t[i] = start(own_number, (void *)i);
  gate_await(&gate, MANY);
  gate_open(&gate);
  for (int i = 0; i < MANY; i++) MUST(join_value(t[i]) == i);
  say("%d threads, each its own", MANY);
}

static void detached_while_joined(void) {
  pthread_t t = start(detach_self, (void *)5), u = start(join_other, &t);
  UNTIL(joining);
  nap(50);
  gate_open(&gate);
  pthread_join(u, NULL);
  many_at_once();
}

static void detached_by_another_while_joined(void) {
  pthread_t t = start(own_number, (void *)6), u = start(join_other, &t);
  UNTIL(joining);
  nap(50);
  SAY_ERR("detach", pthread_detach(t));
  SAY_ERR("try", pthread_tryjoin_np(t, NULL));
  gate_open(&gate);
  pthread_join(u, NULL);
  many_at_once();
}

/* --- the last thread --- */

static void at_exit(void) { say("at exit"); }

static void *say_late(void *arg) {
  nap(60);
  say("late: %s", (char *)arg);
  return NULL;
}

static void *nap_a_little(void *arg) {
  nap(5);
  return arg;
}

/* One with a stack of its own, one with a CPU, one that asks for a policy, and one as others: main is not the last, nor is the last a thread like others. */
static void main_ends_before_all_kinds(void) {
  pthread_attr_t own, cpu, explicit;
  pthread_t t;
  cpu_set_t set;
  static char stack[1 << 18] __attribute__((aligned(4096)));
  atexit(at_exit);
  pthread_attr_init(&own);
  pthread_attr_init(&cpu);
  pthread_attr_init(&explicit);
  MUST(pthread_attr_setstack(&own, stack, sizeof stack) == 0);
  MUST(sched_getaffinity(0, sizeof set, &set) == 0 && pthread_attr_setaffinity_np(&cpu, sizeof set, &set) == 0);
  MUST(pthread_attr_setinheritsched(&explicit, PTHREAD_EXPLICIT_SCHED) == 0);
  switch (fork()) {
    case 0:
      MUST(pthread_create(&t, &own, say_late, "own stack") == 0);
      break;
    case -1:
      MUST(0);
      break;
    default:
      wait(NULL);
      if (fork() == 0) {
        MUST(pthread_create(&t, &cpu, say_late, "affinity") == 0);
        break;
      }
      wait(NULL);
      MUST(pthread_create(&t, &explicit, say_late, "policy") == 0);
  }
  pthread_detach(t);
  pthread_detach(start(nap_a_little, NULL));
  pthread_exit(NULL);
}

/* Its creator, a thread as others, has ended too. */
static void *leave_one_behind(void *arg) {
  pthread_attr_t own;
  pthread_t t;
  static char stack[1 << 18] __attribute__((aligned(4096)));
  pthread_attr_init(&own);
  MUST(pthread_attr_setstack(&own, stack, sizeof stack) == 0);
  MUST(pthread_create(&t, &own, say_late, arg) == 0);
  return NULL;
}
static void creator_ends_before_kernels_own(void) {
  atexit(at_exit);
  pthread_detach(start(leave_one_behind, "of a thread"));
  pthread_exit(NULL);
}

static void on_timer(union sigval v) {
  static _Atomic int ticks;
  if (++ticks < v.sival_int) return;
  say("%d ticks", v.sival_int);
  exit(3);
}
static void main_ends_before_timer(void) {
  timer_t timer;
  struct sigevent e = {.sigev_notify = SIGEV_THREAD, .sigev_value = {.sival_int = 4}};
  e.sigev_notify_function = on_timer;
  MUST(timer_create(CLOCK_MONOTONIC, &e, &timer) == 0);
  const struct itimerspec every = {{0, 20000000}, {0, 20000000}};
  MUST(timer_settime(timer, 0, &every, NULL) == 0);
  pthread_exit(NULL);
}

/* --- ends that nobody is told of --- */

static void *change_affinity(void *arg) {
  cpu_set_t set;
  MUST(sched_getaffinity(0, sizeof set, &set) == 0);
  MUST(pthread_setaffinity_np(pthread_self(), sizeof set, &set) == 0);
  return arg;
}

static void never(void *arg) { say("never: %s", (char *)arg); }
static void *exit_raw(void *arg) {
  pthread_cleanup_push(never, "a cleanup handler");
  if (arg) change_affinity(NULL); /* it has a kernel thread of its own */
  syscall(SYS_exit, 5);
  pthread_cleanup_pop(0);
  return arg;
}
static void raw_exits(void) {
  pthread_attr_t own;
  pthread_t t;
  static char stack[1 << 18] __attribute__((aligned(4096)));
  for (intptr_t i = 0; i < 6; i++) say("value %ld", (long)in_thread(exit_raw, (void *)(i % 2)));
  pthread_attr_init(&own);
  MUST(pthread_attr_setstack(&own, stack, sizeof stack) == 0);
  MUST(pthread_create(&t, &own, exit_raw, NULL) == 0);
  say("value %ld", (long)join_value(t));
  many_at_once();
}

/* --- what is left of many --- */

/* MiB of address space (0), or of memory (1). */
static long statm_mib(int which) {
  long v[2] = {0, 0};
  FILE *f = fopen("/proc/self/statm", "r");
  MUST(f && fscanf(f, "%ld %ld", &v[0], &v[1]) == 2);
  fclose(f);
  return v[which] * sysconf(_SC_PAGESIZE) >> 20;
}

static void *change_slack(void *arg) {
  MUST(prctl(PR_SET_TIMERSLACK, 50001UL, 0UL, 0UL, 0UL) == 0);
  return arg;
}

/* Each has a kernel thread of its own, which goes with it, and its stack. */
static void kernels_own_go(void) {
  long before = 0;
  for (intptr_t i = 0; i < 1200; i++) {
    MUST(in_thread(i % 2 ? change_affinity : change_slack, (void *)i) == i);
    if (i == 200) before = statm_mib(0);
  }
  say("much more address space: %d", statm_mib(0) - before > 150);
}

/* --- what comes from the creator, and what does not come from who was there before --- */

static void *say_rounding(void *arg) {
  volatile long double one = 1, three = 3;
  volatile double one_d = 1, three_d = 3;
  say("up %d, %.20Lf, %.20f", fegetround() == FE_UPWARD, one / three, one_d / three_d);
  return arg;
}
static void *round_up(void *arg) {
  fesetround(FE_UPWARD);
  return (void *)in_thread(say_rounding, arg);
}
static void rounding_of_creator(void) {
  in_thread(round_up, NULL);
  in_thread(say_rounding, NULL);
  fesetround(FE_UPWARD);
  in_thread(say_rounding, NULL);
  in_thread(round_up, NULL);
  fesetround(FE_TONEAREST);
  in_thread(say_rounding, NULL);
}

#if defined(__x86_64__)
static _Atomic int others_gs;
static void *keep_gs(void *arg) {
  unsigned long own = ((unsigned long)(uintptr_t)arg + 1) << 16, now;
  MUST(syscall(SYS_arch_prctl, ARCH_SET_GS, own) == 0);
  for (int i = 0; i < 40; i++) {
    nap(1);
    MUST(syscall(SYS_arch_prctl, ARCH_GET_GS, &now) == 0);
    if (now != own) others_gs++;
  }
  return NULL;
}
static void gs_of_each(void) {
  pthread_t t[6];
  for (intptr_t i = 0; i < 6; i++) t[i] = start(keep_gs, (void *)i);
  for (int i = 0; i < 6; i++) pthread_join(t[i], NULL);
  say("another's %d", others_gs);
}
#else
static void gs_of_each(void) {}
#endif

static void *spoil(void *arg) {
  MUST(dlopen("/nowhere", RTLD_NOW) == NULL);
  h_errno = 3;
  errno = 4;
  MUST(res_init() == 0);
  _res.options |= RES_DEBUG;
  return arg;
}
static void *say_libcs(void *arg) {
  const char *e = dlerror();
  say("dlerror %s, h_errno %d, errno %d, resolver %d", e ? e : "none", h_errno, errno, (_res.options & RES_INIT) != 0);
  MUST(res_init() == 0);
  say("debug %d, servers %d", (_res.options & RES_DEBUG) != 0, _res.nscount > 0);
  return arg;
}
static void libcs_is_fresh(void) {
  for (int i = 0; i < 3; i++) {
    in_thread(spoil, NULL);
    in_thread(say_libcs, NULL);
  }
}

static void *echo(void *arg) { return arg; }
/* As many as a program can think of. */
static void many_sizes_of_stack(void) {
  pthread_attr_t a;
  pthread_t t;
  long before = 0, before_mib = 0;
  pthread_attr_init(&a);
  for (intptr_t i = 0; i < 3000; i++) {
    MUST(pthread_attr_setstacksize(&a, (64 + 4 * (size_t)(i % 40)) << 10) == 0);
    MUST(pthread_attr_setguardsize(&a, i % 3 * 4096u) == 0);
    MUST(pthread_create(&t, &a, echo, (void *)i) == 0 && join_value(t) == i);
    if (i == 500) before = statm_mib(0), before_mib = statm_mib(1);
  }
  say("much more address space: %d, memory: %d", statm_mib(0) - before > 100, statm_mib(1) - before_mib > 4);
}

static void *say_size(void *arg) {
  pthread_attr_t a;
  void *lowest = NULL;
  size_t size = 0, guard = 0;
  char here;
  MUST(pthread_getattr_np(pthread_self(), &a) == 0);
  pthread_attr_getstack(&a, &lowest, &size);
  pthread_attr_getguardsize(&a, &guard);
  *(volatile char *)lowest = 1; /* all of it is there */
  say("inside %d, size %zu, guard %zu", &here >= (char *)lowest && &here < (char *)lowest + size, size, guard);
  return arg;
}
static void odd_sizes_of_stack(void) {
  for (size_t i = 0; i < 50; i++) {
    pthread_attr_t a;
    pthread_t t;
    pthread_attr_init(&a);
    MUST(pthread_attr_setstacksize(&a, 30000 + i * 17777) == 0 && pthread_attr_setguardsize(&a, i % 3 * 5000) == 0);
    MUST(pthread_create(&t, &a, say_size, NULL) == 0);
    join_value(t);
  }
}

static void stacks_locked_in_memory(void) {
  if (geteuid() != 0) return; /* others may lock too little */
  MUST(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
  long before = statm_mib(1);
  for (intptr_t i = 0; i < 3; i++) MUST(in_thread(echo, (void *)i) == i);
  say("a few stacks of memory: %d", statm_mib(1) - before < 100);
  munlockall();
}

static void *use_much(void *arg) {
  volatile char much[2 << 20];
  for (size_t i = 0; i < sizeof much; i += 4096) much[i] = 1;
  gate_pass(&gate);
  return (void *)(intptr_t)(much[4096] == 1 ? arg : NULL);
}
/* As much as they are at a time; then they are gone, and a little later so is what they had. */
static void used_stacks_go(void) {
  enum { MANY = 60 };
  pthread_t t[MANY];
  for (intptr_t i = 0; i < MANY; i++) t[i] = start(use_much, (void *)i);
  gate_await(&gate, MANY);
  say("at a time: %d", statm_mib(1) > MANY * 2);
  gate_open(&gate);
  for (int i = 0; i < MANY; i++) join_value(t[i]);
  UNTIL(statm_mib(1) < MANY);
  say("later: less");
  many_at_once();
}

const struct check ends_checks[] = {
    CHECK(detached_while_joined),
    CHECK(detached_by_another_while_joined),
    CHECK(main_ends_before_all_kinds),
    CHECK(creator_ends_before_kernels_own),
    CHECK(main_ends_before_timer),
    CHECK(raw_exits),
    CHECK(kernels_own_go),
    CHECK(rounding_of_creator),
    CHECK(gs_of_each),
    CHECK(libcs_is_fresh),
    CHECK(many_sizes_of_stack),
    CHECK(odd_sizes_of_stack),
    CHECK(stacks_locked_in_memory),
    CHECK(used_stacks_go),
    CHECKS_END,
};
