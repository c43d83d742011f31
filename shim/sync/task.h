/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_SYNC_TASK_H
#define RATION_SYNC_TASK_H
/*
 * A G of shim/sync's that runs a function of the program's and has something to do after it (Go's defer), also when the function calls
 * ration_exit.
 */
#include <stdbool.h>

struct g;

struct task {
  void (*body)(struct task *t);
  void (*end)(struct task *t, bool exited); /* once, in that G.  exited: body called ration_exit.  May free t */
};
/* 0, or as ration_go; then nothing of t was called. */
int task_go(struct task *t);

/* In t's `end`, exited: what follows may exit as well, and then `end` is called once more.  Null: not any more. */
void task_exits_again(struct task *t);

/* For ration_exit: in the G that ends, while it still may block.  Nothing, unless it is one of task_go's. */
void sync_g_exits(struct g *g);

#endif
