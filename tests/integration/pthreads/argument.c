/* SPDX-License-Identifier: Apache-2.0 */
/* What a call does with arguments that it can't take, in a thread: an error, at once. */
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include "checks.h"

static void *volatile nowhere = (void *)8;
static char far[256]; /* not on the stack */

static void run_there(void *(*fn)(void *)) { in_thread(fn, NULL); }

static void *probe_clone3(void *arg) {
  SAY_CALL("none", syscall(SYS_clone3, NULL, 0));
  SAY_CALL("small", syscall(SYS_clone3, far, 4));
  SAY_CALL("bad", syscall(SYS_clone3, nowhere, 64));
  return arg;
}

static void *bad_times(void *arg) {
  struct timespec wrong = {5, 2000000000}, soon = {0, 1};
  struct epoll_event ev;
  int ep = epoll_create1(EPOLL_CLOEXEC);
  SAY_CALL("nanosleep", nanosleep(nowhere, NULL));
  SAY_CALL("nanosleep, none", nanosleep(NULL, NULL));
  SAY_CALL("nanosleep, wrong", nanosleep(&wrong, NULL));
  SAY_CALL("raw nanosleep", syscall(SYS_nanosleep, nowhere, NULL));
  SAY_ERR("clock_nanosleep", clock_nanosleep(CLOCK_MONOTONIC, 0, nowhere, NULL));
  memcpy(far, &soon, sizeof soon);
  SAY_CALL("nanosleep, far", nanosleep((struct timespec *)far, NULL));
  SAY_CALL("epoll_pwait2", epoll_pwait2(ep, &ev, 1, nowhere, NULL));
  SAY_CALL("epoll_pwait2, wrong", epoll_pwait2(ep, &ev, 1, &wrong, NULL));
  SAY_CALL("epoll_pwait2, mask", epoll_pwait2(ep, &ev, 1, &soon, nowhere));
  SAY_CALL("epoll_pwait2, far", epoll_pwait2(ep, &ev, 1, (struct timespec *)far, NULL));
  SAY_CALL("epoll_pwait, mask", epoll_pwait(ep, &ev, 1, 1, nowhere));
  close(ep);
  return arg;
}

static void *bad_semtimedop(void *arg) {
  struct sembuf down = {0, -1, 0};
  int id = semget(IPC_PRIVATE, 1, 0600 | IPC_CREAT);
  MUST(id >= 0);
  SAY_CALL("time", semtimedop(id, &down, 1, nowhere));
  SAY_CALL("operations", semtimedop(id, nowhere, 1, NULL));
  semctl(id, 0, IPC_RMID);
  return arg;
}

static void *bad_signal_sets(void *arg) {
  sigset_t none;
  struct timespec soon = {0, 1};
  sigemptyset(&none);
  SAY_CALL("sigtimedwait", sigtimedwait(nowhere, NULL, &soon));
  SAY_CALL("sigtimedwait, time", sigtimedwait(&none, NULL, nowhere));
  SAY_CALL("sigwaitinfo", sigwaitinfo(nowhere, NULL));
  SAY_CALL("sigsuspend", sigsuspend(nowhere));
  SAY_CALL("signalfd", signalfd(-1, nowhere, 0));
  return arg;
}

static void argument_clone3(void) { run_there(probe_clone3); }
static void argument_times(void) { run_there(bad_times); }
static void argument_semtimedop(void) { run_there(bad_semtimedop); }
static void argument_signal_sets(void) { run_there(bad_signal_sets); }

const struct check argument_checks[] = {CHECK(argument_clone3), CHECK(argument_times), CHECK(argument_semtimedop),
                                        CHECK(argument_signal_sets), CHECKS_END};
