/* SPDX-License-Identifier: Apache-2.0 */
/* Threads where the kernel makes no more for a while (RLIMIT_NPROC), and where the first one has left. */
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "checks.h"

/* A user whose processes nobody else counts, and whom limits are for. */
static void be_a_user(void) {
  uid_t own = 100000 + (uid_t)getpid();
  if (geteuid() == 0) MUST(setresuid(own, own, own) == 0);
}

static void allow_threads(bool allow) {
  struct rlimit lim;
  MUST(getrlimit(RLIMIT_NPROC, &lim) == 0);
  lim.rlim_cur = allow ? lim.rlim_max : 1;
  MUST(setrlimit(RLIMIT_NPROC, &lim) == 0);
}

/* --- those that are there wait in the kernel for one that is to run yet --- */

#define OPENERS 12
static struct gate gate = GATE_CLOSED, second = GATE_CLOSED;
static char dir[] = "/tmp/pthreads-XXXXXX";
static char fifos[OPENERS][64];

static void *opens(void *arg) {
  gate_pass(&gate);
  int fd = open(arg, O_RDONLY);
  MUST(fd >= 0);
  close(fd);
  return NULL;
}
static void *opens_others(void *arg) {
  gate_pass(&second);
  for (int i = 0; i < OPENERS; i++) {
    int fd = open(fifos[i], O_WRONLY);
    MUST(fd >= 0);
    close(fd);
  }
  return arg;
}
static void none_to_be_had(void) {
  pthread_t t[OPENERS], last;
  be_a_user();
  MUST(mkdtemp(dir));
  for (int i = 0; i < OPENERS; i++) {
    snprintf(fifos[i], sizeof fifos[i], "%s/%d", dir, i);
    MUST(mkfifo(fifos[i], 0600) == 0);
    t[i] = start(opens, fifos[i]);
  }
  last = start(opens_others, NULL);
  gate_await(&gate, OPENERS);
  gate_await(&second, 1);
  allow_threads(false);
  gate_open(&gate);
  nap(300);
  gate_open(&second);
  nap(300);
  allow_threads(true);
  for (int i = 0; i < OPENERS; i++) pthread_join(t[i], NULL);
  pthread_join(last, NULL);
  for (int i = 0; i < OPENERS; i++) unlink(fifos[i]);
  say("all have, removed %d", rmdir(dir));
}

/* The same while they last: what can go on does. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int turn;
static void *takes_turns(void *arg) {
  int self = (int)(intptr_t)arg;
  gate_pass(&gate);
  for (int i = 0; i < 200; i++) {
    pthread_mutex_lock(&lock);
    while (turn % OPENERS != self) pthread_cond_wait(&cond, &lock);
    turn++;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&lock);
    if (i % 20 == self) nap(1);
  }
  return arg;
}
static void none_is_needed(void) {
  pthread_t t[OPENERS];
  be_a_user();
  for (intptr_t i = 0; i < OPENERS; i++) t[i] = start(takes_turns, (void *)i);
  gate_await(&gate, OPENERS);
  allow_threads(false);
  gate_open(&gate);
  for (int i = 0; i < OPENERS; i++) pthread_join(t[i], NULL);
  say("turns %d", turn);
}

/* --- the first --- */

static void *echo(void *arg) { return arg; }
static void first_refused(void) {
  pthread_t t;
  be_a_user();
  allow_threads(false);
  for (int i = 0; i < 3; i++) SAY_ERR("refused", pthread_create(&t, NULL, echo, NULL));
  allow_threads(true);
  for (intptr_t i = 0; i < 20; i++) MUST(join_value(start(echo, (void *)i)) == i);
  say("then made");
}

/* It leaves by a raw exit: the process has its status, when the others have ended. */
static void at_exit(void) { say("at exit"); }
static void *lasts(void *arg) {
  if (arg) nap(60);
  say("lasts");
  return arg;
}
static void *leaves_raw(void *arg) {
  nap(30);
  say("leaves");
  syscall(SYS_exit, 9);
  return arg;
}
static void say_first_leaves(int others, void *(*fn)(void *)) {
  pid_t p = fork();
  if (p == 0) {
    atexit(at_exit);
    for (int i = 0; i < others; i++) pthread_detach(start(fn, &gate));
    syscall(SYS_exit, 5);
  }
  say_wait("first of several", p);
}
static void first_leaves(void) {
  say_first_leaves(0, lasts);
  say_first_leaves(1, lasts);
  say_first_leaves(4, lasts);
  say_first_leaves(1, leaves_raw);
  say_first_leaves(3, leaves_raw);
  in_thread(lasts, NULL);
  say_first_leaves(2, lasts);
}
static void leaves_itself(void) {
  atexit(at_exit);
  pthread_detach(start(lasts, &gate));
  syscall(SYS_exit, 300 + 6);
}

const struct check limit_checks[] = {CHECK(none_to_be_had), CHECK(none_is_needed), CHECK(first_refused),
                                     CHECK(first_leaves),   CHECK(leaves_itself),  CHECKS_END};
