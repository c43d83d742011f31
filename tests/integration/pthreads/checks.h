/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_TESTS_PTHREADS_CHECKS_H
#define RATION_TESTS_PTHREADS_CHECKS_H
/*
 * The checks of pthreads.c, one table for each file.  A check prints no times, ids or addresses, only what must be the same every
 * time.  Lower bounds of times are fine, upper bounds are not; only the runner ends what hangs.
 */
#include <stdbool.h>
#include "../say.h"

struct check {
  const char *name; /* null: the end of the table */
  void (*run)(void);
};
#define CHECK(fn) \
  { #fn, fn }
#define CHECKS_END \
  { NULL, NULL }

extern const struct check life_checks[];
extern const struct check ends_checks[];
extern const struct check local_checks[];
extern const struct check mutex_checks[];
extern const struct check wait_checks[];
extern const struct check cancel_checks[];
extern const struct check unwind_checks[];
extern const struct check signal_checks[];
extern const struct check process_checks[];
extern const struct check c11_checks[];
extern const struct check stress_checks[];
extern const struct check tid_checks[];
extern const struct check socket_checks[];
extern const struct check argument_checks[];
extern const struct check sandbox_checks[];
extern const struct check number_checks[];
extern const struct check part_checks[];
extern const struct check closed_checks[];
extern const struct check limit_checks[];

extern const char *self_path;

/* Until it is so: for what another thread is about to do, and cannot tell. */
#define UNTIL(cond)                                 \
  do {                                              \
    for (int i_ = 0; !(cond); i_++) {               \
      if (i_ > 20000) {                             \
        say("line %d: never: %s", __LINE__, #cond); \
        _exit(98);                                  \
      }                                             \
      nap(1);                                       \
    }                                               \
  } while (0)

/* Where threads gather until they are let go. */
struct gate {
  pthread_mutex_t lock;
  pthread_cond_t opened, came;
  int arrived;
  bool open;
};
#define GATE_CLOSED \
  { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false }

static inline void gate_pass(struct gate *g) {
  pthread_mutex_lock(&g->lock);
  g->arrived++;
  pthread_cond_broadcast(&g->came);
  while (!g->open) pthread_cond_wait(&g->opened, &g->lock);
  pthread_mutex_unlock(&g->lock);
}

/* Until n have come to it. */
static inline void gate_await(struct gate *g, int n) {
  pthread_mutex_lock(&g->lock);
  while (g->arrived < n) pthread_cond_wait(&g->came, &g->lock);
  pthread_mutex_unlock(&g->lock);
}

static inline void gate_open(struct gate *g) {
  pthread_mutex_lock(&g->lock);
  g->open = true;
  pthread_cond_broadcast(&g->opened);
  pthread_mutex_unlock(&g->lock);
}

static inline intptr_t join_value(pthread_t t) {
  void *r = NULL;
  MUST(pthread_join(t, &r) == 0);
  return (intptr_t)r;
}

/* Runs fn in a thread of its own, to its end. */
static inline intptr_t in_thread(void *(*fn)(void *), void *arg) { return join_value(start(fn, arg)); }

static inline bool at_least_ms(int64_t since_ns, int ms) { return now_ns() - since_ns >= ms * 1000000LL; }

#endif
