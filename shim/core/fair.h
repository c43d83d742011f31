/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RATION_CORE_FAIR_H
#define RATION_CORE_FAIR_H
/*
 * Who is a newcomer and who is a hog.
 *
 * Go's order is first in, first out: right for goroutines that cooperate, and
 * 230 ms of p99 for a short request among eight busy threads (DESIGN, Facts 7).
 * The kernel's order, EEVDF, needs a virtual time that all share; ours must
 * compare Gs of different processes which share nothing but a page.  So each G carries how
 * much CPU time it used lately, an average that halves every FAIR_HALFLIFE_NS:
 * an absolute measure.  A G that runs all the time settles at
 * FAIR_HALFLIFE_NS / ln 2 = FAIR_FULL_NS; one with a fair share, at that times the CPUs divided by the Gs
 * that want them.
 *
 *   newcomer (express)  usage < the fair share, or less than FAIR_SMALL_NS
 *   hog (regular)       all others
 *
 * Newcomers go first, may take an express slot or preempt a hog, and may run while
 * the bucket is in debt.  Credit for sleeping is bounded by construction: usage is
 * never below 0.  Inside a class the order is Go's.  A newcomer that goes on running
 * becomes a hog when its usage is a quarter above the share (fair_hog): the gap between the two bounds
 * keeps a G from changing class at every turn.
 */
#include <stdbool.h>
#include <stdint.h>
#include "core/g.h"

#define FAIR_HALFLIFE_NS 64000000u
#define FAIR_FULL_NS 92332482u /* FAIR_HALFLIFE_NS / ln 2 */
#define FAIR_SMALL_NS 4000000u /* of 4 % of a CPU nobody is a hog, however many threads there are */
#define FAIR_BIRTH_NS 1000000u /* a new thread that runs so long without blocking is a hog: it has slept for no credit */

/* Usage as of `now`. */
uint64_t fair_usage(const struct fair *f, uint64_t now);
/* Adds `cpu` ns used until `now`. */
void fair_charge(struct fair *f, uint64_t now, uint64_t cpu);
/* The usage of a G that has just its share: `rate` CPUs in millionths among `nactive` Gs. */
uint64_t fair_share(uint32_t rate, uint32_t nactive);
static inline bool fair_express(uint64_t usage, uint64_t share) { return usage < FAIR_SMALL_NS || usage < share; }
static inline uint64_t fair_hog_bound(uint64_t share) { return (share > FAIR_SMALL_NS ? share : FAIR_SMALL_NS) * 5 / 4; }
static inline bool fair_hog(uint64_t usage, uint64_t share) { return usage > fair_hog_bound(share); }

#endif
