/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_FREE_KILL_H
#define RATION_FREE_KILL_H
/* Signals to thread Gs: kill.c tells how. */
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "core/lock.h"
#include "free/remind.h"

/* Those that the kernel sends to the thread that makes a call: carriers leave them open. */
#define KILL_OWN ((uint64_t)1 << (SIGPIPE - 1) | (uint64_t)1 << (SIGXFSZ - 1))

struct g;
struct m;
struct thread;
struct pending;

/* A thread G's. */
struct kill {
  struct g *g;
  struct lock lock;
  /* [lock] */
  struct m *m;                   /* it has this M's thread of the kernel's; null: none */
  bool over;                     /* it ends: whatever comes is dropped */
  uint64_t set;                  /* what is pending */
  struct pending *first, **last; /* in the order that it came */
  _Atomic bool open;             /* [own to write] its function runs, or its destructors: handlers may */
  struct reminder reminder;      /* that there is a notice */
};

/* Once. */
void kill_init(void);
/* A life begins; nobody else knows of it yet. */
void kill_born(struct kill *k, struct g *g);
/* The calling thread G, on its own stack: from now on its handlers may run. */
void kill_opens(struct kill *k);
/* The calling one's ends. */
void kill_over(struct kill *k);
/* 0 or an errno.  sig: 1 to 64; si: what its handler is to be told. */
int kill_send(struct kill *k, int sig, const siginfo_t *si);
/* The caller has got m's thread, all signals blocked: what was pending becomes so for the kernel. */
void kill_wired(struct kill *k, struct m *m);
/* It is a G, and has no notice yet. */
bool kill_may_ask(struct kill *k);
/* Its wait ends, if it is in one: it sees to its cancellation (cancel_if_due). */
void kill_stop(struct kill *k);
/* k's G is to get a thread of the kernel's: for a signal to the process that it has open, and no thread; for an affinity.  False: it has one, or has ended. */
bool kill_ask(struct kill *k);
/* The program ignores this signal. */
bool kill_ignores(int sig);
/* A set of signals in a status file of /proc; field: with the newline before it.  unknown: it can't be had. */
uint64_t kill_status(const char *path, const char *field, uint64_t unknown);
/* What the kernel has pending for the calling thread alone is dropped: it is somebody else's.  All signals are blocked. */
void kill_drop_private(void);
/* The child of a fork; k: the caller's, or null. */
void kill_fork_child(struct kill *k);

#endif
