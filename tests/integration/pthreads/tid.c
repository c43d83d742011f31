/* SPDX-License-Identifier: Apache-2.0 */
/* Threads by what gettid says of them: in calls that are given a tid, and at different times. */
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "checks.h"

static struct gate gate = GATE_CLOSED;
static _Atomic int handled;
static volatile pid_t seen_tid;

static void on_signal(int sig) {
  (void)sig;
  seen_tid = gettid();
  handled++;
}
static void handle(int sig) {
  struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  MUST(sigaction(sig, &a, NULL) == 0);
}

/* --- it stays --- */

static void *stays_thread(void *arg) {
  pid_t first = gettid();
  cpu_set_t set;
  SAY_ERR("kill", pthread_kill(pthread_self(), SIGUSR1));
  say("handled %d, in the handler %d, after it %d", handled, seen_tid == first, gettid() == first);
  MUST(sched_getaffinity(0, sizeof set, &set) == 0);
  SAY_CALL("affinity", sched_setaffinity(0, sizeof set, &set));
  say("still %d, raw %d", gettid() == first, syscall(SYS_gettid) == first);
  SAY_CALL("by it", tgkill(getpid(), first, SIGUSR1));
  say("handled %d, in the handler %d", handled, seen_tid == first);
  return arg;
}
/* Whatever the thread does: others may know it by that. */
static void tid_stays(void) {
  handle(SIGUSR1);
  in_thread(stays_thread, NULL);
}

static pid_t others_tid;
static void *waits_for_signal(void *arg) {
  others_tid = gettid();
  gate_pass(&gate);
  UNTIL(handled == 1);
  say("in the handler %d, after it %d", seen_tid == others_tid, gettid() == others_tid);
  return arg;
}
static void tid_stays_of_other(void) {
  handle(SIGUSR1);
  pthread_t t = start(waits_for_signal, NULL);
  gate_await(&gate, 1);
  gate_open(&gate);
  int r = tgkill(getpid(), others_tid, SIGUSR1), e = errno;
  pthread_join(t, NULL);
  say("tgkill %d %s", r, r ? err(e) : "");
}

static void *forks(void *arg) {
  pid_t own = gettid(), pid = fork();
  if (pid == 0) {
    say("child: pid %d, forker's %d", gettid() == getpid(), gettid() == own);
    SAY_CALL("child: raise", raise(SIGUSR1));
    say("child: in the handler %d", seen_tid == getpid());
    SAY_CALL("child: priority", getpriority(PRIO_PROCESS, (id_t)gettid()));
    _exit(0);
  }
  MUST(waitpid(pid, NULL, 0) == pid);
  say("still %d", gettid() == own);
  return arg;
}
static void tid_after_fork(void) {
  handle(SIGUSR1);
  in_thread(forks, NULL);
}

/* --- what a thread has, by its tid --- */

static void say_what_it_has(pid_t tid) {
  struct sched_param param = {.sched_priority = 77};
  struct timespec ts;
  struct rlimit lim;
  cpu_set_t set;
  SAY_CALL("policy", sched_getscheduler(tid));
  SAY_CALL("parameters", sched_getparam(tid, &param));
  say("priority %d", param.sched_priority);
  SAY_CALL("interval", sched_rr_get_interval(tid, &ts));
  SAY_CALL("affinity", sched_getaffinity(tid, sizeof set, &set));
  SAY_CALL("nice", getpriority(PRIO_PROCESS, (id_t)tid));
  SAY_CALL("ioprio", syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid) < 0 ? -1 : 0);
  SAY_CALL("limit", prlimit(tid, RLIMIT_NOFILE, NULL, &lim));
  say("pgid %d, sid %d", getpgid(tid) == getpgid(0), getsid(tid) == getsid(0));
  SAY_CALL("kill 0", kill(tid, 0));
  SAY_CALL("raw policy", syscall(SYS_sched_getscheduler, tid));
  SAY_CALL("raw limit", syscall(SYS_prlimit64, tid, RLIMIT_NOFILE, NULL, &lim));
}

static void *has_thread(void *arg) {
  others_tid = gettid();
  say_what_it_has(others_tid);
  gate_pass(&gate);
  return arg;
}
static void asked_by_tid(void) {
  pthread_t t = start(has_thread, NULL);
  gate_await(&gate, 1);
  say("by main");
  say_what_it_has(others_tid);
  gate_open(&gate);
  pthread_join(t, NULL);
  say("none");
  SAY_CALL("kill 0", kill(others_tid, 0));
  SAY_CALL("policy", sched_getscheduler(others_tid));
  SAY_CALL("nice", getpriority(PRIO_PROCESS, (id_t)others_tid));
}

/* --- what is set by it --- */

static void say_set(pid_t tid, int nice) {
  const struct sched_param none = {0};
  cpu_set_t all, one;
  MUST(sched_getaffinity(0, sizeof all, &all) == 0);
  CPU_ZERO(&one);
  int cpu = 0;
  while (!CPU_ISSET(cpu, &all)) cpu++;
  CPU_SET(cpu, &one);
  SAY_CALL("nice", setpriority(PRIO_PROCESS, (id_t)tid, nice));
  SAY_CALL("is", getpriority(PRIO_PROCESS, (id_t)tid));
  SAY_CALL("batch", sched_setscheduler(tid, SCHED_BATCH, &none));
  say("is %d", sched_getscheduler(tid) == SCHED_BATCH);
  SAY_CALL("parameters", sched_setparam(tid, &none));
  SAY_CALL("affinity", sched_setaffinity(tid, sizeof one, &one));
  SAY_CALL("is", sched_getaffinity(tid, sizeof all, &all));
  say("that %d", CPU_EQUAL(&one, &all));
  SAY_CALL("ioprio", syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 6)));
  say("is %d", syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid) == IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 6));
}

static void say_own(int nice) { say("own nice %d, batch %d", getpriority(PRIO_PROCESS, 0) == nice, sched_getscheduler(0) == SCHED_BATCH); }

static void *sets_own(void *arg) {
  say_set(gettid(), 3);
  return arg;
}
static void *later_thread(void *arg) {
  say_own(0);
  return arg;
}
static void set_by_own_tid(void) {
  in_thread(sets_own, NULL);
  in_thread(later_thread, NULL);
  say_own(0);
}

static void *is_set(void *arg) {
  others_tid = gettid();
  gate_pass(&gate);
  say_own(4);
  return arg;
}
static void set_by_others(void) {
  pthread_t t = start(is_set, NULL);
  gate_await(&gate, 1);
  say_set(others_tid, 4);
  gate_open(&gate);
  pthread_join(t, NULL);
  in_thread(later_thread, NULL);
}

/* --- who is told --- */

static void *owner_thread(void *arg) {
  struct f_owner_ex set = {F_OWNER_TID, gettid()}, get = {-1, -1};
  int fd[2];
  MUST(pipe(fd) == 0);
  SAY_CALL("set", fcntl(fd[0], F_SETOWN_EX, &set));
  SAY_CALL("get", fcntl(fd[0], F_GETOWN_EX, &get));
  say("type %d, own %d", get.type == F_OWNER_TID, get.pid == gettid());
  SAY_CALL("async", fcntl(fd[0], F_SETFL, O_ASYNC));
  MUST(write(fd[1], "x", 1) == 1);
  UNTIL(handled == 1);
  say("in the thread %d", seen_tid == set.pid);
  close(fd[0]);
  close(fd[1]);
  return arg;
}
static void owner_by_tid(void) {
  handle(SIGIO);
  in_thread(owner_thread, NULL);
}

/* By the older names: these mean the process of that thread, whom the kernel asks first. */
enum owning { OWN_FCNTL, OWN_PID, OWN_RAW, OWN_IOCTL, OWN_SIOC, OWN_RAW_IOCTL, OWNINGS };
static int own_by(enum owning how, int fd, pid_t tid) {
  struct f_owner_ex ex = {F_OWNER_PID, tid};
  switch (how) {
    case OWN_FCNTL:
      return fcntl(fd, F_SETOWN, tid);
    case OWN_PID:
      return fcntl(fd, F_SETOWN_EX, &ex);
    case OWN_RAW:
      return (int)syscall(SYS_fcntl, fd, F_SETOWN, tid);
    case OWN_IOCTL:
      return ioctl(fd, FIOSETOWN, &tid);
    case OWN_SIOC:
      return ioctl(fd, SIOCSPGRP, &tid);
    default:
      return (int)syscall(SYS_ioctl, fd, FIOSETOWN, &tid);
  }
}
static void say_owned(enum owning how, pid_t tid) {
  int fd[2], said = -1, before = handled;
  struct f_owner_ex ex = {-1, -1};
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
  say("by %d", (int)how);
  SAY_CALL("set", own_by(how, fd[0], tid));
  SAY_CALL("get", fcntl(fd[0], F_GETOWN));
  SAY_CALL("get", ioctl(fd[0], FIOGETOWN, &said));
  SAY_CALL("get", fcntl(fd[0], F_GETOWN_EX, &ex));
  say("said %d, type %d, pid %d", said, ex.type, ex.pid);
  SAY_CALL("async", fcntl(fd[0], F_SETFL, O_ASYNC));
  seen_tid = 0;
  MUST(write(fd[1], "x", 1) == 1);
  UNTIL(handled > before);
  say("in the thread %d", seen_tid == tid);
  close(fd[0]);
  close(fd[1]);
}
static void *owns_thread(void *arg) {
  for (int how = 0; how < OWNINGS; how++) say_owned((enum owning)how, gettid());
  return arg;
}
static void *owned_thread(void *arg) {
  others_tid = gettid();
  gate_pass(&gate);
  return arg;
}
static void owner_of_process(void) {
  struct f_owner_ex ex = {F_OWNER_TID, 0};
  int fd[2], said = -1;
  handle(SIGIO);
  in_thread(owns_thread, NULL);
  pthread_t t = start(owned_thread, NULL);
  gate_await(&gate, 1);
  say("another");
  for (int how = 0; how < OWNINGS; how++) say_owned((enum owning)how, others_tid);
  ex.pid = others_tid;
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
  SAY_CALL("set", fcntl(fd[0], F_SETOWN_EX, &ex));
  say("get %d", fcntl(fd[0], F_GETOWN) == others_tid);
  SAY_CALL("get", ioctl(fd[0], SIOCGPGRP, &said));
  say("said %d", said == others_tid);
  SAY_CALL("main", fcntl(fd[0], F_SETOWN, getpid()));
  say("main %d", fcntl(fd[0], F_GETOWN) == getpid());
  SAY_CALL("group", fcntl(fd[0], F_SETOWN, -getpgrp()));
  SAY_CALL("none", fcntl(fd[0], F_SETOWN, 0));
  SAY_CALL("bad", ioctl(fd[0], FIOSETOWN, NULL));
  gate_open(&gate);
  pthread_join(t, NULL);
}

static void *waits_for_timer(void *arg) {
  others_tid = gettid();
  gate_pass(&gate);
  UNTIL(handled == 1);
  return arg;
}
static void timer_of_other(void) {
  struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
  const struct itimerspec soon = {.it_value = {0, 1000000}};
  timer_t timer;
  handle(SIGUSR1);
  pthread_t t = start(waits_for_timer, NULL);
  gate_await(&gate, 1);
  ev._sigev_un._tid = others_tid;
  SAY_CALL("create", timer_create(CLOCK_MONOTONIC, &ev, &timer));
  gate_open(&gate);
  SAY_CALL("set", timer_settime(timer, 0, &soon, NULL));
  pthread_join(t, NULL);
  say("in the thread %d", seen_tid == others_tid);
  SAY_CALL("delete", timer_delete(timer));
}

static void *killed_pauses(void *arg) {
  others_tid = gettid();
  gate_pass(&gate);
  return arg;
}
static void *killed_takes(void *arg) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  gate_pass(&gate);
  UNTIL(handled == 1);
  say("in this thread %d", seen_tid == gettid());
  return arg;
}
/* A signal to the process, by the tid of a thread that blocks it. */
static void process_by_tid(void) {
  sigset_t set;
  handle(SIGUSR1);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  pthread_t a = start(killed_pauses, NULL), b = start(killed_takes, NULL);
  gate_await(&gate, 2);
  SAY_CALL("kill", kill(others_tid, SIGUSR1));
  UNTIL(handled == 1);
  gate_open(&gate);
  pthread_join(a, NULL);
  pthread_join(b, NULL);
}

/* --- futexes with an owner --- */

static _Atomic uint32_t owned;

static void take_owned(void) {
  uint32_t none = 0;
  if (!atomic_compare_exchange_strong(&owned, &none, (uint32_t)gettid()))
    MUST(syscall(SYS_futex, &owned, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
}

static void give_owned(void) {
  uint32_t mine = (uint32_t)gettid();
  if (!atomic_compare_exchange_strong(&owned, &mine, 0)) MUST(syscall(SYS_futex, &owned, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
}

static void *holds_owned(void *arg) {
  take_owned();
  gate_pass(&gate); /* until others wait */
  give_owned();
  return arg;
}

static void *next_thread(void *arg) {
  take_owned();
  say("next is owner %d", (owned & FUTEX_TID_MASK) == (uint32_t)gettid());
  give_owned();
  return arg;
}

static void *refused_thread(void *arg) {
  SAY_CALL("try", syscall(SYS_futex, &owned, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
  SAY_CALL("unlock", syscall(SYS_futex, &owned, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
  SAY_CALL("bad", syscall(SYS_futex, arg, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
  return NULL;
}

static void owned_futex(void) {
  pthread_t first = start(holds_owned, NULL), next;
  gate_await(&gate, 1);
  in_thread(refused_thread, (void *)8);
  next = start(next_thread, NULL);
  UNTIL(owned & FUTEX_WAITERS);
  gate_open(&gate);
  pthread_join(first, NULL);
  pthread_join(next, NULL);
  take_owned();
  say("main is owner %d", (owned & FUTEX_TID_MASK) == (uint32_t)gettid());
  give_owned();
  say("left %u", owned);
}

/* One count, each time by whoever has it. */
static long counted;
static void *counts_owned(void *arg) {
  for (int i = 0; i < 300; i++) {
    take_owned();
    counted++;
    if (i % 50 == 0) nap(1);
    give_owned();
  }
  return arg;
}

static void owned_futex_of_many(void) {
  pthread_t t[6];
  for (int i = 0; i < 6; i++) t[i] = start(counts_owned, NULL);
  for (int i = 0; i < 6; i++) pthread_join(t[i], NULL);
  say("counted %ld, left %u", counted, owned & FUTEX_TID_MASK);
}

const struct check tid_checks[] = {
    CHECK(owned_futex),    CHECK(owned_futex_of_many), CHECK(tid_stays),     CHECK(tid_stays_of_other), CHECK(tid_after_fork),
    CHECK(asked_by_tid),   CHECK(set_by_own_tid),      CHECK(set_by_others), CHECK(owner_by_tid),       CHECK(owner_of_process),
    CHECK(timer_of_other), CHECK(process_by_tid),      CHECKS_END,
};
