/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_TESTS_SYNC_RIG_H
#define RATION_TESTS_SYNC_RIG_H
/* For the tests of shim/sync: Gs and threads by the dozen, and waiting until something is so. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "ration/context.h"
#include "ration/sync.h"
#include "unit.h"

/* Those that `go` started and that have not ended. */
static struct ration_waitgroup going;

struct rig_call {
  ration_fn *fn;
  void *arg;
};
static void *rig_run(void *arg) {
  struct rig_call c = *(struct rig_call *)arg;
  free(arg);
  c.fn(c.arg);
  ration_waitgroup_done(&going);
  return NULL;
}
static void rig_run_g(void *arg) { rig_run(arg); }

static inline void go_as(bool thread, ration_fn *fn, void *arg) {
  struct rig_call *c = malloc(sizeof *c);
  *c = (struct rig_call){fn, arg};
  ration_waitgroup_add(&going, 1);
  if (!thread) {
    ck_assert_int_eq(ration_go(rig_run_g, c), 0);
    return;
  }
  pthread_t t;
  ck_assert_int_eq(pthread_create(&t, NULL, rig_run, c), 0);
  pthread_detach(t);
}
static inline void go(ration_fn *fn, void *arg) { go_as(false, fn, arg); }
static inline void go_thread(ration_fn *fn, void *arg) { go_as(true, fn, arg); }
/* n of them; every fourth a plain thread. */
static inline void go_mixed(int n, ration_fn *fn, void *arg) {
  for (int i = 0; i < n; i++) go_as(i % 4 == 3, fn, arg);
}
static inline void wait_all(void) { ck_assert_int_eq(ration_waitgroup_wait_timeout(&going, 15 * RATION_SECOND), 0); }

/* Waits until it is so, for 10 s at most. */
#define EVENTUALLY(what)                                                 \
  do {                                                                   \
    ration_ns end_ = ration_now() + 10 * RATION_SECOND;                  \
    while (!(what) && ration_now() < end_) ration_sleep(50 * RATION_US); \
    ck_assert_msg((what), "never: %s", #what);                           \
  } while (0)

/* fn ends the program, and says so. */
static inline void ends_the_program(void (*fn)(void), const char *text) {
  int fds[2];
  ck_assert_int_eq(pipe(fds), 0);
  pid_t pid = fork();
  ck_assert_int_ge(pid, 0);
  if (pid == 0) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    signal(SIGABRT, SIG_DFL);
    dup2(fds[1], 2);
    fn();
    _exit(0);
  }
  close(fds[1]);
  char said[4096];
  size_t n = 0;
  for (ssize_t r; n < sizeof said - 1 && (r = read(fds[0], said + n, sizeof said - 1 - n)) > 0;) n += (size_t)r;
  said[n] = 0;
  close(fds[0]);
  int status = 0;
  ck_assert_int_eq(waitpid(pid, &status, 0), pid);
  ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %#x, said: %s", (unsigned)status, said);
  ck_assert_msg(strstr(said, text) != NULL, "said: %s", said);
}

#endif
