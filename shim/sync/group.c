/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x/sync's errgroup: a wait group, a semaphore for the limit, and the first error.
 *
 *   go     acquire 1 of the limit; count; new G:  fn;  error, and the first? keep it, end the context;  release 1;  count down (the last touch)
 *   wait   until the count is 0; end the context; the error
 */
#include "ration/group.h"
#include <errno.h>
#include <stdlib.h>
#include "ration/sync.h"
#include "sync/lot.h"
#include "sync/task.h"

struct ration_group {
  struct ration_context *ctx;
  struct ration_waitgroup running;
  struct ration_sema limit;
  bool limited;
  _Atomic int err; /* the first; the wait group orders it for wait */
};

struct member {
  struct task task;
  struct ration_group *grp;
  ration_group_fn *fn;
  void *arg;
};

struct ration_group *ration_group_new(struct ration_context *parent) {
  struct ration_group *grp = calloc(1, sizeof *grp);
  if (!grp) return NULL;
  grp->ctx = ration_context_with_cancel(parent);
  if (!grp->ctx) {
    free(grp);
    return NULL;
  }
  return grp;
}

struct ration_context *ration_group_context(struct ration_group *grp) {
  return grp->ctx;
}

static void member_body(struct task *t) {
  struct member *m = (struct member *)t;
  int err = m->fn(m->arg), none = 0;
  if (err && atomic_compare_exchange_strong_explicit(&m->grp->err, &none, err, memory_order_relaxed, memory_order_relaxed))
    ration_context_cancel_cause(m->grp->ctx, err);
}

static void member_end(struct task *t, bool exited) {
  (void)exited;
  struct ration_group *grp = ((struct member *)t)->grp;
  free(t);
  if (grp->limited) ration_sema_release(&grp->limit, 1);
  ration_waitgroup_done(&grp->running);
}

static int start(struct ration_group *grp, ration_group_fn *fn, void *arg) {
  struct member *m = malloc(sizeof *m);
  ration_waitgroup_add(&grp->running, 1);
  if (!m) {
    if (grp->limited) ration_sema_release(&grp->limit, 1);
    ration_waitgroup_done(&grp->running);
    return -ENOMEM;
  }
  *m = (struct member){{member_body, member_end}, grp, fn, arg};
  int r = task_go(&m->task);
  if (r) member_end(&m->task, false);
  return r;
}

int ration_group_go(struct ration_group *grp, ration_group_fn *fn, void *arg) {
  if (!fn) g_fatal("go of nil func value");
  if (grp->limited && ration_sema_acquire(&grp->limit, 1)) return -EBUSY;
  return start(grp, fn, arg);
}

int ration_group_try_go(struct ration_group *grp, ration_group_fn *fn, void *arg) {
  if (!fn) g_fatal("go of nil func value");
  if (grp->limited && ration_sema_tryacquire(&grp->limit, 1)) return -EBUSY;
  return start(grp, fn, arg);
}

int ration_group_set_limit(struct ration_group *grp, int n) {
  if (atomic_load_explicit(WORD(&grp->running), memory_order_relaxed)) return -EBUSY;
  grp->limited = n >= 0;
  return grp->limited ? ration_sema_init(&grp->limit, n) : 0;
}

int ration_group_wait(struct ration_group *grp) {
  ration_waitgroup_wait(&grp->running);
  int err = atomic_load_explicit(&grp->err, memory_order_relaxed);
  ration_context_cancel_cause(grp->ctx, err);
  return err;
}

void ration_group_free(struct ration_group *grp) {
  if (!grp) return;
  ration_waitgroup_wait(&grp->running);
  ration_context_unref(grp->ctx);
  free(grp);
}
