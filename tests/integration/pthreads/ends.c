/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: ends in the middle of something, and what is left of a thread after it. */
#include <sched.h>
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

const struct check ends_checks[] = {
    CHECK(detached_while_joined),
    CHECK(detached_by_another_while_joined),
    CHECKS_END,
};
