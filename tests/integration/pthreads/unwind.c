/* SPDX-License-Identifier: Apache-2.0 */
/* The ends of threads as a C++ program sees them: this file alone is compiled with -fexceptions, so frames are unwound. */
#include <semaphore.h>
#include <stdatomic.h>
#include "checks.h"

static void say_left(const char **name) { say("left %s", *name); }
#define FRAME(var, text) __attribute__((cleanup(say_left), unused)) const char *var = text
static void say_clean(void *arg) { say("clean %s", (char *)arg); }

static int fds[2];
static _Atomic int reached;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t sem;

enum way { RETURN, EXIT, CANCELLED, READ, COND, SEM, NAP, JOIN, SPIN, WAYS };

static void *forever(void *arg) {
  for (;;) pause();
  return arg;
}

static void unlock(pthread_mutex_t **m) { pthread_mutex_unlock(*m); }

static __attribute__((noinline)) void end_by(enum way way) {
  FRAME(a, "the innermost frame");
  char c;
  reached = 1;
  if (way == EXIT) pthread_exit((void *)2);
  if (way == CANCELLED) pthread_cancel(pthread_self());
  if (way == READ) (void)!read(fds[0], &c, 1);
  if (way == COND) {
    __attribute__((cleanup(unlock), unused)) pthread_mutex_t *held = &lock;
    pthread_mutex_lock(&lock);
    for (;;) pthread_cond_wait(&cond, &lock);
  }
  if (way == SEM) sem_wait(&sem);
  if (way == NAP) nap(100000);
  if (way == JOIN) pthread_join(start(forever, NULL), NULL);
  if (way == SPIN) {
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    for (volatile unsigned long n = 0;; n++) {
    }
  }
  pthread_testcancel();
}

static __attribute__((noinline)) int descend(int depth, enum way way) {
  FRAME(a, depth % 2 ? "an odd frame" : "an even frame");
  if (depth == 0) {
    pthread_cleanup_push(say_clean, "pushed");
    end_by(way);
    pthread_cleanup_pop(0);
    return 0;
  }
  return 1 + descend(depth - 1, way);
}

static void *run_way(void *arg) {
  FRAME(a, "the outermost frame");
  descend(3, (enum way)(intptr_t)arg);
  return (void *)1;
}

static void frames(void) {
  MUST(pipe(fds) == 0);
  sem_init(&sem, 0, 0);
  for (intptr_t way = RETURN; way < WAYS; way++) {
    say("way %ld", (long)way);
    reached = 0;
    pthread_t t = start(run_way, (void *)way);
    if (way > CANCELLED) {
      UNTIL(reached == 1);
      nap(15);
      pthread_cancel(t);
    }
    say("value %ld", (long)join_value(t));
  }
  SAY_ERR("mutex", pthread_mutex_trylock(&lock));
}

const struct check unwind_checks[] = {
    CHECK(frames),
    CHECKS_END,
};
