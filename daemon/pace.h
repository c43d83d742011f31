/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_PACE_H
#define RATION_DAEMON_PACE_H
/*
 * How often a process may say HELLO: an answer that took the daemon t of CPU time is followed by PACE_FACTOR times t in which that process
 * gets none, over whichever connection it asks.  For most that is a millisecond or two, and nobody notices: a program that
 * attaches, forks and execs waits so long at most.  To attach a process of thousands of threads is a walk through them all; one that asks for nothing else
 * gets a small part of the daemon's time.
 */
#include <stdint.h>
#include <sys/types.h>

#define PACE_FACTOR 8u

struct pace;

/* When its next HELLO may be answered: a time that no other one of this process gets. */
uint64_t pace_when(struct pace **all, pid_t pid, uint64_t now);
/* An answer took so long. */
void pace_charge(struct pace **all, pid_t pid, uint64_t cost_ns, uint64_t now);
void pace_free(struct pace **all);

#endif
