/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_CPUCLOCK_H
#define RATION_CORE_CPUCLOCK_H
/* The CPU time of thread Gs.  cpuclock.c tells how. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct carrier;
struct g;
struct pq;

/* Of a carrier.  Written by who has made seq odd: itself, or who turns the clocks on. */
struct cpuclock {
  _Atomic uint32_t seq;
  _Atomic uint32_t begun;   /* what follows is known */
  _Atomic(struct g *) g;    /* the thread G that it runs; null: none */
  _Atomic uint64_t wall;    /* CLOCK_MONOTONIC ns when that came, or was last read; 0: long ago */
  _Atomic uint64_t cpu;     /* the thread's own clock when that was last asked */
  _Atomic uint64_t by_wall; /* ns that Gs were charged since then without asking it */
  uint32_t tid;
  uint32_t calls;     /* [own] syscalls of the carrier when g came */
  bool alone_known;   /* [own] while it is alone: */
  bool alone_bpf;     /* [own] cpu_from_bpf of its M */
  uint64_t alone_cpu; /* [own] cpu_last of its M when its G went alone */
};

/* 1: some G's clock was asked for.  Read where carriers switch: relaxed; turned on once, with a barrier. */
extern _Atomic uint32_t cpuclock_on;
void cpuclock_turn_on(void);

/* What g, a thread G that lives, has used since its birth; own: it is the caller.  Ns. */
uint64_t cpuclock_read(struct g *g, bool own);
/* So much is the clock of g's thread, which g has for good, ahead of g's own. */
int64_t cpuclock_ahead(const struct g *g);

/* --- the scheduler's, which holds c --- */

void cpuclock_carrier_born(struct carrier *c);
void cpuclock_g_born(struct g *g);
/* c goes from one G to another; null, or a light G: no thread G. */
void cpuclock_switch(struct carrier *c, struct g *from, struct g *to);
/* g goes on alone, after so many ns or more on pq; and no longer does.  Its M was charged just now. */
void cpuclock_alone(struct carrier *c, struct g *g, const struct pq *pq, uint64_t used);
void cpuclock_alone_over(struct carrier *c, struct g *g);
/* c->g gets c's thread for good; gives it back; ends with it. */
void cpuclock_lent(struct carrier *c);
void cpuclock_returned(struct carrier *c, struct g *g);
void cpuclock_gone(struct carrier *c, struct g *g);
/* c, without a G, leaves its thread: the record is another's next, whose clock is another. */
void cpuclock_thread_ends(struct carrier *c);

#endif
