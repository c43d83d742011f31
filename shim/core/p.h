/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_P_H
#define RATION_CORE_P_H
/*
 * P: the right to run on one CPU.  P i of a process stands for slot i of the pool
 * page; it exists here while the process leases that slot.
 *
 *   NONE --lease_acquire or handed over by another process--> IDLE --grant--> RUNNING
 *   RUNNING --retake, preempt, pace, exit--> IDLE --(another G)--> RUNNING
 *   IDLE --lease_release--> NONE
 *
 * IDLE lasts only inside one hold of sched.lock.
 */
#include <stdbool.h>
#include <stdint.h>
#include "core/runq.h"

enum p_status { P_NONE, P_IDLE, P_RUNNING };

struct m;
struct p {
  uint32_t id; /* = slot in the pool page */
  enum p_status status;
  bool express;
  bool shared; /* [lock; the owner of m reads] of a pool in which others may need it: not kept in a block */
  struct m *m;
  uint64_t leased_at;
  uint32_t alarm;    /* while no M has it: that of the last one, for the next, */
  bool armed;        /* and whether the timer is set to it */
  _Atomic int timer; /* alarm.c: 1 + its kernel timer; 0: none yet, -1: it got none */
  uint64_t slice_at; /* when the G that runs was put on it */
  uint32_t tick;     /* Gs dispatched, for the 61st */
  struct runq runq;
};

#endif
