/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_PLACE_H
#define RATION_CORE_PLACE_H
/* Puts who is given a P on the CPU that its giver is about to leave.  place.c tells why and how. */
#include <stdbool.h>
#include <stdint.h>
#include "core/m.h"

/*
 * m, whose thread sleeps in the scheduler (place_asleep), is about to be woken by a caller that will sleep itself: it is allowed the caller's CPU only, if that can be.  Before the
 * store that lets it go on.  One caller at a time for an m, by whatever lock guards what m is given.
 */
void place_m(struct m *m);

/* By m's thread, before it sleeps in the scheduler where place_m may find it, */
void place_asleep(struct m *m);
/* and after: before it runs any code of the program's. */
void place_leave_slow(struct m *m);
static inline void place_awake(struct m *m) {
  if (__builtin_expect(__atomic_load_n(&m->placed, __ATOMIC_ACQUIRE) != 0, 0)) /* pairs with place_m */
    place_leave_slow(m);                                                       /* a handler that comes before it does that itself */
  else
    __atomic_store_n(&m->place_ok, 0, __ATOMIC_RELAXED);
}

/*
 * A handler of the program's runs on m's thread, that may sleep in the scheduler: it has all its CPUs.  Returns what place_handler_ends wants; one that is left by longjmp never
 * ends, and need not.
 */
uint32_t place_handler_slow(struct m *m);
static inline uint32_t place_handler_begins(struct m *m) {
  return m && __builtin_expect(__atomic_load_n(&m->place_ok, __ATOMIC_RELAXED), 0) ? place_handler_slow(m) : 0;
}
static inline void place_handler_ends(struct m *m, uint32_t was) {
  if (was) __atomic_store_n(&m->place_ok, was, __ATOMIC_RELAXED);
}

/* The program is about to set the CPUs of thread tid, another than the caller's: they are not touched any more. */
void place_sets(uint32_t tid);
/* The program has read them, and there is one.  True: that was ours, and is no more; they are to be read again. */
bool place_hides(uint32_t tid);

/* On a service thread, sched.lock held: which CPUs a thread has that nobody gave some of its own. */
void place_measure(uint64_t now);
/* For good: nobody is placed, nor needs a system call to be so no more. */
void place_stop(void);

#endif
