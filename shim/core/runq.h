/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_RUNQ_H
#define RATION_CORE_RUNQ_H
/*
 * The local run queue of a P: one owner, many thieves, no lock.  How it works and why is in runq.c.
 *
 * The owner is whoever holds the P.  A P that changes hands does so under a lock, which is what
 * orders the old owner's work on the queue before the new one's.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RUNQ_SIZE 256u                      /* power of two */
#define RUNQ_OVERFLOW (RUNQ_SIZE / 2u + 1u) /* Gs that leave a full queue at once: half of it and the new one */

struct g;
struct runq {
  _Alignas(64) _Atomic uint32_t head; /* owner and thieves, by CAS */
  _Atomic uint32_t tail;              /* owner alone */
  _Atomic(struct g *) runnext;        /* the G that runs next, before the ring; owner sets, anyone may clear by CAS */
  _Atomic(struct g *) ring[RUNQ_SIZE];
};

/* What a thief that finds the ring empty may do about runnext. */
enum runq_next {
  RUNQ_NEXT_LEAVE = 0, /* leave it to the owner */
  RUNQ_NEXT_TAKE = 1,  /* take it: the owner runs nothing */
  RUNQ_NEXT_WAIT = 2,  /* the owner runs a G, which has probably just readied this one and is about to park:
                          take it only if it is still there a few microseconds later */
};

void runq_init(struct runq *rq);

/*
 * Owner: puts g at the tail; with `next` into runnext, whose old G goes to the tail.  Returns true if all fit.
 * A full ring gives up its older half and the G that did not fit: they are in overflow[0 .. *noverflow), in
 * order, the result is false, and the caller puts them into the global queue.  *noverflow is 0 otherwise.
 */
bool runq_put(struct runq *rq, struct g *g, bool next, struct g *overflow[RUNQ_OVERFLOW], unsigned *noverflow);

/* Owner: puts as many of gs[0 .. n) at the tail as fit, in order, and returns how many. */
unsigned runq_put_batch(struct runq *rq, struct g *const *gs, unsigned n);

/* Owner: takes runnext, else the G at the head; null if there is none.  *inherit_time says that it was
 * runnext, which goes on with the time slice of the G that readied it. */
struct g *runq_get(struct runq *rq, bool *inherit_time);

/* Owner of `self`: moves half of victim's ring (rounded up, as far as it fits) into self, and returns the newest
 * of them to be run at once; null if there was nothing.  self and victim differ. */
struct g *runq_steal(struct runq *self, struct runq *victim, enum runq_next next);

/* Owner: takes up to max Gs out, runnext first, then in order; returns how many. */
unsigned runq_drain(struct runq *rq, struct g **out, unsigned max);

/* Anyone.  A snapshot; exact for the owner while no thief is about. */
unsigned runq_len(const struct runq *rq);

/* Anyone.  Never true while a G was in the queue all the time, also not while it moves from runnext to the ring. */
bool runq_empty(const struct runq *rq);

#endif
