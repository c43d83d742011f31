/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef RATION_BPF_WATCH_SHARED_H
#define RATION_BPF_WATCH_SHARED_H
/*
 * What watch.bpf.c and daemon/watch.c tell each other; no process sees any of it.
 */
#ifndef __bpf__
#include <stdint.h>
#endif

#define WATCH_PROCS_MAX 16384 /* processes attached at a time */

/* Task storage of each thread of an attached process. */
struct watch_task {
  uint64_t proc;        /* key in m_maps and rings; never used again */
  uint64_t in_at;       /* CLOCK_MONOTONIC ns of the last switch in; 0: not seen */
  uint64_t quiet_until; /* jiffies: its process need not be asked before whether it is quiet */
  uint32_t nslots;      /* of the process's M map, a power of two */
  uint32_t elem;        /* element of its M slot when last found; 0: none */
  uint32_t tid;         /* as the process sees it; 0: not asked yet */
  uint32_t pad;
};

/* The daemon's order to the iterator `adopt`. */
struct watch_adopt {
  struct watch_task task;
  uint32_t release; /* let go of task.proc instead */
  uint32_t uid;     /* the threads' effective one; 0: any */
  uint32_t seen;
  uint32_t adopted;
  uint32_t refused; /* another user's */
  uint32_t pad;
};

#endif
