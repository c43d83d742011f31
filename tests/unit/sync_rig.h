/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_TESTS_SYNC_RIG_H
#define RATION_TESTS_SYNC_RIG_H
/* For the tests of shim/sync: Gs and threads by the dozen, and waiting until something is so. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include "ration/context.h"
#include "ration/debug.h"
#include "ration/sync.h"
#include "fatal.h"
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

/* Waits until it is so, for 10 s at most; if it never is, says what each G is doing. */
#define EVENTUALLY(what)                                                 \
  do {                                                                   \
    ration_ns end_ = ration_now() + 10 * RATION_SECOND;                  \
    while (!(what) && ration_now() < end_) ration_sleep(50 * RATION_US); \
    bool so_ = (what);                                                   \
    if (!so_) ration_dump(2);                                            \
    ck_assert_msg(so_, "never: %s", #what);                              \
  } while (0)

#endif
