/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_DAEMON_METER_H
#define RATION_DAEMON_METER_H
/*
 * What strangers use.  A cgroup's own counter says how much CPU time was used in it; the pages say how
 * much of that their members charged.  The difference is what other processes of
 * the cgroup and the kernel's own work used, and has to come off the buckets too.
 *
 * Members charge after the fact, so at any moment some time is used and not
 * charged yet.  That is not the strangers'.  It comes and goes, while what strangers used only grows; so
 * the least difference of the last few samples is taken.  Everything is kept as
 * totals since a start, so nothing drifts: too much now comes back later.
 *
 * Pure: numbers in, numbers out.
 */
#include <stdbool.h>
#include <stdint.h>

#define METER_SAMPLES 5
/* Strangers get at most this part of what the quota yields... */
#define METER_STRANGERS_PPM 500000u
/* ...and no more than so much is put off for later. */
#define METER_BACKLOG_NS 100000000u

struct meter {
  bool started;
  uint64_t usage0, charged0; /* at the start */
  int64_t samples[METER_SAMPLES];
  uint32_t n;             /* samples taken */
  int64_t applied;        /* of the difference, what has been taken off */
  uint64_t at;            /* ns of the last sample */
  uint64_t stranger_rate; /* millionths of a CPU, smoothed, for display */
  int64_t last;           /* difference at the last sample, after the window */
  uint64_t usage;         /* of the last sample */
  uint64_t usage_rate;    /* of all, millionths of a CPU, smoothed */
};

/* Forgets everything; the next sample is the start. */
void meter_reset(struct meter *m);
/*
 * One sample: the cgroup's counter and the sum of all charges, in ns, at `now`.  Returns the CPU time
 * to take out of the buckets (put back if negative); `rate` is what they yield, in millionths.
 */
int64_t meter_sample(struct meter *m, uint64_t now, uint64_t usage, uint64_t charged, uint64_t rate);

#endif
