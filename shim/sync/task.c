/* SPDX-License-Identifier: Apache-2.0 */
/* A G knows what it runs (fn, arg): that is how one that exits is known to be ours, with no field in it for that. */
#include "sync/task.h"
#include "core/light.h"
#include "ration/g.h"

static void task_main(void *arg) {
  struct task *t = arg;
  t->body(t);
  t->end(t, false);
}

int task_go(struct task *t) { return ration_go(task_main, t); }

void task_exits_again(struct task *t) { g_self()->arg = t; }

void sync_g_exits(struct g *g) {
  if (g->fn != task_main || !g->arg) return;
  struct task *t = g->arg;
  g->arg = NULL;
  t->end(t, true);
}
