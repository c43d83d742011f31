/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plain pthread program whose threads all wait, each in its own way: for tests of what `ration ps`, `ration gs` and gdb say of free mode.
 * Each has its own value of a thread-local variable and of errno.  Prints "ready"; ends when it is killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MUST(cond)                                                        \
  do {                                                                    \
    if (!(cond)) {                                                        \
      fprintf(stderr, "threads: line %d: not so: %s\n", __LINE__, #cond); \
      _exit(1);                                                           \
    }                                                                     \
  } while (0)
#define KEPT __attribute__((noinline))
#define WAITERS 3

static __thread volatile int number; /* which thread it is */
static _Atomic int began;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_t first;

static void begins(int n, const char *name) {
  number = n;
  MUST(pthread_setname_np(pthread_self(), name) == 0);
  errno = 100 + n;
  atomic_fetch_add(&began, 1);
}

/* What follows the call keeps it from being a tail call. */
static KEPT void waits_for_cond(void) {
  MUST(pthread_mutex_lock(&mu) == 0);
  for (;;) pthread_cond_wait(&cond, &mu);
}
static void *waiter(void *arg) {
  begins((int)(size_t)arg, "waiter");
  waits_for_cond();
  return arg;
}
static void *locker(void *arg) {
  begins(10, "locker");
  pthread_mutex_lock(&held);
  return arg;
}
static KEPT void reads_for_ever(int fd) {
  char byte;
  while (read(fd, &byte, 1) != 0) continue;
  atomic_fetch_add(&began, 1);
}
static void *reader(void *arg) {
  begins(11, "reader");
  reads_for_ever((int)(size_t)arg);
  return arg;
}
static void *sleeper(void *arg) {
  begins(12, "sleeper");
  sleep(1000);
  return arg;
}
static void *joiner(void *arg) {
  begins(13, "joiner");
  pthread_join(first, NULL);
  return arg;
}
static KEPT void spins(void) {
  for (volatile unsigned long n = 0;; n++) continue;
}
static void *spinner(void *arg) {
  begins(14, "spinner");
  spins();
  return arg;
}
static sigjmp_buf after_fault;
static void on_fault(int sig) { siglongjmp(after_fault, sig); }
/* Handles a fault on a stack of its own: only a kernel thread can. */
static void *wired(void *arg) {
  stack_t s = {.ss_sp = malloc(65536), .ss_size = 65536};
  struct sigaction a = {.sa_handler = on_fault, .sa_flags = SA_ONSTACK};
  MUST(s.ss_sp && sigaltstack(&s, NULL) == 0 && sigaction(SIGSEGV, &a, NULL) == 0);
  volatile int *volatile nowhere = (int *)8;
  if (sigsetjmp(after_fault, 1) == 0) *nowhere = 1;
  begins(15, "wired");
  waits_for_cond();
  return arg;
}

static pthread_t start(void *(*fn)(void *), size_t arg) {
  pthread_t t;
  MUST(pthread_create(&t, NULL, fn, (void *)arg) == 0);
  return t;
}

int main(void) {
  int fds[2];
  MUST(pipe(fds) == 0);
  MUST(pthread_mutex_lock(&held) == 0);
  first = start(waiter, 1);
  for (size_t i = 2; i <= WAITERS; i++) start(waiter, i);
  start(locker, 0);
  start(reader, (size_t)fds[0]);
  start(sleeper, 0);
  start(joiner, 0);
  start(spinner, 0);
  start(wired, 0);
  for (int i = 0; atomic_load(&began) < WAITERS + 6; i++) {
    MUST(i < 20000);
    usleep(1000);
  }
  usleep(50000); /* and now they wait */
  number = 99;
  puts("ready");
  fflush(stdout);
  for (;;) pause();
}
