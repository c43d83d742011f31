/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_PACE_H
#define RATION_DAEMON_PACE_H
/*
 * How often a process may say HELLO: for an answer that took the daemon t of CPU time it owes PACE_FACTOR times t of rest, over whichever
 * connections it asks.  Rest of PACE_FREE_NS it may owe and be answered nevertheless: that is some forty of the usual answers in a row, so a program that
 * attaches, forks and execs notices nothing.  But to attach a process of thousands of threads is a walk through them all; one that asks for
 * nothing else gets a small part of the daemon's time.
 */
#include <stdint.h>
#include <sys/types.h>

#define PACE_FACTOR 8u
#define PACE_FREE_NS 50000000u

struct pace;

/* When a HELLO that has come may be answered: those that wait already come first, at what one seems to cost. */
uint64_t pace_when(struct pace **all, pid_t pid, uint64_t now);
/* That time has come.  May it be answered now, or, since those before were dearer than they seemed, when? */
uint64_t pace_turn(struct pace **all, pid_t pid, uint64_t now);
/* An answer took so long. */
void pace_charge(struct pace **all, pid_t pid, uint64_t cost_ns, uint64_t now);
void pace_free(struct pace **all);

#endif
