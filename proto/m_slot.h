/* SPDX-License-Identifier: Apache-2.0 OR (GPL-2.0-only OR BSD-2-Clause) */
#ifndef RATION_PROTO_M_SLOT_H
#define RATION_PROTO_M_SLOT_H
/*
 * The M map: one mmapable BPF array per process, through which the process
 * and the BPF programs tell each other about its Ms.  Shared by BPF, daemon and
 * shim; fixed-width fields only, no atomics types (BPF reads it too): each side
 * uses its own atomic accessors.
 *
 * The array has 64-byte elements (all of the structs below are one element):
 *
 *   element 0                     struct m_header
 *   elements 1 .. nslots          struct m_slot, M slot i is element i + 1
 *   elements nslots+1 ..          struct m_tids, the table tid -> M slot:
 *                                 nslots * 2 entries of 8 bytes, 8 to an element
 *
 * so an array for n slots has M_MAP_ELEMS(n) elements.  n is a power of two.
 *
 * A thread becomes an M by writing (tid, slot) into the table, open addressing
 * with linear probing, at most M_TIDS_PROBE entries from M_TIDS_HASH(tid).  BPF
 * gives each thread of an attached process task storage when it is born and
 * finds its slot in the table at its first context switch (a thread can only ever
 * be found in its own process's map, so a wrong entry harms nobody else).  The
 * tid is the one that the process itself sees (its own pid namespace).
 * REGISTER_M, with a thread pidfd, does the same by message for clients that
 * prefer it, and for threads that were there before the process attached.
 *
 * Retake against return.  `state` is written by the M alone, `taken` by
 * whoever holds the process's scheduler lock, `blocked_at` by BPF alone.
 *
 *   M returns from the kernel:   state = M_RUN;  then read taken
 *   retaker (lock held):         taken = 1;  fence;  then read blocked_at / state
 *
 * If the retaker still sees the M switched out (blocked_at unchanged and not
 * 0), the context switch that brings the M back is the barrier that lets it
 * see `taken`.  Without BPF the retaker calls membarrier(PRIVATE_EXPEDITED)
 * between the two and looks at `state`.  In both cases a retaker that finds
 * the M back undoes `taken`; the M that saw it meanwhile waits for the lock and
 * finds that it still has its P.  Model: tests/model/retake.pml.
 */
#ifndef __bpf__
#include <stdint.h>
#else
#include "kernel_types.h"
#endif

#define M_ELEM_SIZE 64
#define M_SLOTS_MIN 64
#define M_SLOTS_MAX 8192
#define M_SLOTS_DEFAULT 512
#define M_TIDS_PROBE 16
#define M_TIDS_PER_ELEM 8
#define M_MAP_ELEMS(n) (1 + (n) + (n)*2 / M_TIDS_PER_ELEM)
#define M_TIDS_HASH(tid, n) (((uint32_t)(tid)*2654435761u >> 7) & ((n)*2 - 1))

/* m_slot.state, written by the M */
enum m_state {
  M_FREE = 0,    /* nobody's slot */
  M_IDLE = 1,    /* holds no P and runs nothing: parked, or giving up its P by itself; BPF looks away */
  M_RUN = 2,     /* runs the program's code; needs a P */
  M_SYSCALL = 3, /* in a wrapper around a call that may block */
  M_OPEN = 4,    /* runs without a P by permission (gate open, scheduler code, exiting) */
};

/* m_slot.urg: a SIGURG that is ours is on its way */
#define M_URG_BPF 1u /* set by BPF just before bpf_send_signal_thread, cleared by the handler */

/* What ours is in a process that has SIGURG for itself: glibc's own for cancellation, which no program blocks or waits for. */
#define M_SIGNAL_HIDDEN 32

/*
 * m_header.caps.  0 until the kernel knows the map, which it does some ms after the process
 * attached: until then, poll.  TICK, IPI, NEXT and ALARM say by which ways a thread that must
 * stop is found, besides its next switch out of user mode.
 */
#define M_CAP_TICK 1u    /* the timer tick of its CPU */
#define M_CAP_IPI 2u     /* at once, when a thread of the process calls membarrier(PRIVATE_EXPEDITED) after setting `preempt` or `taken` */
#define M_CAP_NEXT 8u    /* when it is given a CPU (Linux >= 6.13) */
#define M_CAP_ALARM 16u  /* by `alarm`, at any interrupt of a timer of its CPU; else only when it is switched */
#define M_CAP_LIVE 4u    /* switches are watched: blocked_at, cpu_ns and events are right */
#define M_CAP_HIDDEN 32u /* BPF knows `hidden` */

struct m_header {
  uint32_t nslots;  /* power of two; written by the daemon, BPF bounds it by what it knows */
  uint32_t waiting; /* shim: a G waits for a P; a block of an M that holds a P is worth an event */
  uint32_t gated;   /* shim: P accounting is on, and ours is SIGURG; BPF sends none when 0 */
  uint32_t caps;    /* M_CAP_*; written by the daemon */
  uint64_t events;  /* BPF: events written to the ring */
  uint64_t lost;    /* BPF: events that did not fit */
  uint64_t signals; /* BPF: SIGURGs sent */
  uint32_t gs;      /* shim: light Gs are queued; a block of a carrier is worth an event */
  uint32_t
      quiet; /* shim: nobody asks what BPF knows of the Ms, so it looks away.  Before this ends, the shim makes the slots as new: what BPF left there is old. */
  uint32_t hidden; /* shim: P accounting is on, and ours is M_SIGNAL_HIDDEN */
  uint32_t pad[3];
};

struct m_slot {
  /* written by the shim */
  uint32_t state;   /* enum m_state */
  uint32_t taken;   /* its P was retaken; 1 until the M has noticed */
  uint32_t has_p;   /* it was given a P and has not given it back (taken may say otherwise) */
  uint32_t preempt; /* asks BPF for a SIGURG at the next moment in user mode; BPF sets it when the alarm rings */
  uint32_t tid;
  /* written by BPF */
  uint32_t urg;        /* M_URG_* */
  uint64_t blocked_at; /* CLOCK_MONOTONIC ns when it was switched out blocked; 0: not blocked */
  uint64_t oncpu_at;   /* ns when it was switched in; 0: off CPU */
  uint64_t cpu_ns;     /* CPU time of its finished stints */
  uint64_t seq;        /* +1 at every switch in and out: odd while on CPU (as far as known) */
  uint32_t carrier;    /* shim: it runs light Gs */
  uint32_t alarm; /* shim: from then on it is to be told as by `preempt`: µs of CLOCK_MONOTONIC, the low 32 bits, never 0; 0: no alarm */
};
#define M_ALARM_RINGS(alarm, now_ns) ((uint32_t)((now_ns) / 1000) - (alarm) < (uint32_t)1 << 31)

struct m_tids_entry {
  uint32_t tid; /* 0: empty, M_TID_GONE: deleted */
  uint32_t slot;
};
#define M_TID_GONE 0xffffffffu

struct m_tids {
  struct m_tids_entry e[M_TIDS_PER_ELEM];
};

/* What the ring buffer carries. */
enum m_event_type {
  M_EV_BLOCKED = 1, /* an M that holds a P was switched out blocked while a G waits for it */
  M_EV_STRAY = 2,   /* an M that must stop was given a CPU, and could not be signalled: membarrier reaches it (M_CAP_IPI) */
};

struct m_event {
  uint32_t type;
  uint32_t slot;
  uint64_t at; /* CLOCK_MONOTONIC ns */
};

#ifndef __bpf__
_Static_assert(sizeof(struct m_header) == M_ELEM_SIZE, "one element");
_Static_assert(sizeof(struct m_slot) == M_ELEM_SIZE, "one element");
_Static_assert(sizeof(struct m_tids) == M_ELEM_SIZE, "one element");
#endif
#endif
