/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_G_H
#define RATION_CORE_G_H
/*
 * G: a unit of execution.  One struct for all three kinds (DESIGN, "One
 * scheduler, three kinds of G"); here is what the scheduler itself needs of it.
 *
 *             grant                      M blocks, P retaken
 *   RUNNABLE ------> RUNNING -----------------------------> SYSCALL
 *      ^  ^            |  \                                    |
 *      |  '------------'   '--> WAITING (parked by g_park) -.  | M is back,
 *      |     preempted, paced, yielded                      |  | no P free
 *      '----------------------- g_ready --------------------'--'
 *
 * All changes happen under sched.lock.
 */
#include <stdbool.h>
#include <stdint.h>

enum g_kind { G_LIGHT, G_THREAD, G_WIRED };
enum g_status { G_DEAD, G_RUNNABLE, G_RUNNING, G_SYSCALL, G_WAITING };

/* Why a G waits; shown in dumps and by schedtrace. */
enum wait_reason {
  WAIT_NONE,
  WAIT_SYSCALL,
  WAIT_SLEEP,
  WAIT_MUTEX,
  WAIT_COND,
  WAIT_RWLOCK,
  WAIT_SEMA,
  WAIT_BARRIER,
  WAIT_JOIN,
  WAIT_POLL,
  WAIT_IO,
  WAIT_SIGNAL,
  WAIT_CHILD,
  WAIT_PREEMPTED,
  WAIT_PACED,
  WAIT_REASONS
};
const char *wait_reason_name(enum wait_reason why);

/* Lately used CPU time, halved every FAIR_HALFLIFE_NS (fair.c). */
struct fair {
  uint64_t usage; /* ns as of `at` */
  uint64_t at;
};

struct m;
struct g {
  struct g *next, *prev; /* in a gqueue, or the free list */
  uint64_t id;
  enum g_kind kind;
  enum g_status status;
  enum wait_reason why;
  bool express; /* queued as a newcomer */
  bool queued;  /* in a gqueue */
  bool stopped; /* its P was taken because it had enough: it comes back as a hog */
  bool front;   /* and its slice was not over then: it goes on before the others of its class */
  bool enough;  /* queued because it had enough, not because it came back from a block: it stays a hog while it waits */
  bool newborn; /* has not blocked yet: see FAIR_BIRTH_NS */
  struct fair fair;
  uint64_t slice_used; /* ns of its slice that it had before a pause */
  uint64_t since;      /* CLOCK_MONOTONIC ns of the last change of status */
  struct m *lockedm;   /* the M it is wired to */
};

#endif
