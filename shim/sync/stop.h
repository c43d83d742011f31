/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_SYNC_STOP_H
#define RATION_SYNC_STOP_H
/*
 * Waits that others end because there is something for the G that waits: a signal (free/kill.c), or that it is cancelled wherever it is (free/cancel.c).
 *
 *   the G    stop_arm: g->stop = s; then g->notice       stop_call   g->notice |= what; then g->stop
 *
 * Both in one total order (seq_cst): either the G sees the notice and does not wait, or who gave it sees the wait and ends it.  While somebody ends it, stop is marked
 * CLAIMED; stop_disarm and stop_leave wait for the end of that, so s and what it leads to may be on the G's stack.  g->waits is s all the while, for handlers on its thread.
 */
#include <stdbool.h>
#include "core/g.h"

/* g->notice */
enum { NOTICE_SIGNAL = 1, NOTICE_CANCEL = 2 };

struct stop {
  void (*fn)(struct stop *s); /* ends the wait, also before it has begun, or if it is over */
  /* Null: as fn.  The same, by a handler on the thread that waits, which may leave by siglongjmp: nobody knows of the wait's stack any more after it */
  void (*leave)(struct stop *s);
};

/* In this process waits are armed. */
extern bool stop_used;

/* The calling G is about to wait.  False: there is a notice; it is armed all the same. */
bool stop_arm(struct g *g, struct stop *s);
/* It does not wait any more. */
void stop_disarm(struct g *g, struct stop *s);
/* Ends g's wait, if it is in one.  After a notice was given. */
void stop_call(struct g *g);
/* In a handler that has interrupted it, on its thread. */
void stop_leave(struct g *g);
/* The calling G, which is in no queue: sees to its notice, if there is one (shim/free's free_notice). */
void stop_notice(void);
/* One that waits still: only to the signals.  To be cancelled is to leave the wait's stack, which others know of. */
void stop_signals(void);

#endif
